package client

import (
	"context"
	"time"
)

// Between two tries to reach a server that went away.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// patiently tries again while no server answers, where the client was configured to wait, until its context ends.
func (c *Client) patiently(ctx context.Context, try func() error) error {
	err := try()
	if c.away == nil || !Unreachable(err) {
		return err
	}
	c.wait(err)
	for pause := firstPause; Unreachable(err); pause = min(2*pause, lastPause) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			c.waited(false)
			return ctx.Err()
		}
		err = try()
	}
	c.waited(true)
	return err
}

// wait says that the server went away, unless another call has said so.
func (c *Client) wait(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting++; c.waiting == 1 {
		c.back = false
		c.away(err)
	}
}

// waited says that there is a server again, once nobody waits for one any more.
func (c *Client) waited(found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.back = c.back || found
	if c.waiting--; c.waiting == 0 && c.back {
		c.away(nil)
	}
}

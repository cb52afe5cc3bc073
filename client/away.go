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
	c.away(err)
	for pause := firstPause; Unreachable(err); pause = min(2*pause, lastPause) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		err = try()
	}
	c.away(nil)
	return err
}

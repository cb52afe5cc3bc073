package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"muster/api"
)

const (
	// maxGathered is how much of stdin is read ahead of what the session took, and how much one request has at most.
	maxGathered = 1 << 20
	// stdinPause is between two requests: what comes meanwhile goes with the next one, and a server takes no more than some number
	// of requests in a second.
	stdinPause = 2 * time.Millisecond
)

// Stdin writes r to the session's stdin as it comes, and closes stdin at its end. It returns when that is done, when
// the session does not read any more, or when ctx ends; a Read of r that is going on then is left behind, and what it
// reads is lost. A client that waits for the next server says there again what it does not know to have been written.
func (c *Client) Stdin(ctx context.Context, session string, r io.Reader) error {
	in := newGathered()
	stop := context.AfterFunc(ctx, func() { in.end(context.Cause(ctx)) })
	defer stop()
	defer in.end(io.ErrClosedPipe)
	go func() {
		_, err := io.Copy(in, r)
		in.end(err)
	}()
	for from := int64(0); ; {
		data, over, failed := in.take()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		at, err := c.writeStdin(ctx, session, from, data, over)
		if err != nil || at.Closed {
			return err
		}
		if over {
			return failed
		}
		from += int64(len(data))
		select {
		case <-time.After(stdinPause):
		case <-ctx.Done():
		}
	}
}

// writeStdin writes data, before which from bytes come. It may be repeated: the session has every byte once.
func (c *Client) writeStdin(ctx context.Context, session string, from int64, data []byte, last bool) (at api.Stdin, err error) {
	path := sessionPath(session, fmt.Sprintf("/stdin?from=%d&last=%t", from, last))
	err = c.patiently(ctx, func() error {
		resp, err := c.do(ctx, "POST", path, request{body: bytes.NewReader(data), bodyType: "application/octet-stream"})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		reply, err := io.ReadAll(resp.Body)
		if err != nil {
			return c.broken(ctx, err)
		}
		if err := json.Unmarshal(reply, &at); err != nil {
			return c.rubbish(reply)
		}
		return nil
	})
	return at, err
}

// gathered holds what was read and not taken yet.
type gathered struct {
	mu      sync.Mutex
	changed sync.Cond
	held    []byte
	over    bool
	err     error // why it is over; nil: its end
}

func newGathered() *gathered {
	g := &gathered{}
	g.changed.L = &g.mu
	return g
}

// Write waits while much is held.
func (g *gathered) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.held) > 0 && len(g.held)+len(b) > maxGathered && !g.over {
		g.changed.Wait()
	}
	if g.over {
		return 0, io.ErrClosedPipe
	}
	g.held = append(g.held, b...)
	g.changed.Broadcast()
	return len(b), nil
}

// end ends writing; only the first call counts.
func (g *gathered) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		g.over, g.err = true, err
	}
	g.changed.Broadcast()
}

// take waits for something, or for the end, and returns all that is held; nothing follows if over.
func (g *gathered) take() (data []byte, over bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.held) == 0 && !g.over {
		g.changed.Wait()
	}
	data, g.held = g.held, nil
	g.changed.Broadcast()
	return data, g.over, g.err
}

package fake

import (
	"context"
	"io"
	"sync"

	"muster/engine"
	"muster/internal/driver"
)

// pipeSize is what a pipe of the kernel's holds.
const pipeSize = 64 << 10

// stdin is what a program reads. It holds as much as a pipe.
type stdin struct {
	mu      sync.Mutex
	changed sync.Cond
	held    []byte
	written int64
	closed  bool // nothing more comes
	over    bool // nobody reads
}

func newStdin() *stdin {
	in := &stdin{}
	in.changed.L = &in.mu
	return in
}

func (in *stdin) Read(b []byte) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.held) == 0 && !in.closed && !in.over {
		in.changed.Wait()
	}
	if len(in.held) == 0 || in.over {
		return 0, io.EOF
	}
	n := copy(b, in.held)
	in.held = in.held[n:]
	in.changed.Broadcast()
	return n, nil
}

// Close ends reading.
func (in *stdin) Close() error {
	in.mu.Lock()
	in.over = true
	in.mu.Unlock()
	in.changed.Broadcast()
	return nil
}

func (in *stdin) write(ctx context.Context, from int64, data []byte, last bool) (driver.Stdin, error) {
	defer context.AfterFunc(ctx, func() {
		in.mu.Lock() // or it would come between the look and the wait
		defer in.mu.Unlock()
		in.changed.Broadcast()
	})()
	in.mu.Lock()
	defer in.mu.Unlock()
	if from > in.written {
		return driver.Stdin{}, engine.Errorf(engine.Conflict, "%d bytes of stdin are missing", from-in.written)
	}
	if from >= 0 {
		data = data[min(in.written-from, int64(len(data))):]
	}
	for len(data) > 0 && !in.closed && !in.over {
		if err := ctx.Err(); err != nil {
			return driver.Stdin{Written: in.written}, err
		}
		n := min(len(data), pipeSize-len(in.held))
		if n == 0 {
			in.changed.Wait()
			continue
		}
		in.held = append(in.held, data[:n]...)
		in.written += int64(n)
		data = data[n:]
		in.changed.Broadcast()
	}
	in.closed = in.closed || last
	in.changed.Broadcast()
	return driver.Stdin{Written: in.written, Closed: in.closed || in.over}, nil
}

// WriteStdin implements driver.Session.
func (s *session) WriteStdin(ctx context.Context, id engine.ID, from int64, data []byte, last bool) (driver.Stdin, error) {
	pr, err := s.p.alive(id)
	if err != nil {
		return driver.Stdin{}, err
	}
	if pr.in == nil {
		return driver.Stdin{}, engine.Errorf(engine.Conflict, "engine %s has no stdin", id)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	return pr.in.write(ctx, from, data, last)
}

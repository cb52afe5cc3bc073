package server

import (
	"context"
	"errors"
	"io"

	"muster/engine"
	"muster/internal/console"
)

// maxTail bounds what is remembered while the last lines are searched: places, not lines, which may be of any length.
const maxTail = 100_000

// lineStart is where a line begins: in the record after a position, behind some bytes.
type lineStart struct {
	at   console.Position
	skip int
}

// tail makes a stream begin with the last n lines. A log has no index of its lines, so it is read once from where the stream
// would begin, and again from there.
func (st *stream) tail(ctx context.Context, n int, from console.Position, open func(console.Position) (*console.Cursor, error)) error {
	if n > maxTail {
		return engine.Errorf(engine.Invalid, "tail is %d: at most %d lines are counted", n, maxTail).WithHint("leave it out for all of the output")
	}
	start, err := st.lastLines(ctx, n, from)
	if err != nil {
		return err
	}
	cursor, err := open(start.at)
	if err != nil {
		return err
	}
	st.cursor.Close()
	st.cursor, st.skip = cursor, start.skip
	return nil
}

// lastLines finds the beginning of the last n lines that the stream's cursor has, n above 0.
func (st *stream) lastLines(ctx context.Context, n int, from console.Position) (lineStart, error) {
	starts := make([]lineStart, 0, min(n, 64)) // a ring once it is full
	seen := 0
	begin := func(s lineStart) {
		if len(starts) < n {
			starts = append(starts, s)
		} else {
			starts[seen%n] = s
		}
		seen++
	}
	buf := make([]byte, console.HeaderSize+console.MaxPayload)
	fresh := true // the next byte begins a line
	for before := from; ; {
		if err := ctx.Err(); err != nil {
			return lineStart{}, err
		}
		r, after, err := st.cursor.Next(buf)
		if _, damaged := errors.AsType[*console.DamagedError](err); err == io.EOF || damaged { // the stream tells of that
			break
		}
		if err != nil {
			return lineStart{}, err
		}
		if st.wants(r.Stream) {
			for i, b := range r.Payload {
				if fresh {
					begin(lineStart{before, i})
				}
				fresh = b == '\n'
			}
		}
		before = after
	}
	switch {
	case seen == 0:
		return lineStart{at: from}, nil
	case seen <= n:
		return starts[0], nil
	}
	return starts[seen%n], nil
}

package console

import (
	"context"
	"io"
)

// Follow calls fn with every record from c on: it reads to the end and waits for the bell, again and again. When done
// is closed, which says that nothing will be appended any more, it reads to the end once more and returns nil. It
// returns early with fn's error, the cursor's, or that of ctx. The record is fn's until it returns. caughtUp (may be nil)
// is called whenever the end is reached, before waiting: the time to flush.
//
// What is said by the bell meanwhile comes between, with an empty Position: it is not in the log.
//
// A closed done and a nil bell read what there is and return.
func Follow(ctx context.Context, c *Cursor, bell *Bell, done <-chan struct{}, fn func(Record, Position) error, caughtUp func() error) error {
	buf := make([]byte, maxRecord)
	_, heard := bell.since(0)
	for last := false; ; {
		select {
		case <-done: // before reading: what was written before is read below
			last = true
		default:
		}
		rung := bell.Chan()
		if err := readToEnd(ctx, c, buf, fn); err != nil {
			return err
		}
		var said []Record
		if said, heard = bell.since(heard); len(said) > 0 {
			for _, r := range said {
				if err := fn(r, ""); err != nil {
					return err
				}
			}
		}
		if caughtUp != nil {
			if err := caughtUp(); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		select {
		case <-rung:
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func readToEnd(ctx context.Context, c *Cursor, buf []byte, fn func(Record, Position) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, pos, err := c.Next(buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := fn(rec, pos); err != nil {
			return err
		}
	}
}

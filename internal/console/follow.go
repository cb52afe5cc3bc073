package console

import (
	"context"
	"errors"
	"io"
)

// Follow calls fn with every record from c on: it reads to the end and waits for the bell, again and again. When done
// is closed, which says that nothing will be appended any more, it reads to the end once more and returns nil. It
// returns early with fn's error, the cursor's, or that of ctx. The record is fn's until it returns. caughtUp (may be nil)
// is called whenever the end is reached, before waiting: the time to flush.
//
// What is said by the bell meanwhile comes between, with an empty Position: it is not in the log.
//
// What is damaged is a record of its own between, for Damage, and so is, at the end, what is not there although it was written. The
// log of one engine ends at the first damage, and Follow returns nil.
//
// A nil bell reads what there is and returns.
func Follow(ctx context.Context, c *Cursor, bell *Bell, done <-chan struct{}, fn func(Record, Position) error, caughtUp func() error) error {
	buf := make([]byte, maxRecord)
	_, heard := bell.since(0)
	for last := bell == nil; ; {
		ended := false
		select {
		case <-done: // before reading: what was written before is read below
			last, ended = true, true
		default:
		}
		rung := bell.Chan()
		if last {
			if err := c.last(ended); err != nil {
				return err
			}
		}
		over, err := readToEnd(ctx, c, buf, fn)
		if err == nil && last && !over {
			_, err = tell(c.missing(), "", fn)
		}
		if err != nil {
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
		if last || over {
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

// readToEnd reports whether it was over before the end, by damage behind which nothing can be read.
func readToEnd(ctx context.Context, c *Cursor, buf []byte, fn func(Record, Position) error) (over bool, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		rec, pos, err := c.Next(buf)
		if err == io.EOF {
			return false, nil
		}
		if err == nil {
			err = fn(rec, pos)
		} else if _, err = tell(err, pos, fn); err == nil && pos == "" {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// tell hands on damage as a record.
func tell(err error, pos Position, fn func(Record, Position) error) (told bool, _ error) {
	damaged, is := errors.AsType[*DamagedError](err)
	if !is {
		return false, err
	}
	return true, fn(damaged.record(), pos)
}

package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// input is the stdin of an engine: the writing end of a pipe, or its terminal. The keeper writes to it, and not a server, so
// that the script does not take a killed server for the end of its input; and it counts what it wrote, so that the next server,
// which does not know how far the last one came, may say it again.
type input struct {
	turn chan struct{} // has a token while nobody writes, once there is something to write to
	over chan struct{} // closed with the engine

	file   *os.File
	at     int64 // bytes written; held by whoever has the token, as closed is
	closed bool  // nothing more can be written
}

func newInput() *input { return &input{turn: make(chan struct{}, 1), over: make(chan struct{})} }

// inputPipe makes the pipe and returns its reading end, which a program may expect to wait for what comes.
func inputPipe() (read, write *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	if err := unix.SetNonblock(fds[1], true); err != nil { // so that a write can be given up
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "stdin"), os.NewFile(uintptr(fds[1]), "stdin"), nil
}

// open tells where to write. It is called once.
func (in *input) open(file *os.File) {
	in.file = file
	in.turn <- struct{}{}
}

// end ends all writing: the engine is gone. It is called after open, or instead of it, and once.
func (in *input) end() {
	close(in.over)
	if in.file != nil {
		in.file.Close() // which ends a write that waits
	}
}

// write writes data, whose first byte comes after from others, and closes stdin behind it if that is asked for. What was written
// before is left out; from -1 is whatever was written. It waits as long as the script does not read, but not beyond ctx: what
// was written by then counts. It returns how much was written in all, and whether nothing more can be.
func (in *input) write(ctx context.Context, from int64, data []byte, last bool) (at int64, closed bool, err error) {
	select {
	case <-in.turn:
		defer func() { in.turn <- struct{}{} }()
	case <-in.over:
		return 0, false, errNotFound
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
	if from > in.at {
		return in.at, in.closed, fmt.Errorf("%w: it has %d bytes so far, and these come after %d", errGap, in.at, from)
	}
	if from >= 0 {
		data = data[min(in.at-from, int64(len(data))):]
	}
	if in.closed {
		return in.at, true, nil
	}
	if err := in.writeAll(ctx, data); err != nil {
		return in.at, in.closed, err
	}
	if last {
		in.closed = true
		in.file.Close() // of a terminal this is a hang-up: the kernel sends SIGHUP to what runs in its foreground
	}
	return in.at, in.closed, nil
}

func (in *input) writeAll(ctx context.Context, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	gaveUp := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		in.file.SetWriteDeadline(time.Unix(1, 0))
		close(gaveUp)
	})
	n, err := in.file.Write(data)
	in.at += int64(n)
	if !stop() {
		<-gaveUp
		in.file.SetWriteDeadline(time.Time{}) // for the next one
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ctx.Err()
	case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.EIO), errors.Is(err, os.ErrClosed): // nobody reads it
		in.closed = true
		return nil
	}
	return err
}

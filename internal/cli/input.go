package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
)

// copyInput copies what comes from a file to w until the file's end, which is nil, or the end of ctx. It never reads what
// is not there yet, so that ctx can end the waiting and the next program finds what was typed for it.
//
// A terminal gives its input to the job in the foreground only, and stops the others when they read (SIGTTIN). A shell
// may put us behind and in front at any time, mostly without a word, and a script that does not read must go on. So the
// signal is blocked for the thread that reads: in the background it gets EIO instead, and tries again when more is typed
// or SIGCONT comes. (Ignoring the signal would do the same, but engines would inherit that.)
func copyInput(ctx context.Context, f *os.File, w io.Writer) error {
	runtime.LockOSThread() // for good: the thread ends with this goroutine, and its signal mask with it
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGTTIN - 1)}}, nil); err != nil {
		return err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(epoll)
	fd := int(f.Fd())
	// Edges only: what waits for another job must not wake us again and again.
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET})
	if err == unix.EPERM { // nothing to wait for, as in a regular file
		return copyFile(ctx, f, w)
	}
	if err != nil {
		return err
	}
	stop, err := wakeUp(ctx, epoll)
	if err != nil {
		return err
	}
	defer stop()
	for {
		if _, err := unix.EpollWait(epoll, make([]unix.EpollEvent, 2), -1); err != nil && err != unix.EINTR {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if over, err := copyReady(ctx, fd, w); over || err != nil {
			return err
		}
	}
}

// copyFile copies what never makes anybody wait. It may be endless, as /dev/zero is.
func copyFile(ctx context.Context, f *os.File, w io.Writer) error {
	buf := make([]byte, 64<<10)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// wakeUp wakes whoever waits at epoll when the process is continued, and when ctx ends.
func wakeUp(ctx context.Context, epoll int) (stop func(), err error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET})
	if err != nil {
		unix.Close(event)
		return nil, err
	}
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-continued:
			case <-ctx.Done():
			}
			unix.Write(event, []byte{7: 1}) // a number that is not 0 in either byte order
			if ctx.Err() != nil {
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
		signal.Stop(continued)
		unix.Close(event)
	}, nil
}

// copyReady copies what is there. It is over at the end of the input.
func copyReady(ctx context.Context, fd int, w io.Writer) (over bool, err error) {
	buf := make([]byte, 64<<10)
	for ctx.Err() == nil {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(ready, 0); err == unix.EINTR {
			continue
		} else if n == 0 || err != nil {
			return false, err
		}
		n, err := unix.Read(fd, buf)
		switch {
		case n > 0:
			if _, err := w.Write(buf[:n]); err != nil {
				return true, err
			}
		case err == nil, err == unix.EIO && ready[0].Revents&unix.POLLHUP != 0: // the latter: the terminal is gone
			return true, nil
		case err == unix.EAGAIN, err == unix.EIO: // somebody else took it; it is not for us now
			return false, nil
		case err != unix.EINTR:
			return true, err
		}
	}
	return false, ctx.Err()
}

// inputEndsIn is more than copyInput needs to end after its context.
const inputEndsIn = 200 * time.Millisecond

// maxCode is what the server takes of a request, and more than any code that a person wrote.
const maxCode = 16_000_000

// codeBuffer holds no more than that.
type codeBuffer struct{ text bytes.Buffer }

func (b *codeBuffer) Write(p []byte) (int, error) {
	if b.text.Len()+len(p) > maxCode {
		return 0, engine.Errorf(engine.Invalid, "the code is longer than %d bytes", maxCode).
			WithHint("write large data to a file in the project, and read it from there")
	}
	return b.text.Write(p)
}

// readInput reads the whole input.
func (a *app) readInput(ctx context.Context) (string, error) {
	var b codeBuffer
	f, ok := a.In.(*os.File)
	if !ok {
		_, err := io.Copy(&b, a.In)
		return b.text.String(), err
	}
	read := make(chan error, 1)
	go func() { read <- copyInput(ctx, f, &b) }()
	err := <-read
	return b.text.String(), err
}

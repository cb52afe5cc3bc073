package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"muster/engine"
)

// terminal makes a pseudo-terminal; what is written to typed is typed at it.
func terminal(t *testing.T) (typed, tty *os.File) {
	t.Helper()
	typed, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { typed.Close() })
	if err := unix.IoctlSetPointerInt(int(typed.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(typed.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return typed, tty
}

// Lines come when they are typed, and Ctrl-D is the end. (Jobs of a shell: test/job_test.go.)
func TestInputOfATerminal(t *testing.T) {
	typed, tty := terminal(t)
	var got syncBuffer
	done := make(chan error, 1)
	go func() { done <- copyInput(t.Context(), tty, &got) }()
	fmt.Fprint(typed, "one\n")
	got.await(t, "one\n")
	fmt.Fprint(typed, "two\n\x04")
	if err := <-done; err != nil || got.String() != "one\ntwo\n" {
		t.Errorf("%v %q", err, got.String())
	}
}

// A terminal that goes away is the end too.
func TestInputOfATerminalThatIsGone(t *testing.T) {
	typed, tty := terminal(t)
	var got syncBuffer
	done := make(chan error, 1)
	go func() { done <- copyInput(t.Context(), tty, &got) }()
	fmt.Fprint(typed, "one\n")
	got.await(t, "one\n")
	typed.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The end of the context ends the waiting, also one that came before it; what comes later is left for others.
func TestInputEndsWithItsContext(t *testing.T) {
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer typed.Close()
	for _, early := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		if early {
			cancel()
		}
		var got syncBuffer
		done := make(chan error, 1)
		go func() { done <- copyInput(ctx, in, &got) }()
		if !early {
			fmt.Fprint(typed, "ours ")
			got.await(t, "ours ")
			cancel()
		}
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("early %v: %v", early, err)
		}
		cancel()
	}
	fmt.Fprint(typed, "theirs")
	b := make([]byte, 100)
	if n, err := in.Read(b); err != nil || string(b[:n]) != "theirs" {
		t.Errorf("%v %q", err, b[:n])
	}
}

// Regular files and empty devices are never waited for; a pipe is read whole, also where it is large.
func TestInputOfFilesAndPipes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	text := strings.Repeat("0123456789abcde\n", 1<<16) // 1 MB
	os.WriteFile(path, []byte(text), 0o600)
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { fmt.Fprint(typed, text); typed.Close() }()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	for f, want := range map[*os.File]string{file: text, in: text, null: ""} {
		var got strings.Builder
		done := make(chan error, 1)
		go func() { done <- copyInput(t.Context(), f, &got) }()
		if err := <-done; err != nil || got.String() != want {
			t.Errorf("%s: %v, %d bytes of %d", f.Name(), err, got.Len(), len(want))
		}
		f.Close()
	}
}

// Code is bounded, wherever it comes from, and an endless device ends with the context.
func TestEndlessInput(t *testing.T) {
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	go func() {
		io.CopyN(typed, zero, 2*maxCode) // broken off
		typed.Close()
	}()
	other, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, from := range []io.Reader{other, in, io.MultiReader(other)} {
		if _, err := (&app{Streams: Streams{In: from}}).readInput(t.Context()); engine.KindOf(err) != engine.Invalid {
			t.Errorf("%T: %v", from, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- copyInput(ctx, other, io.Discard) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

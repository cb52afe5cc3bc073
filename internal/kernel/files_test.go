package kernel

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 30 * time.Second

// An engine that puts a FIFO in a program's place again and again makes nobody wait who looks at it.
func TestProgramThatBecomesAFIFO(t *testing.T) {
	dir := fakeBinary(t, "python3")
	program, fifo := filepath.Join(dir, "python3"), filepath.Join(dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o777))
	if !isBinary(program) || isBinary(fifo) {
		t.Fatal("a program is not told from a FIFO")
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if err := unix.Renameat2(unix.AT_FDCWD, program, unix.AT_FDCWD, fifo, unix.RENAME_EXCHANGE); err != nil {
					t.Errorf("exchange: %v", err)
					return
				}
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for range 20_000 {
			isBinary(program)
		}
	}()
	select {
	case <-looked:
	case <-time.After(patience):
		for _, f := range []string{program, fifo} { // whoever waits is let go
			if w, err := os.OpenFile(f, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
				w.Close()
			}
		}
		t.Fatal("it waits for the FIFO")
	}
}

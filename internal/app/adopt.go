package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/linux/pidfd"
	"muster/internal/store"
)

// openRecords opens what earlier servers recorded.
func openRecords(dir string, c config) (*store.Store, error) {
	if c.salvage {
		found, err := store.Salvage(dir)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(c.log, "muster: %v\n", found)
	}
	return store.Open(dir)
}

// adopt takes up the sessions of earlier servers and says what became of them.
func (a *app) adopt(ctx context.Context, log io.Writer) error {
	found, err := a.manager.Recover(ctx)
	if found.Adopted > 0 {
		fmt.Fprintf(log, "muster: adopted %s of an earlier server, with %s\n", number(found.Adopted, "session"), number(found.Engines, "worker"))
	}
	for _, sentence := range slices.Concat(found.Stuck, found.Lost, found.Orphans) {
		fmt.Fprintf(log, "muster: %s\n", sentence)
	}
	return err
}

func number(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// bootID names this run of the machine; "" if the kernel does not say.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// letGo makes the server that runs let go of its sessions, and returns when it has ended.
func letGo(pid int) error {
	if pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		defer unix.Close(fd)
		err = unix.PidfdSendSignal(fd, unix.SIGUSR1, nil, 0)
	}
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return engine.Errorf(engine.Unavailable, "the server that runs (pid %d) cannot be told to let go: %v", pid, err)
	}
	if !pidfd.Ended(fd, lockWait) {
		return engine.Errorf(engine.Conflict, "the server that runs (pid %d) does not let go", pid).
			WithHint("end it with: kill -9 %d; its sessions go on", pid)
	}
	return nil
}

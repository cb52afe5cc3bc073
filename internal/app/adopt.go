package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/linux/pidfd"
	"muster/internal/manager"
	"muster/internal/store"
)

// openRecords opens what earlier servers recorded. Where there is nothing although sessions are there, it refuses: to begin anew ends
// those that run.
func openRecords(dir string, drv driver.Driver, c config) (*store.Store, error) {
	if c.salvage {
		found, err := store.Salvage(dir)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(c.log, "muster: %v\n", found)
	}
	records, err := store.OpenUnless(dir, func(path string) error { return lostRecords(dir, path, drv) })
	return records, endangered(err, dir, drv)
}

// lostRecords is an error if records should be there: sessions are. One that was not recorded when its server was killed was that
// server's, which had records.
func lostRecords(dir, path string, drv driver.Driver) error {
	left, err := manager.FindLeft(context.Background(), dir, drv)
	if err != nil {
		return engine.Errorf(engine.Unavailable, "there are no records in %s, and whether there should be some cannot be found out: %w", path, err)
	}
	if left == (manager.Left{}) {
		return nil
	}
	sessions := filepath.Join(dir, "sessions")
	e := engine.Errorf(engine.Unavailable, "the records are gone: %s is missing or empty, but %s holds %s, %s", path, sessions,
		number(left.Folders, "session"), runs(left.Running))
	if left.Running == 0 {
		return e.WithHint("restore the file from a backup; or muster up --salvage begins new records: the old sessions are not listed any more, "+
			"what they printed stays in %s", sessions)
	}
	return e.WithHint("restore the file from a backup; or muster up --salvage begins new records: it ends the sessions that run, of which it knows nothing, "+
		"and what all of them printed stays in %s", sessions)
}

// endangered adds to an error about damaged records what the way out of it may end.
func endangered(err error, dir string, drv driver.Driver) error {
	if !store.Damaged(err) {
		return err
	}
	left, listErr := manager.FindLeft(context.Background(), dir, drv)
	if listErr != nil || left.Running == 0 {
		return err
	}
	return engine.Errorf(engine.KindOf(err), "%w; there are %s, %s", err, number(left.Folders, "session"), runs(left.Running)).
		WithHint("%s; sessions that run and of which no record is left are then ended", engine.HintOf(err))
}

func runs(n int) string {
	switch n {
	case 0:
		return "of which none runs"
	case 1:
		return "of which 1 runs"
	}
	return fmt.Sprintf("of which %d run", n)
}

// adopt takes up the sessions of earlier servers and says what became of them.
func (a *app) adopt(ctx context.Context, log io.Writer) error {
	found, err := a.manager.Recover(ctx)
	if found.Adopted > 0 {
		fmt.Fprintf(log, "muster: adopted %s of an earlier server, with %s\n", number(found.Adopted, "session"), number(found.Engines, "worker"))
	}
	for _, sentence := range slices.Concat(found.Stuck, found.Lost, found.Moved, found.Orphans) {
		fmt.Fprintf(log, "muster: %s\n", sentence)
	}
	return endangered(err, a.state, a.driver)
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

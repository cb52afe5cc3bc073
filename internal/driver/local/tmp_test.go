package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
)

// awaitGone waits until a path is gone: its removal is announced by nobody.
func awaitGone(t *testing.T, path string) {
	t.Helper()
	for until := time.Now().Add(deadline); ; <-time.After(5 * time.Millisecond) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s stays", path)
		}
	}
}

// plainTmpDriver is one of the plain rung whose folder has a path that is too long for sockets in it.
func plainTmpDriver(t *testing.T) (rung, recorded) {
	r := newRung(t, Plain)
	r.dir = filepath.Join(r.dir, strings.Repeat("long", 25))
	d := r.driver(t)
	t.Cleanup(func() { d.Close() })
	return r, d
}

// Programs that put sockets where temporary files go can do so, wherever sessions are kept.
func TestPlainTmpHasRoomForSockets(t *testing.T) {
	r, d := plainTmpDriver(t)
	w := r.open(t, d)
	const code = `
import multiprocessing, os
numbers = multiprocessing.Manager().dict(answer=42)
print(numbers["answer"], oct(os.stat(os.environ["TMPDIR"]).st_mode), os.environ["TMPDIR"])`
	spec := w.start(w.engine(engine.RoleWorker, python(t), "-c", code))
	if x := w.await(driver.Exited, spec.ID).Exit; x.Reason != engine.ReasonSucceeded {
		t.Errorf("%+v", x)
	}
	tmp := plainTmp(spec.ID)
	if got, want := w.stdout(spec.ID), "42 0o40700 "+tmp+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	awaitGone(t, tmp)
}

// Whatever lies there already is not used, and not removed.
func TestPlainTmpThatIsThere(t *testing.T) {
	r, d := plainTmpDriver(t)
	w := r.open(t, d)
	spec := w.engine(engine.RoleWorker, "/bin/true")
	other := t.TempDir()
	if err := os.Symlink(other, plainTmp(spec.ID)); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(plainTmp(spec.ID))
	err := w.s.Start(context.Background(), []driver.Spec{spec})[0]
	if err == nil || !strings.Contains(err.Error(), plainTmp(spec.ID)+": file exists") {
		t.Errorf("%v", err)
	}
	if err := removePlainTmp(spec.ID); err != nil {
		t.Error(err)
	}
	if _, err := os.Readlink(plainTmp(spec.ID)); err != nil {
		t.Error(err)
	}
}

// A keeper that is killed does not remove it: its server does, and if there is none, the next one's sweep.
func TestPlainTmpOfKilledKeeper(t *testing.T) {
	r, d := plainTmpDriver(t)
	begin := func() (*watched, string, int) {
		w := newWatched(t)
		s, err := d.Open(context.Background(), w.spec)
		if err != nil {
			t.Fatal(err)
		}
		w.s = s
		spec := w.sh("echo > $TMPDIR/file; sleep 1000")
		w.await(driver.Started, spec.ID)
		if _, err := os.Stat(plainTmp(spec.ID)); err != nil {
			t.Error(err)
		}
		return w, plainTmp(spec.ID), s.(*session).keeper.Process.Pid
	}
	w, tmp, keeper := begin()
	unix.Kill(keeper, unix.SIGKILL)
	w.await(driver.Ended, "")
	awaitGone(t, tmp)

	_, tmp, keeper = begin()
	d.Close()
	unix.Kill(keeper, unix.SIGKILL)
	awaitEnd(keeper, deadline)
	if _, err := r.driver(t).Sweep(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(tmp); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stays: %v", tmp, err)
	}
}

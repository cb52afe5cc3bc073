package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/linux/pidfd"
)

// A keeper that is killed takes its engines with it; the server says so, and removes what the keeper would have removed.
func TestKeeperKilled(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		main := w.start(w.engine(engine.RoleSession, "/bin/sleep", "1000"))
		worker := w.sh("trap '' TERM; sleep 1000 & sleep 1000")
		w.await(driver.Started, main.ID)
		w.await(driver.Started, worker.ID)
		w.s.(*session).keeper.Process.Kill()
		for _, id := range []engine.ID{main.ID, worker.ID} {
			if o := w.await(driver.Exited, id); o.Exit.Reason != engine.ReasonKeeperLost {
				t.Errorf("exit %+v", o.Exit)
			}
		}
		if o := w.await(driver.Ended, ""); o.Exit == nil || o.Exit.Reason != engine.ReasonKeeperLost {
			t.Errorf("end %+v", o.Exit)
		}
	})
}

// An engine that somebody had stopped, its init too, hears nothing of its keeper's end: the server that lives ends it.
func TestKeeperOfStoppedKilled(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w, spec := r.stopped(t, d)
		w.s.(*session).keeper.Process.Kill()
		if o := w.await(driver.Exited, spec.ID); o.Exit.Reason != engine.ReasonKeeperLost {
			t.Errorf("exit %+v", o.Exit)
		}
		w.await(driver.Ended, "")
	})
}

// And if no server lives the next one does, and says so; also one that runs in other control groups, which would not look for the
// engine's below its own.
func TestSweepEndsWhatWasStopped(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		bothRungs(t, func(t *testing.T, r rung, d recorded) {
			w, spec := r.stopped(t, d)
			s := w.s.(*session)
			group := s.driver.elsewhere(s.spec.ID, spec.ID)
			keeper, err := unix.PidfdOpen(s.keeper.Process.Pid, 0) // letting go forgets the process
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(keeper)
			s.detach()
			if err := unix.PidfdSendSignal(keeper, unix.SIGKILL, nil, 0); err != nil || !pidfd.Ended(keeper, deadline) {
				t.Fatalf("the keeper does not end: %v", err)
			}
			next := r.driver(t)
			if elsewhere {
				next.tree = nil
			}
			told, err := next.Sweep()
			if err != nil || len(told) != 1 || !strings.Contains(told[0], string(s.spec.ID)) {
				t.Errorf("%q, %v", told, err)
			}
			if _, there := group.Changed(); there {
				t.Errorf("the engine's control group is left: %v", group.Paths())
			}
		})
	}
}

// stopped returns an engine of which all processes are stopped. Where there are no control groups nobody finds those.
func (r rung) stopped(t *testing.T, d recorded) (*watched, driver.Spec) {
	t.Helper()
	if d.tree == nil {
		t.Skip("capability MemoryLimit: without control groups nobody knows which processes these were")
	}
	w := r.open(t, d)
	spec := w.sh("sleep 1000 & echo up; wait") // and does not fork in the foreground: who waits in vfork(2) cannot be stopped
	w.awaitOutput(spec.ID, "up\n")
	g, err := d.tree.Open(groupName(w.s.(*session).spec.ID, spec.ID))
	if err != nil {
		t.Fatal(err)
	}
	pids, err := g.Processes()
	if err != nil || len(pids) < 2 {
		t.Fatalf("%v, %v", pids, err)
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0)
		unix.Close(fd)
	}
	for until := time.Now().Add(deadline); slices.ContainsFunc(pids, runs); <-time.After(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("not all of %v were stopped", pids)
		}
	}
	return w, spec
}

// runs reports whether a process has a thread that is not stopped: a signal takes its time.
func runs(pid int) bool {
	states, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(states, func(path string) bool {
		stat, err := os.ReadFile(path)
		_, state, _ := strings.Cut(string(stat), ") ")
		return err == nil && !strings.HasPrefix(state, "T")
	})
}

// However many processes an engine has: its init, which the keeper's end tells, ends itself after them.
func TestKeeperOfManyKilled(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		// Their names say whose they are, for those that count what is left.
		spec := w.sh("i=0; while [ $i -lt 400 ]; do sh -c 'sleep 1000; :' " + r.dir + " & i=$((i+1)); done; echo all; wait")
		w.awaitOutput(spec.ID, "all\n")
		w.s.(*session).keeper.Process.Kill()
		w.await(driver.Ended, "")
	})
}

// An engine whose init is killed before it reports anything, and one whose init is killed later.
func TestInitKilled(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		spec := w.sh("sleep 1000 & setsid sleep 1000 & sleep 1000")
		w.await(driver.Started, spec.ID)
		s := w.s.(*session)
		s.mu.Lock()
		pid := s.engines[spec.ID].pid
		s.mu.Unlock()
		unix.Kill(pid, unix.SIGKILL)
		if x := w.await(driver.Exited, spec.ID).Exit; x.Reason != engine.ReasonSignal || x.Code != 137 {
			t.Errorf("%+v", x)
		}
	})
}

func TestOpenCancelled(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		for i := range 12 { // at different moments of an Open, which takes some 20 ms
			w := newWatched(t)
			ctx, cancel := context.WithCancel(context.Background())
			timer := time.AfterFunc(time.Duration(i)*2*time.Millisecond, cancel)
			s, err := d.Open(ctx, w.spec)
			timer.Stop()
			cancel()
			if err == nil {
				w.s = s
				w.end()
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("open: %v", err)
			} else if len(w.seen) > 0 {
				t.Errorf("observed of a session that was not opened: %+v", w.seen)
			}
		}
	})
}

func TestOpenFails(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := newWatched(t)
		w.spec.ConsoleDir = "/dev/null/console"
		_, err := d.Open(context.Background(), w.spec)
		if engine.KindOf(err) != engine.Unavailable || !strings.Contains(err.Error(), "mkdir /dev/null") {
			t.Errorf("%v", err)
		}
	})
}

// closed reports whether a file was closed by somebody else.
func closed(f *os.File) bool { return errors.Is(f.Close(), os.ErrClosed) }

func TestFilesAreTakenOver(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		null := func() *os.File {
			f, err := os.Open("/dev/null")
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		w := newWatched(t)
		w.spec.Owner = null()
		if _, err := d.Open(cancelled, w.spec); !errors.Is(err, context.Canceled) || !closed(w.spec.Owner) {
			t.Errorf("cancelled open: %v, or the owner stays open", err)
		}
		w.spec.Owner = null()
		_, err := d.Recover(context.Background(), w.spec, driver.Handle{Session: w.spec.ID})
		if engine.KindOf(err) != engine.NotFound || !closed(w.spec.Owner) {
			t.Errorf("recover of nothing: %v, or the owner stays open", err)
		}
		w = r.open(t, d)
		spec := w.engine(engine.RoleWorker, "/bin/true")
		if err := w.s.Start(cancelled, []driver.Spec{spec})[0]; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled start: %v", err)
		}
		if err := w.s.Start(cancelled, nil); len(err) != 0 {
			t.Error(err)
		}
	})
}

// A session outlives its driver, keeps names and addresses, and can be ended by the next one.
func TestRecovered(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		main := w.start(w.engine(engine.RoleSession, "/bin/sleep", "1000"))
		w.await(driver.Started, main.ID)
		d.Close()
		if _, err := d.Open(context.Background(), newWatched(t).spec); engine.KindOf(err) != engine.Unavailable {
			t.Errorf("open of a closed driver: %v", err)
		}
		if n := len(w.seen); n != 1 {
			t.Errorf("observed: %+v", w.seen)
		}
		d2 := r.driver(t)
		defer d2.Close()
		w.seen = nil // nobody observes now
		s, err := d2.Recover(context.Background(), w.spec, w.s.Handle())
		if err != nil {
			t.Fatal(err)
		}
		w.s = s
		w.await(driver.Started, main.ID)
		if r.name != Plain {
			finder := w.sh("getent hosts " + main.Hostname)
			w.await(driver.Exited, finder.ID)
			if got := w.stdout(finder.ID); !strings.HasPrefix(got, main.Address.String()) {
				t.Errorf("the name of an engine from before the restart: %q", got)
			}
		}
		w.end()
		if o := w.await(driver.Exited, main.ID); o.Exit.Status() != engine.Stopped {
			t.Errorf("%+v", o.Exit)
		}
	})
}

// A stop with much time does not hold up the session's end.
func TestEndIsSoonerThanStop(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		w := r.open(t, d)
		spec := w.sh("trap '' TERM; echo ready; while :; do sleep 1; done")
		w.await(driver.Started, spec.ID)
		if err := w.s.Stop(context.Background(), spec.ID, time.Hour, engine.ReasonStopped, "somebody"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := w.s.End(ctx, 100*time.Millisecond, "the test"); err != nil {
			t.Fatal(err)
		}
		if x := w.await(driver.Exited, spec.ID).Exit; x.By != "somebody" {
			t.Errorf("%+v", x)
		}
	})
}

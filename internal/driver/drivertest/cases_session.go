package drivertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

var sessionCases = []testCase{
	{"start in a session that is ending", "", startEnding},
	{"the main engine's end ends its workers", "", mainEnds},
	{"end of a session", "", endSession},
	{"nothing starts in a session that has ended", "", startAfterEnd},
	{"the owner's end ends the session", "", lease},
	{"list", "", list},
	{"a place is opened once", "", openTwice},
	{"recover after a restart", "Survives", recovered},
	{"recover of a place that is gone", "Survives", recoverGone},
	{"recover tells who lives, and what was reserved", "Survives", recoverTells},
	{"recover opens what engines find on their loopback", "Survives Loopback", recoverInside},
	{"stdin goes on after a restart", "Survives", recoverStdin},
	{"a place keeps its secret", "", keeps},
}

func awaitEnded(p *place) driver.Observation {
	p.t.Helper()
	return p.await("the session's end", func(o driver.Observation) bool { return o.Kind == driver.Ended })
}

func mainEnds(w *world) {
	p := w.open()
	m := p.make(engine.RoleSession, CopyStdin{}, Exit{5})
	m.Stdin = true
	p.start(m)
	polite, deaf := p.worker(Print{"ready"}, Hang{}), p.worker(IgnoreTerm{}, Print{"ready"}, Hang{})
	p.start(polite, deaf)
	p.awaitText(polite.ID, "ready\n")
	p.awaitText(deaf.ID, "ready\n")
	p.endStdin(m.ID)
	expectExit(w, p.awaitExit(m.ID), engine.ReasonExitCode, 5, 0)
	for _, s := range specs(polite, deaf) {
		if e := p.awaitExit(s.ID); e.Reason != engine.ReasonSessionEnded || e.Status() != engine.Stopped {
			w.t.Errorf("worker: %+v, want session ended", e)
		}
	}
	awaitEnded(p)
}

func endSession(w *world) {
	p := w.open()
	m := p.startMain()
	a, b := p.worker(Print{"ready"}, Hang{}), p.worker(IgnoreTerm{}, Print{"ready"}, Hang{})
	p.start(a, b)
	p.awaitText(a.ID, "ready\n")
	p.awaitText(b.ID, "ready\n")
	ctx, cancel := context.WithTimeout(w.t.Context(), Deadline)
	defer cancel()
	for range 2 { // idempotent
		if err := p.s.End(ctx, grace, "somebody"); err != nil {
			w.t.Fatal(err)
		}
	}
	if e := p.awaitExit(m.ID); e.Status() != engine.Stopped {
		w.t.Errorf("the session's own engine: %+v, want stopped", e)
	}
	for _, s := range specs(a, b) {
		if e := p.awaitExit(s.ID); e.Reason != engine.ReasonSessionEnded {
			w.t.Errorf("worker: %+v, want session ended", e)
		}
	}
	awaitEnded(p)
}

func startAfterEnd(w *world) {
	p := w.open()
	p.startMain()
	spec := p.worker(Hang{})
	p.end()
	if err := p.s.Start(w.t.Context(), p.works(specs(spec)))[0]; err == nil {
		w.t.Error("an engine started in a session that has ended")
	}
	if _, err := p.s.Reserve(1); err == nil {
		w.t.Error("an address was given in a session that has ended")
	}
}

func lease(w *world) {
	owner := exec.Command("sleep", "1000")
	if err := owner.Start(); err != nil {
		w.t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(owner.Process.Pid, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	p := w.openOwned(os.NewFile(uintptr(fd), "pidfd"))
	m := p.startMain()
	spec := p.worker(IgnoreTerm{}, Print{"ready"}, Hang{})
	p.start(spec)
	p.awaitText(spec.ID, "ready\n")
	owner.Process.Kill()
	owner.Wait()
	if e := p.awaitExit(spec.ID); e.Reason != engine.ReasonSessionEnded {
		w.t.Errorf("worker: %+v, want session ended", e)
	}
	if e := p.awaitExit(m.ID); e.Status() != engine.Stopped {
		w.t.Errorf("the session's own engine: %+v, want stopped", e)
	}
	awaitEnded(p)
}

func handles(w *world) []engine.ID {
	w.t.Helper()
	hs, err := w.d.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var ids []engine.ID
	for _, h := range hs {
		ids = append(ids, h.Session)
	}
	return ids
}

func list(w *world) {
	p, q := w.open(), w.open()
	for _, s := range []*place{p, q} {
		if h := s.s.Handle(); h.Session != s.spec.ID || h.Version < 1 {
			w.t.Errorf("handle %+v", h)
		}
		if !slices.Contains(handles(w), s.spec.ID) {
			w.t.Errorf("list %v without %s", handles(w), s.spec.ID)
		}
	}
	p.end()
	if ids := handles(w); slices.Contains(ids, p.spec.ID) || !slices.Contains(ids, q.spec.ID) {
		w.t.Errorf("list %v after the end of %s", ids, p.spec.ID)
	}
}

func openTwice(w *world) {
	p := w.open()
	if _, err := w.d.Open(w.t.Context(), p.spec); err == nil {
		w.t.Error("the place of a session was opened twice")
	}
	m := p.startMain(Print{"works"}, Hang{})
	p.awaitText(m.ID, "works\n")
}

// recovered closes the driver while an engine runs and another has ended, and finds both through the stored handle.
func recovered(w *world) {
	p := w.open()
	m := p.startMain()
	ended, _ := p.run(Print{"before"}, Exit{7})
	stdin := p.worker(Print{"ready"}, Hang{})
	p.start(stdin)
	p.awaitText(stdin.ID, "ready\n")
	limited := p.worker(Hang{}) // its time is up whether a server is there or not
	limited.TimeLimit = time.Second / 2
	p.start(limited)
	p.awaitStarted(limited.ID)
	stored, err := json.Marshal(p.s.Handle())
	if err != nil {
		w.t.Fatal(err)
	}
	w.d = w.f.Restart(w.t, w.d)
	if !slices.Contains(handles(w), p.spec.ID) {
		w.t.Errorf("list %v without %s", handles(w), p.spec.ID)
	}
	var h driver.Handle
	if err := json.Unmarshal(stored, &h); err != nil {
		w.t.Fatal(err)
	}
	p.mu.Lock()
	p.seen = nil
	p.mu.Unlock()
	if p.s, err = w.d.Recover(w.t.Context(), p.spec, h); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range specs(m, ended, stdin) {
		p.await("start of "+string(s.ID), func(o driver.Observation) bool { return o.Kind == driver.Started && o.Engine == s.ID })
	}
	expectExit(w, p.awaitExit(ended.ID), engine.ReasonExitCode, 7, 0)
	p.expectStdout(ended.ID, "before\n")
	if e := p.awaitExit(limited.ID); e.Reason != engine.ReasonTimeLimit {
		w.t.Errorf("an engine with a time limit: %+v", e)
	}
	after, _ := p.run(Print{"after"})
	p.expectStdout(after.ID, "after\n")
	p.stop(stdin.ID, grace, "somebody")
	expectStopped(w, p.awaitExit(stdin.ID), "somebody")
	if got := p.text(stdin.ID, console.Stdout); got != "ready\n" {
		w.t.Errorf("output after the restart %q", got)
	}
}

// recoverTells closes the driver while one engine runs, one is still to come and one address is nobody's any more.
func recoverTells(w *world) {
	p := w.open()
	p.startMain()
	lives := p.worker(Print{"ready"}, Hang{})
	lives.CPUSet = []int{0}
	p.start(lives)
	p.awaitText(lives.ID, "ready\n")
	ended, _ := p.run(Exit{0})
	comes := p.worker(Print{"late"}, Exit{4})
	secret, err := p.s.Keep(w.t.Context(), []byte("first"))
	if err != nil {
		w.t.Fatal(err)
	}
	h := p.s.Handle()
	w.d = w.f.Restart(w.t, w.d)
	p.mu.Lock()
	p.seen = nil
	p.mu.Unlock()
	spec := p.spec
	spec.Reserved = []netip.Addr{comes.Address}
	if p.s, err = w.d.Recover(w.t.Context(), spec, h); err != nil {
		w.t.Fatal(err)
	}
	if n := p.observed(driver.Accepted, ended.ID) + p.observed(driver.Accepted, comes.ID); n != 0 {
		w.t.Error("an engine that does not live is told to live")
	}
	if p.observed(driver.Accepted, p.main.ID) != 1 || p.observed(driver.Accepted, lives.ID) != 1 {
		w.t.Fatalf("told when it returned: %s", p.story())
	}
	told := p.await("that it lives", func(o driver.Observation) bool { return o.Kind == driver.Accepted && o.Engine == lives.ID })
	if told.Held == nil || !slices.Equal(told.Held.Cores, lives.CPUSet) {
		w.t.Errorf("told that it holds %+v, want cores %v", told.Held, lives.CPUSet)
	}
	if again, err := p.s.Keep(w.t.Context(), []byte("second")); err != nil || !bytes.Equal(again, secret) || string(again) != "first" {
		w.t.Errorf("secret %q, %v", again, err)
	}
	p.start(comes)
	expectExit(w, p.awaitExit(comes.ID), engine.ReasonExitCode, 4, 0)
	p.expectStdout(comes.ID, "late\n")
}

// recoverInside lets an engine ask on its loopback before and after a restart.
func recoverInside(w *world) {
	p := w.open()
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	m := p.make(engine.RoleSession, Connect{loopback, insidePort}, ReadLine{}, Connect{loopback, insidePort}, Hang{})
	m.Stdin = true
	p.start(m)
	p.awaitText(m.ID, "got from inside\n")
	p.await("its start", func(o driver.Observation) bool { return o.Kind == driver.Started && o.Engine == m.ID }) // which output may overtake
	h := p.s.Handle()
	w.d = w.f.Restart(w.t, w.d)
	var err error
	if p.s, err = w.d.Recover(w.t.Context(), p.spec, h); err != nil {
		w.t.Fatal(err)
	}
	p.write(m.ID, 0, "go on\n", false)
	p.awaitText(m.ID, "got from inside\ngot from inside\n")
}

// recoverStdin does not know how far stdin was written before a restart, while the engine did not read, and says it again.
func recoverStdin(w *world) {
	p := w.open()
	goOn := filepath.Join(p.project, "go")
	text := strings.Repeat("0123456789abcde\n", 1<<14) // 256 KB
	m := p.make(engine.RoleSession, AwaitFile{goOn}, CopyStdin{}, Print{"end of input"})
	m.Stdin = true
	p.start(m)
	p.awaitStarted(m.ID)
	p.write(m.ID, 0, text[:10], false)
	var waits sync.WaitGroup
	s := p.s
	waits.Go(func() {
		if _, err := s.WriteStdin(w.t.Context(), m.ID, 0, []byte(text), true); err == nil {
			w.t.Error("it was written though nobody read")
		}
	})
	<-time.After(100 * time.Millisecond) // long enough to fill the pipe, most times
	h := p.s.Handle()
	w.d = w.f.Restart(w.t, w.d)
	waits.Wait()
	var err error
	if p.s, err = w.d.Recover(w.t.Context(), p.spec, h); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(goOn, nil, 0o644); err != nil {
		w.t.Fatal(err)
	}
	if got := p.write(m.ID, 0, text, true); got != (driver.Stdin{Written: int64(len(text)), Closed: true}) {
		w.t.Errorf("%+v", got)
	}
	p.awaitExit(m.ID)
	p.expectStdout(m.ID, text+"end of input\n")
}

// keeps: what is proposed first is the secret.
func keeps(w *world) {
	p, q := w.open(), w.open()
	for i, proposed := range []string{"one", "two"} {
		if got, err := p.s.Keep(w.t.Context(), []byte(proposed)); err != nil || string(got) != "one" {
			w.t.Errorf("%d: %q, %v", i, got, err)
		}
	}
	if got, err := q.s.Keep(w.t.Context(), []byte("three")); err != nil || string(got) != "three" {
		w.t.Errorf("another place's secret: %q, %v", got, err)
	}
}

func recoverGone(w *world) {
	p := w.open()
	p.startMain()
	h := p.s.Handle()
	p.end()
	if _, err := w.d.Recover(w.t.Context(), p.spec, h); engine.KindOf(err) != engine.NotFound {
		w.t.Errorf("recover of a place that is gone: %v, want not found", err)
	}
}

// Who is late by a moment is told why, and not that something went wrong.
func startEnding(w *world) {
	p := w.open()
	main := p.make(engine.RoleSession, Exit{0})
	late := p.worker(Print{"never"})
	p.start(main)
	p.awaitExit(main.ID)
	if errs := p.s.Start(w.t.Context(), p.works(specs(late))); !errors.Is(errs[0], driver.ErrEnding) {
		w.t.Errorf("start: %v, want %v", errs[0], driver.ErrEnding)
	}
}

// runInjected fails the start at each step in turn: the engine leaves nothing, its sibling and the session go on.
func runInjected(t *testing.T, f *Factory) {
	if f.FailAt == nil {
		return
	}
	for _, step := range f.Steps {
		t.Run("failure at step "+step, func(t *testing.T) {
			before := f.Count()
			w := &world{t: t, f: f, d: f.FailAt(t, step)}
			t.Cleanup(func() { w.checkNothingLeft(before) })
			t.Cleanup(func() { w.d.Close() })
			p := w.open()
			p.startMain()
			idle := f.Count()
			bad, good := p.worker(Print{"never"}), p.worker(Print{"ready"}, Exit{3})
			bad.Name = "fails"
			errs := p.s.Start(t.Context(), p.works(specs(bad, good)))
			if errs[1] != nil {
				t.Fatalf("the sibling: %v", errs[1])
			}
			if errs[0] != nil {
				p.s.Release(bad.Address)
			} else if e := p.awaitExit(bad.ID); e.Reason != engine.ReasonLaunchFailed || e.Step == "" || e.Message == "" {
				t.Errorf("exit %+v, want launch failed with its step", e)
			} else if n := p.observed(driver.Started, bad.ID); n != 0 {
				t.Error("it was observed to start")
			}
			p.expectStdout(bad.ID, "")
			expectExit(w, p.awaitExit(good.ID), engine.ReasonExitCode, 3, 0)
			w.checkNothingLeft(idle)
		})
	}
}

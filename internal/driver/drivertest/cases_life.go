package drivertest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"muster/engine"
	"muster/internal/driver"
)

var lifeCases = []testCase{
	{"exit code", "", exitCode},
	{"signal from inside", "", signalInside},
	{"signal from outside", "", signalOutside},
	{"stop", "", stopGrace},
	{"stop of one that ignores SIGTERM", "", stopIgnored},
	{"stop twice", "", stopTwice},
	{"stop before it runs", "", stopEarly},
	{"stop after its end", "", stopLate},
	{"time limit", "", timeLimit},
	{"descendants end with their engine", "", descendants},
	{"an id is used once", "", sameID},
	{"cancel in the middle of a start", "", cancelled},
	{"twenty at once", "", twenty},
	{"signal to nobody", "", signalNobody},
}

func expectExit(w *world, e engine.Exit, reason engine.Reason, code, signal int) {
	w.t.Helper()
	if e.Reason != reason || e.Code != code || e.Signal != signal {
		w.t.Errorf("exit: reason %q, code %d, signal %d; want %q, %d, %d (%+v)", e.Reason, e.Code, e.Signal, reason, code, signal, e)
	}
	if e.At.IsZero() {
		w.t.Error("exit without time")
	}
}

func exitCode(w *world) {
	p := w.open()
	p.startMain()
	_, e := p.run(Print{"done"})
	expectExit(w, e, engine.ReasonSucceeded, 0, 0)
	spec, e := p.run(Exit{7})
	expectExit(w, e, engine.ReasonExitCode, 7, 0)
	if !strings.Contains(e.Message, "7") {
		w.t.Errorf("message %q does not name the exit code", e.Message)
	}
	if n := p.observed(driver.Exited, spec.ID); n != 1 {
		w.t.Errorf("exit observed %d times", n)
	}
}

func signalInside(w *world) {
	p := w.open()
	p.startMain()
	_, e := p.run(Die{int(syscall.SIGKILL)})
	expectExit(w, e, engine.ReasonSignal, 137, 9)
	_, e = p.run(Die{int(syscall.SIGTERM)})
	expectExit(w, e, engine.ReasonSignal, 143, 15)
}

func signalOutside(w *world) {
	p := w.open()
	p.startMain()
	spec := p.worker(Trap{int(syscall.SIGINT), "interrupted"}, Print{"ready"}, Hang{})
	p.start(spec)
	p.awaitText(spec.ID, "ready\n")
	if err := p.s.Signal(w.t.Context(), spec.ID, int(syscall.SIGINT)); err != nil {
		w.t.Fatal(err)
	}
	expectExit(w, p.awaitExit(spec.ID), engine.ReasonSucceeded, 0, 0)
	p.expectStdout(spec.ID, "ready\ninterrupted\n")
}

func (p *place) stop(id engine.ID, grace time.Duration, by string) {
	p.t.Helper()
	if err := p.s.Stop(p.t.Context(), id, grace, engine.ReasonStopped, by); err != nil {
		p.t.Errorf("stop %s: %v", id, err)
	}
}

func expectStopped(w *world, e engine.Exit, by string) {
	w.t.Helper()
	if e.Reason != engine.ReasonStopped || e.By != by || e.Status() != engine.Stopped {
		w.t.Errorf("reason %q, by %q; want %q by %q", e.Reason, e.By, engine.ReasonStopped, by)
	}
}

func stopGrace(w *world) {
	p := w.open()
	p.startMain()
	spec := p.worker(Trap{int(syscall.SIGTERM), "last words"}, Print{"ready"}, Hang{})
	p.start(spec)
	p.awaitText(spec.ID, "ready\n")
	p.stop(spec.ID, Deadline, "somebody")
	expectStopped(w, p.awaitExit(spec.ID), "somebody")
	p.expectStdout(spec.ID, "ready\nlast words\n")
}

func stopIgnored(w *world) {
	p := w.open()
	p.startMain()
	spec := p.worker(IgnoreTerm{}, Print{"ready"}, Hang{})
	p.start(spec)
	p.awaitText(spec.ID, "ready\n")
	p.stop(spec.ID, 100*time.Millisecond, "somebody")
	e := p.awaitExit(spec.ID)
	expectStopped(w, e, "somebody")
	if e.Signal != int(syscall.SIGKILL) {
		w.t.Errorf("signal %d, want SIGKILL", e.Signal)
	}
}

func stopTwice(w *world) {
	p := w.open()
	p.startMain()
	spec := p.worker(Print{"ready"}, Hang{})
	p.start(spec)
	p.awaitText(spec.ID, "ready\n")
	p.stop(spec.ID, grace, "first")
	p.stop(spec.ID, grace, "second")
	expectStopped(w, p.awaitExit(spec.ID), "first")
	if n := p.observed(driver.Exited, spec.ID); n != 1 {
		w.t.Errorf("exit observed %d times", n)
	}
}

// stopEarly stops an engine at once after it was accepted: it ends, whether its interpreter ran or not.
func stopEarly(w *world) {
	p := w.open()
	p.startMain()
	spec := p.worker(Hang{})
	p.start(spec)
	p.stop(spec.ID, grace, "somebody")
	expectStopped(w, p.awaitExit(spec.ID), "somebody")
	err := p.s.Stop(w.t.Context(), engine.NewID(), grace, engine.ReasonStopped, "somebody")
	if err != nil && engine.KindOf(err) != engine.NotFound {
		w.t.Errorf("stop of an engine that was never started: %v", err)
	}
}

func stopLate(w *world) {
	p := w.open()
	p.startMain()
	spec, _ := p.run(Exit{3})
	err := p.s.Stop(w.t.Context(), spec.ID, grace, engine.ReasonStopped, "somebody")
	if err != nil && engine.KindOf(err) != engine.NotFound {
		w.t.Errorf("stop after the end: %v", err)
	}
	expectExit(w, p.awaitExit(spec.ID), engine.ReasonExitCode, 3, 0)
}

// descendants holds a FIFO open in a process that has left everything by which it could be found: its end is end of file.
func descendants(w *world) {
	p := w.open()
	p.startMain()
	for _, ends := range []string{"by itself", "by a stop"} {
		fifo := filepath.Join(p.project, strings.ReplaceAll(ends, " ", "-"))
		if err := syscall.Mkfifo(fifo, 0o666); err != nil {
			w.t.Fatal(err)
		}
		os.Chmod(fifo, 0o666)
		r, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		defer r.Close()
		spec := p.worker(Grandchild{fifo}, Hang{})
		if ends == "by itself" {
			spec = p.worker(Grandchild{fifo})
		}
		p.start(spec)
		p.awaitText(spec.ID, "grandchild\n")
		if ends == "by a stop" {
			p.stop(spec.ID, grace, "somebody")
		}
		p.awaitExit(spec.ID)
		r.SetReadDeadline(time.Now().Add(Deadline))
		if n, err := r.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			w.t.Errorf("engine ended %s, its descendant lives: read %d, %v", ends, n, err)
		}
	}
}

func sameID(w *world) {
	p := w.open()
	p.startMain()
	first := p.worker(Print{"ready"}, Hang{})
	p.start(first)
	p.awaitText(first.ID, "ready\n")
	second := p.worker(Hang{})
	second.ID, second.Hostname = first.ID, first.Hostname
	errs := p.s.Start(w.t.Context(), p.works([]driver.Spec{second}))
	if engine.KindOf(errs[0]) != engine.Conflict {
		w.t.Errorf("start of an id that is in use: %v, want a conflict", errs[0])
	}
	p.s.Release(second.Address)
	p.stop(first.ID, grace, "somebody")
	expectStopped(w, p.awaitExit(first.ID), "somebody")
}

// cancelled cancels while a batch starts: each engine was accepted, and then can be stopped, or leaves nothing.
func cancelled(w *world) {
	p := w.open()
	p.startMain()
	var specs []driver.Spec
	for range 10 {
		specs = append(specs, p.worker(Hang{}))
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan []error, 1)
	go func() { done <- p.s.Start(ctx, p.works(specs)) }()
	cancel()
	for i, err := range <-done {
		if err != nil {
			p.s.Release(specs[i].Address)
			continue
		}
		p.stop(specs[i].ID, grace, "somebody")
		expectStopped(w, p.awaitExit(specs[i].ID), "somebody")
	}
	_, e := p.run(Exit{4})
	expectExit(w, e, engine.ReasonExitCode, 4, 0)
}

func twenty(w *world) {
	p := w.open()
	p.startMain()
	var specs []driver.Spec
	for i := range 20 {
		specs = append(specs, p.worker(Print{"hello"}, Exit{i}))
	}
	p.start(specs...)
	for i, s := range specs {
		reason := engine.ReasonExitCode
		if i == 0 {
			reason = engine.ReasonSucceeded
		}
		expectExit(w, p.awaitExit(s.ID), reason, i, 0)
		p.expectStdout(s.ID, "hello\n")
		if n := p.observed(driver.Started, s.ID); n != 1 {
			w.t.Errorf("start observed %d times", n)
		}
	}
}

func signalNobody(w *world) {
	p := w.open()
	p.startMain()
	spec, _ := p.run()
	for _, id := range []engine.ID{spec.ID, engine.NewID()} {
		if err := p.s.Signal(w.t.Context(), id, int(syscall.SIGINT)); engine.KindOf(err) != engine.NotFound {
			w.t.Errorf("signal to %s, which is not alive: %v, want not found", id, err)
		}
	}
}

// timeLimit: an engine that runs longer than it may gets SIGTERM and, if it ignores that, SIGKILL; one that is done sooner, or is
// stopped sooner, has ended by that.
func timeLimit(w *world) {
	p := w.open()
	p.startMain()
	const limit = 300 * time.Millisecond
	const longer = 20 * limit // an interpreter on a busy machine must have come to its first line
	polite := p.worker(Trap{int(syscall.SIGTERM), "last words"}, Print{"ready"}, Hang{})
	deaf := p.worker(IgnoreTerm{}, Print{"ready"}, Hang{})
	quick := p.worker(Print{"done"})
	stopped := p.worker(Hang{})
	polite.TimeLimit, deaf.TimeLimit, quick.TimeLimit, stopped.TimeLimit = limit, longer, Deadline, Deadline
	for _, s := range specs(polite, deaf, quick, stopped) {
		p.start(s)
	}
	p.stop(stopped.ID, grace, "somebody")
	expectStopped(w, p.awaitExit(stopped.ID), "somebody")
	expectExit(w, p.awaitExit(quick.ID), engine.ReasonSucceeded, 0, 0)
	for _, s := range specs(polite, deaf) {
		e := p.awaitExit(s.ID)
		if e.Reason != engine.ReasonTimeLimit || e.Status() != engine.TimedOut || e.TimeLimitNanos != int64(s.TimeLimit) || !strings.Contains(e.Message, "time limit of "+map[engine.ID]string{polite.ID: "0.3 s", deaf.ID: "6 s"}[s.ID]) {
			w.t.Errorf("at its time limit: %+v", e)
		}
		if s.ID == deaf.ID && e.Signal != int(syscall.SIGKILL) {
			w.t.Errorf("one that ignores SIGTERM was not killed: %+v", e)
		}
	}
}

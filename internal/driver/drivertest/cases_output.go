package drivertest

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

var outputCases = []testCase{
	{"stdout and stderr are told apart", "", streams},
	{"output is complete and in order at exit", "", complete},
	{"output appears while the engine runs", "", live},
	{"events frame an engine's output", "", frame},
	{"note", "", note},
	{"stdin reaches the session's own engine", "", stdin},
	{"stdin waits for who does not read", "", stdinUnread},
	{"no stdin is empty stdin", "", noStdin},
	{"a terminal for the session's own engine", "Terminal", terminal},
}

func streams(w *world) {
	p := w.open()
	p.startMain()
	spec, _ := p.run(Print{"to stdout, ünïcödé"}, PrintErr{"to stderr"}, Print{"again"})
	p.expectStdout(spec.ID, "to stdout, ünïcödé\nagain\n")
	if got := p.text(spec.ID, console.Stderr); got != "to stderr\n" {
		w.t.Errorf("stderr %q", got)
	}
}

// complete reads at the moment of the exit's observation, without waiting for anything.
func complete(w *world) {
	const n = 20_000
	var want strings.Builder
	for i := range n {
		want.WriteString(strconv.Itoa(i) + "\n")
	}
	p := w.open()
	p.startMain()
	spec, _ := p.run(Numbers{n})
	if got := p.text(spec.ID, console.Stdout); got != want.String() {
		w.t.Errorf("%d bytes of output differ from the %d written", len(got), want.Len())
	}
}

func live(w *world) {
	p := w.open()
	p.startMain()
	spec := p.worker(Print{"ready"}, Hang{})
	p.start(spec)
	p.awaitText(spec.ID, "ready\n")
	p.stop(spec.ID, grace, "somebody")
	p.awaitExit(spec.ID)
}

func frame(w *world) {
	p := w.open()
	main := p.startMain()
	spec, _ := p.run(Print{"hello"}, Exit{7})
	records := p.records(spec.ID)
	if len(records) < 3 || records[0].Stream != console.Event || records[len(records)-1].Stream != console.Event {
		w.t.Fatalf("records of an engine: %+v", records)
	}
	events := p.events(spec.ID)
	first, last := events[0], events[len(events)-1]
	if first.Type != "engine" || first.Engine != string(spec.ID) || first.Role != "worker" || first.Address != spec.Address.String() || first.Name != spec.Name {
		w.t.Errorf("first event %+v", first)
	}
	if last.Type != "exit" || last.Code == nil || *last.Code != 7 || last.Status != string(engine.Failed) || last.Reason != string(engine.ReasonExitCode) || last.Message == "" {
		w.t.Errorf("last event %+v", last)
	}
	if e := p.events(main.ID); len(e) != 1 || e[0].Role != "session" {
		w.t.Errorf("events of the session's own engine %+v", e)
	}
}

func note(w *world) {
	p := w.open()
	main := p.startMain()
	ended, _ := p.run()
	for _, id := range []engine.ID{main.ID, ended.ID} {
		want := api.Event{Type: "notice", Engine: string(id), Message: "a sentence"}
		b, _ := json.Marshal(want)
		if err := p.s.Note(w.t.Context(), id, b); err != nil {
			w.t.Fatal(err)
		}
		if !slices.Contains(p.events(id), want) {
			w.t.Errorf("console of %s without the note: %+v", id, p.events(id))
		}
	}
	if err := p.s.Note(w.t.Context(), engine.NewID(), []byte("{}")); engine.KindOf(err) != engine.NotFound {
		w.t.Errorf("note to an engine that is not there: %v", err)
	}
}

func stdin(w *world) {
	p := w.open()
	spec := p.make(engine.RoleSession, CopyStdin{}, Print{"end of input"})
	spec.Stdin = true
	p.start(spec)
	p.write(spec.ID, 0, "first\n", false)
	p.awaitText(spec.ID, "first\n")
	p.write(spec.ID, -1, "second\n", false)
	if got := p.write(spec.ID, 6, "second\nthird\n", false); got != (driver.Stdin{Written: 19}) { // half of it was there already
		w.t.Errorf("%+v", got)
	}
	p.write(spec.ID, 0, "first\n", false)
	if _, err := p.s.WriteStdin(w.t.Context(), spec.ID, 20, []byte("x"), false); engine.KindOf(err) != engine.Conflict {
		w.t.Errorf("after bytes that are missing: %v", err)
	}
	other := p.worker(Hang{})
	p.start(other)
	if _, err := p.s.WriteStdin(w.t.Context(), other.ID, -1, []byte("x"), false); engine.KindOf(err) != engine.Conflict {
		w.t.Errorf("to an engine without stdin: %v", err)
	}
	if _, err := p.s.WriteStdin(w.t.Context(), engine.NewID(), -1, []byte("x"), false); engine.KindOf(err) != engine.NotFound {
		w.t.Errorf("to an engine that is not there: %v", err)
	}
	if got := p.write(spec.ID, -1, "", true); got != (driver.Stdin{Written: 19, Closed: true}) {
		w.t.Errorf("%+v", got)
	}
	expectExit(w, p.awaitExit(spec.ID), engine.ReasonSucceeded, 0, 0)
	p.expectStdout(spec.ID, "first\nsecond\nthird\nend of input\n")
}

// stdinUnread writes more than a pipe holds to an engine that does not read yet, gives up, and says it again.
func stdinUnread(w *world) {
	p := w.open()
	goOn := filepath.Join(p.project, "go")
	text := strings.Repeat("0123456789abcde\n", 1<<14) // 256 KB
	spec := p.make(engine.RoleSession, AwaitFile{goOn}, CopyStdin{})
	spec.Stdin = true
	p.start(spec)
	p.awaitStarted(spec.ID)
	for from := range 2 {
		ctx, cancel := context.WithCancel(w.t.Context())
		gaveUp := make(chan error)
		go func() {
			_, err := p.s.WriteStdin(ctx, spec.ID, int64(from), []byte(text)[from:], false)
			gaveUp <- err
		}()
		select {
		case err := <-gaveUp:
			w.t.Errorf("nobody read, and it was written: %v", err)
		case <-time.After(100 * time.Millisecond): // long enough to fill the pipe, most times
			cancel()
			if err := <-gaveUp; !errors.Is(err, context.Canceled) {
				w.t.Error(err)
			}
		}
		cancel()
	}
	if err := os.WriteFile(goOn, nil, 0o644); err != nil {
		w.t.Fatal(err)
	}
	if got := p.write(spec.ID, 0, text, true); got != (driver.Stdin{Written: int64(len(text)), Closed: true}) {
		w.t.Errorf("%+v", got)
	}
	p.awaitExit(spec.ID)
	p.expectStdout(spec.ID, text)
}

func noStdin(w *world) {
	p := w.open()
	p.startMain()
	spec, _ := p.run(CopyStdin{}, Print{"end of input"})
	p.expectStdout(spec.ID, "end of input\n")
}

// terminal types at an engine, resizes its terminal, and hangs up.
func terminal(w *world) {
	p := w.open()
	spec := p.make(engine.RoleSession, TerminalSize{}, ReadLine{}, TerminalSize{}, CopyStdin{})
	spec.Stdin, spec.Terminal = true, &driver.TerminalSize{Rows: 33, Cols: 101}
	p.start(spec)
	p.awaitText(spec.ID, "33 101")
	if err := p.s.Resize(w.t.Context(), spec.ID, driver.TerminalSize{Rows: 44, Cols: 222}); err != nil {
		w.t.Fatal(err)
	}
	p.write(spec.ID, 0, "\n", false)
	p.awaitText(spec.ID, "44 222")
	p.write(spec.ID, 1, "typed\n", false)
	p.awaitText(spec.ID, "typed")
	if err := p.s.Resize(w.t.Context(), engine.NewID(), driver.TerminalSize{Rows: 1, Cols: 1}); engine.KindOf(err) != engine.NotFound {
		w.t.Errorf("resize of an engine that is not there: %v", err)
	}
	p.endStdin(spec.ID)
	expectExit(w, p.awaitExit(spec.ID), engine.ReasonSignal, 129, 1)
	if got := p.text(spec.ID, console.Stderr); got != "" {
		w.t.Errorf("stderr %q", got)
	}
}

package drivertest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

var attachedCases = []testCase{
	{"attached: console and notes", "Attach", attachedConsole},
	{"attached: the process's end ends the session", "Attach", attachedEnds},
	{"attached: the session's end leaves the process alone", "Attach", attachedStays},
	{"attached: workers reach what the process listens on", "AttachReach", attachedReach},
	{"attached: a young worker's connect waits for the process", "AttachApart ConnectWait", attachedWait},
	{"attached: nothing else of the host is reached", "AttachApart", attachedForeign},
	{"attached: the process's ports are reached from the server", "AttachReach", attachedDial},
	{"attached: the process reaches workers", "AttachApart", attachedBack},
	{"attached: the process reaches the session's listener", "AttachReach", attachedListener},
	{"attached: recover after a restart", "AttachReach Survives", attachedRecovered},
}

// expectAlive looks whether the process still answers.
func (o *outside) expectAlive() {
	o.w.t.Helper()
	if got := o.tell("connect 127.0.0.1 1"); !strings.HasPrefix(got, "error") {
		o.w.t.Errorf("the process outside says %q", got)
	}
}

func attachedConsole(w *world) {
	p := w.attach(w.outside())
	if !p.s.Address().IsValid() {
		w.t.Errorf("address %s", p.s.Address())
	}
	id := p.spec.ID
	want := api.Event{Type: "notice", Engine: string(id), Message: "a sentence"}
	b, _ := json.Marshal(want)
	if err := p.s.Note(w.t.Context(), id, b); err != nil {
		w.t.Fatal(err)
	}
	if err := p.s.Signal(w.t.Context(), id, 2); engine.KindOf(err) != engine.NotFound {
		w.t.Errorf("signal to a process that is not the driver's: %v", err)
	}
	spec, e := p.run(Print{"hello"}, Exit{7})
	expectExit(w, e, engine.ReasonExitCode, 7, 0)
	p.expectStdout(spec.ID, "hello\n")
	p.end()
	events := p.events(id)
	if len(events) != 3 || events[1] != want {
		w.t.Fatalf("events of the session %+v", events)
	}
	first, last := events[0], events[2]
	if first.Type != "engine" || first.Role != "session" || first.Name != "outside" || first.Address != p.s.Address().String() {
		w.t.Errorf("first event %+v", first)
	}
	if last.Type != "exit" || last.Engine != string(id) || last.Status != string(engine.Stopped) || last.Message == "" {
		w.t.Errorf("last event %+v", last)
	}
}

func attachedEnds(w *world) {
	o := w.outside()
	p := w.attach(o)
	spec := p.worker(IgnoreTerm{}, Print{"ready"}, Hang{})
	p.start(spec)
	p.awaitText(spec.ID, "ready\n")
	o.kill()
	if e := p.awaitExit(spec.ID); e.Reason != engine.ReasonSessionEnded {
		w.t.Errorf("worker: %+v, want session ended", e)
	}
	awaitEnded(p)
}

func attachedStays(w *world) {
	o := w.outside()
	p := w.attach(o)
	spec := p.worker(Print{"ready"}, Hang{})
	p.start(spec)
	p.awaitText(spec.ID, "ready\n")
	p.end()
	if e := p.awaitExit(spec.ID); e.Reason != engine.ReasonSessionEnded {
		w.t.Errorf("worker: %+v, want session ended", e)
	}
	o.expectAlive()
	q := w.attach(o) // and may become one again
	spec, _ = q.run(Print{"again"})
	q.expectStdout(spec.ID, "again\n")
}

// attachedReach binds to all, to the loopback and in a descendant, before the worker starts.
func attachedReach(w *world) {
	o := w.outside()
	p := w.attach(o)
	a, b := o.serve("0.0.0.0", 0, "all"), o.serve("127.0.0.1", 0, "loopback")
	c := o.port("child serve 127.0.0.1 0 child")
	at := p.s.Address()
	spec, _ := p.run(Connect{at, a}, Connect{at, b}, Connect{at, c})
	p.expectStdout(spec.ID, "got all\ngot loopback\ngot child\n")
}

// attachedWait lets the process listen only when the worker is on its way.
func attachedWait(w *world) {
	o := w.outside()
	p := w.attach(o)
	for _, addr := range []string{"0.0.0.0", "127.0.0.1", p.s.Address().String()} {
		port := freePort(w)
		spec := p.worker(Print{"connecting"}, Connect{p.s.Address(), port})
		p.start(spec)
		p.awaitText(spec.ID, "connecting\n")
		o.serve(addr, port, "late")
		p.awaitExit(spec.ID)
		p.expectStdout(spec.ID, "connecting\ngot late\n")
	}
}

func freePort(w *world) int {
	w.t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// attachedForeign asks for ports of another process: the connections are reset, and the console says whose each is, once.
func attachedForeign(w *world) {
	o, other := w.outside(), w.outside()
	p, q := w.attach(o), w.attach(other)
	all, loopback := other.serve("0.0.0.0", 0, "secret"), other.serve("127.0.0.1", 0, "secret")
	at := p.s.Address()
	spec, _ := p.run(Connect{at, all}, Connect{at, loopback}, Connect{at, all}, Connect{q.s.Address(), all})
	if got := p.text(spec.ID, console.Stdout); strings.Contains(got, "secret") || strings.Count(got, "\n") != 4 {
		w.t.Errorf("a worker got %q", got)
	}
	theirs, _ := q.run(Connect{q.s.Address(), all})
	q.expectStdout(theirs.ID, "got secret\n")
	var notices []string
	for _, e := range p.events(p.spec.ID) {
		if e.Type == "notice" {
			notices = append(notices, e.Message)
		}
	}
	slices.Sort(notices)
	var want []string
	for _, port := range []int{all, loopback} {
		want = append(want, fmt.Sprintf("port %d of this machine belongs to another process (python3, pid %d): bind another port", port, other.pid()))
	}
	slices.Sort(want)
	for i := range notices {
		notices[i] = strings.Replace(notices[i], "(python,", "(python3,", 1)
	}
	if !slices.Equal(notices, want) {
		w.t.Errorf("notices %q, want %q", notices, want)
	}
}

// attachedDial connects to the process as to an engine; where ports are apart, to nothing else of the host.
func attachedDial(w *world) {
	o, other := w.outside(), w.outside()
	p := w.attach(o)
	for _, port := range []int{o.serve("127.0.0.1", 0, "loopback"), o.serve("0.0.0.0", 0, "all")} {
		c, err := p.s.Dial(w.t.Context(), p.spec.ID, port)
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := bufio.NewReader(c).ReadString('l'); err != nil {
			w.t.Errorf("dialled port %d: %v", port, err)
		}
		c.Close()
	}
	if _, err := p.s.Dial(w.t.Context(), p.spec.ID, freePort(w)); !errors.Is(err, syscall.ECONNREFUSED) {
		w.t.Errorf("dial to a port that nobody listens on: %v", err)
	}
	if !w.d.Capabilities().AttachApart {
		return
	}
	if c, err := p.s.Dial(w.t.Context(), p.spec.ID, other.serve("127.0.0.1", 0, "secret")); err == nil {
		c.Close()
		w.t.Error("dialled another process of the host")
	}
}

// attachedBack connects from two attached processes to workers that use the same port.
func attachedBack(w *world) {
	a, b := w.outside(), w.outside()
	p, q := w.attach(a), w.attach(b)
	one, two := p.worker(Serve{8786, "one"}), q.worker(Serve{8786, "two"})
	p.start(one)
	q.start(two)
	p.awaitText(one.ID, "listening\n")
	q.awaitText(two.ID, "listening\n")
	if got, want := a.tell("connect %s 8786", one.Address), "got one as "+p.s.Address().String(); got != want {
		w.t.Errorf("%q, want %q", got, want)
	}
	if got, want := b.tell("connect %s 8786", two.Address), "got two as "+q.s.Address().String(); got != want {
		w.t.Errorf("%q, want %q", got, want)
	}
	three, _ := q.run(Connect{one.Address, 8786}, Connect{two.Address, 8786})
	if got := q.text(three.ID, console.Stdout); strings.Contains(got, "got one") || !strings.HasSuffix(got, "got two\n") {
		w.t.Errorf("a worker of the other session got %q", got)
	}
}

func attachedListener(w *world) {
	o := w.outside()
	p := w.attach(o)
	l, at, err := p.s.Listen(w.t.Context(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() { say(l, "from the server\n") })
	if got := o.tell("connect %s %d", at.Addr(), at.Port()); !strings.HasPrefix(got, "got from the server") {
		w.t.Errorf("the process got %q", got)
	}
	l.Close()
	server.Wait()
}

func attachedRecovered(w *world) {
	o := w.outside()
	p := w.attach(o)
	port := o.serve("127.0.0.1", 0, "process")
	at := p.s.Address()
	w.d = w.f.Restart(w.t, w.d)
	p.mu.Lock()
	p.seen = nil
	p.mu.Unlock()
	h, spec := p.s.Handle(), p.spec
	spec.Owner, spec.Attached = nil, nil // the place knows
	var err error
	if p.s, err = w.d.Recover(w.t.Context(), spec, h); err != nil {
		w.t.Fatal(err)
	}
	if p.s.Address() != at {
		w.t.Errorf("address %s, was %s", p.s.Address(), at)
	}
	worker, _ := p.run(Connect{at, port})
	p.expectStdout(worker.ID, "got process\n")
	o.kill()
	p.await("the session's end", func(ob driver.Observation) bool { return ob.Kind == driver.Ended })
}

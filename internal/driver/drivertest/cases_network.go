package drivertest

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"

	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

var networkCases = []testCase{
	{"addresses are apart", "OwnAddress", addresses},
	{"two engines listen on the same port", "OwnAddress", samePort},
	{"workers reach their master and each other", "OwnAddress", reach},
	{"sessions cannot reach each other", "OwnAddress", apart},
	{"engines reach the session's listener", "", listener},
	{"the server is on every engine's own loopback", "Loopback", inside},
	{"a young worker's connect waits for its master", "ConnectWait", connectWait},
	{"dial into an engine", "", dial},
}

func specs(s ...driver.Spec) []driver.Spec { return s }

func addresses(w *world) {
	p := w.open()
	addrs, err := p.s.Reserve(50)
	if err != nil {
		w.t.Fatal(err)
	}
	seen := map[netip.Addr]bool{}
	for _, a := range addrs {
		if !a.Is4() || seen[a] {
			w.t.Errorf("address %s given twice, or no IPv4 address", a)
		}
		seen[a] = true
	}
	p.s.Release(addrs...)
	p.s.Release(addrs...) // harmless
}

func samePort(w *world) {
	p := w.open()
	p.startMain()
	a, b := p.worker(Serve{6000, "from a"}), p.worker(Serve{6000, "from b"})
	p.start(a, b)
	p.awaitText(a.ID, "listening\n")
	p.awaitText(b.ID, "listening\n")
	c, _ := p.run(Connect{a.Address, 6000}, Connect{b.Address, 6000})
	p.expectStdout(c.ID, "got from a\ngot from b\n")
}

func reach(w *world) {
	p := w.open()
	m := p.startMain(Serve{6000, "from the master"})
	p.awaitText(m.ID, "listening\n")
	a := p.worker(Connect{m.Address, 6000}, Serve{7000, "from the worker"})
	p.start(a)
	p.awaitText(a.ID, "listening\n")
	p.expectStdout(a.ID, "got from the master\nlistening\n")
	b, _ := p.run(Connect{a.Address, 7000}, Connect{a.Address, 7001})
	if got := p.text(b.ID, console.Stdout); !strings.HasPrefix(got, "got from the worker\nno connection: ") {
		w.t.Errorf("stdout %q: want an answer, then a refusal", got)
	}
}

func apart(w *world) {
	p, q := w.open(), w.open()
	p.startMain()
	q.startMain()
	// Both places may give the same addresses: take one that the other has not.
	if _, err := p.s.Reserve(10); err != nil {
		w.t.Fatal(err)
	}
	a := p.worker(Serve{6000, "secret"})
	p.start(a)
	p.awaitText(a.ID, "listening\n")
	b, _ := q.run(Connect{a.Address, 6000})
	if got := q.text(b.ID, console.Stdout); !strings.HasPrefix(got, "no connection: ") {
		w.t.Errorf("from another session: %q", got)
	}
}

func listener(w *world) {
	p := w.open()
	p.startMain()
	ctx, cancel := context.WithTimeout(w.t.Context(), Deadline)
	defer cancel()
	l, at, err := p.s.Listen(ctx, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() { say(l, "from the server\n") })
	spec, _ := p.run(Connect{at.Addr(), int(at.Port())})
	p.expectStdout(spec.ID, "got from the server\n")
	q := w.open()
	q.startMain()
	other, _ := q.run(Connect{at.Addr(), int(at.Port())})
	if got := q.text(other.ID, console.Stdout); w.d.Capabilities().OwnAddress && strings.Contains(got, "from the server") {
		w.t.Errorf("another session's engine reached the listener: %q", got)
	}
	l.Close()
	server.Wait()
}

// insidePort is the port of driver.Inside in all places of the suite.
const insidePort = 20202

// sayInside is what every engine's loopback answers at insidePort.
func sayInside(l net.Listener) { say(l, "from inside\n") }

// say tells it to whoever connects, until the listener is closed.
func say(l net.Listener, text string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Write([]byte(text))
		c.Close()
	}
}

// inside asks on the loopback of two engines, one after the other, and on another engine's address.
func inside(w *world) {
	p := w.open()
	p.startMain()
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for range 2 {
		spec, _ := p.run(Connect{loopback, insidePort})
		p.expectStdout(spec.ID, "got from inside\n")
	}
	other := p.worker(Hang{})
	p.start(other)
	p.awaitStarted(other.ID)
	spec, _ := p.run(Connect{other.Address, insidePort}) // not from one engine to another
	if got := p.text(spec.ID, console.Stdout); strings.Contains(got, "from inside") {
		w.t.Errorf("another engine's loopback answered: %q", got)
	}
}

// connectWait starts the worker first and lets its master listen only when the worker is on its way.
func connectWait(w *world) {
	p := w.open()
	fifo := p.make(engine.RoleSession, CopyStdin{}, Serve{6000, "from the master"})
	fifo.Stdin = true
	p.start(fifo)
	p.awaitStarted(fifo.ID)
	a := p.worker(Print{"connecting"}, Connect{fifo.Address, 6000})
	p.start(a)
	p.awaitText(a.ID, "connecting\n")
	p.endStdin(fifo.ID) // only now the master goes on to listen
	p.awaitExit(a.ID)
	p.expectStdout(a.ID, "connecting\ngot from the master\n")
}

func dial(w *world) {
	p := w.open()
	p.startMain()
	a := p.worker(Serve{8090, "from an app"})
	p.start(a)
	p.awaitText(a.ID, "listening\n")
	ctx, cancel := context.WithTimeout(w.t.Context(), Deadline)
	defer cancel()
	c, err := p.s.Dial(ctx, a.ID, 8090)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "from an app\n" {
		w.t.Errorf("dialled: %q, %v", line, err)
	}
	if _, err := p.s.Dial(ctx, a.ID, 8091); !errors.Is(err, syscall.ECONNREFUSED) {
		w.t.Errorf("dial to a port that nobody listens on: %v", err)
	}
	if _, err := p.s.Dial(ctx, engine.NewID(), 8090); engine.KindOf(err) != engine.NotFound {
		w.t.Errorf("dial into an engine that is not there: %v", err)
	}
}

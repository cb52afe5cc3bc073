package hub

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"muster/engine"
	"muster/internal/linux/netns"
)

// startResolver is a name server on the host: it knows names with a final dot, and says of others that they do not exist.
// It counts the questions.
func startResolver(t *testing.T, addr string, known map[string]string) *atomic.Int64 {
	t.Helper()
	var asked atomic.Int64
	udp, err := net.ListenPacket("udp", addr)
	must(t, err)
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			asked.Add(1)
			udp.WriteTo([]byte("\x00\x00 no answer to this"), from) // noise that has to be passed over
			udp.WriteTo(resolve(t, buf[:n], known), from)
		}
	})
	t.Cleanup(func() { udp.Close(); wg.Wait() })
	serve(t, tcp, func(c net.Conn) {
		for {
			query, err := readTCP(c)
			if err != nil {
				return
			}
			asked.Add(1)
			writeTCP(c, resolve(t, query, known))
		}
	})
	return &asked
}

func resolve(t *testing.T, query []byte, known map[string]string) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		t.Errorf("the host's resolver was sent %x: %v", query, err)
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	ip, ok := known[q.Name.String()]
	switch {
	case !ok:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(ip).As4()},
		}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return b
}

// resolver is Go's own DNS client, run in the engine.
func (p place) resolver(h *Hub, network string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (c net.Conn, err error) {
		err = netns.Do(p.ns, func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, netip.AddrPortFrom(h.Gateway(), 53).String())
			return err
		})
		return c, err
	}}
}

// ask sends one message and returns the answer.
func (p place) ask(h *Hub, query []byte) []byte {
	p.t.Helper()
	c, err := p.resolver(h, "udp").Dial(p.t.Context(), "", "")
	must(p.t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(deadline))
	_, err = c.Write(query)
	must(p.t, err)
	buf := make([]byte, maxMessage)
	n, err := c.Read(buf)
	must(p.t, err)
	return buf[:n]
}

func newQuery(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	must(t, err)
	return b
}

// to makes a Dial that goes to one address whatever the resolver's.
func to(addr string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

func resolvConf(t *testing.T, servers ...string) string {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	var text bytes.Buffer
	for _, s := range servers {
		fmt.Fprintln(&text, "nameserver", s)
	}
	must(t, os.WriteFile(path, text.Bytes(), 0o644))
	return path
}

// The session's own names are answered here: forwards, backwards, by UDP and TCP, whatever their case, and no more when
// their address is released.
func TestNames(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	must(t, h.ServeDNS(DNSOptions{ResolvConf: filepath.Join(t.TempDir(), "none")}))
	e := attach(t, h, 2)
	must(t, h.Name("worker-One", e[0].addr))
	must(t, h.Name("two.session.", e[1].addr))
	for _, network := range []string{"udp", "tcp"} {
		r := e[1].resolver(h, network)
		for name, want := range map[string]netip.Addr{
			"worker-one.": e[0].addr, "WORKER-ONE.": e[0].addr, "two.session.": e[1].addr,
			"abc.localhost.": netip.MustParseAddr("127.0.0.1"),
		} {
			if got, err := r.LookupHost(t.Context(), name); err != nil || len(got) != 1 || got[0] != want.String() {
				t.Errorf("%s by %s: %v, %v; want %s", name, network, got, err, want)
			}
		}
		if got, err := r.LookupAddr(t.Context(), e[0].addr.String()); err != nil || !slices.Equal(got, []string{"worker-one."}) {
			t.Errorf("name of %s: %v, %v", e[0].addr, got, err)
		}
		var dnsErr *net.DNSError
		if got, err := r.LookupAddr(t.Context(), "100.100.99.99"); !errors.As(err, &dnsErr) || !dnsErr.IsNotFound {
			t.Errorf("name of an address that nobody has: %v, %v", got, err)
		}
	}
	var m dnsmessage.Message
	must(t, m.Unpack(e[0].ask(h, newQuery(t, "worker-one.", dnsmessage.TypeAAAA))))
	if m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 0 || m.ID != 4711 {
		t.Errorf("AAAA of a name: %v", m.GoString())
	}
	h.Release(e[0].addr, e[1].addr)
	for _, name := range []string{"worker-one.", "two.session."} {
		must(t, m.Unpack(e[1].ask(h, newQuery(t, name, dnsmessage.TypeA))))
		if m.RCode != dnsmessage.RCodeServerFailure {
			t.Errorf("%s is still answered: %v", name, m.GoString())
		}
	}
	for name, addr := range map[string]string{
		"": "100.100.0.2", "a..b": "100.100.0.2", "with space": "100.100.0.2", "ok": "8.8.8.8",
		string(bytes.Repeat([]byte("a"), 64)): "100.100.0.2",
	} {
		if err := h.Name(name, netip.MustParseAddr(addr)); engine.KindOf(err) != engine.Invalid {
			t.Errorf("Name(%q, %s): %v", name, addr, err)
		}
	}
}

// Without resolvers, or when none is there, engines are told so at once.
func TestNoResolvers(t *testing.T) {
	conf := resolvConf(t)
	h := newTestHub(t, "100.100.0.0/16")
	dials := make(chan string, 10)
	must(t, h.ServeDNS(DNSOptions{
		ResolvConf: conf, Timeout: time.Hour,
		Dial: func(_ context.Context, network, address string) (net.Conn, error) {
			dials <- network + " " + address
			return nil, errors.New("no such luck")
		},
	}))
	e := attach(t, h, 1)[0]
	query := newQuery(t, "www.example.org.", dnsmessage.TypeA)
	failed := func() {
		t.Helper()
		var m dnsmessage.Message
		must(t, m.Unpack(e.ask(h, query)))
		if m.RCode != dnsmessage.RCodeServerFailure || m.ID != 4711 || !m.Response || !m.RecursionDesired ||
			len(m.Questions) != 1 || m.Questions[0].Name.String() != "www.example.org." {
			t.Errorf("answer %v", m.GoString())
		}
	}
	failed()
	if len(dials) != 0 {
		t.Errorf("asked %s without a resolver", <-dials)
	}
	must(t, os.WriteFile(conf, []byte("nameserver 192.0.2.1\nnameserver 2001:db8::1\n"), 0o644)) // read again
	failed()
	if a, b := <-dials, <-dials; a != "udp 192.0.2.1:53" || b != "udp [2001:db8::1]:53" {
		t.Errorf("asked %s and %s", a, b)
	}
}

// A resolver that is silent or cannot is passed over.
func TestNextResolver(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	unable, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1000)
		for {
			n, from, err := unable.ReadFrom(buf)
			if err != nil {
				return
			}
			buf[2], buf[3] = 0x81, 0x85 // an answer: refused
			unable.WriteTo(buf[:n], from)
		}
	})
	defer func() { unable.Close(); wg.Wait() }()
	good, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	addr := good.LocalAddr().String()
	good.Close()
	startResolver(t, addr, map[string]string{"www.example.org.": websiteIP})
	h := newTestHub(t, "100.100.0.0/16")
	must(t, h.ServeDNS(DNSOptions{
		ResolvConf: resolvConf(t, "192.0.2.1", "192.0.2.2", "192.0.2.3"), Timeout: time.Second / 4,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			real := map[string]string{
				"192.0.2.1:53": silent.LocalAddr().String(), "192.0.2.2:53": unable.LocalAddr().String(), "192.0.2.3:53": addr,
			}
			return to(real[address])(ctx, network, "")
		},
	}))
	e := attach(t, h, 1)[0]
	got, err := e.resolver(h, "udp").LookupHost(t.Context(), "www.example.org.")
	if err != nil || len(got) != 1 || got[0] != websiteIP {
		t.Errorf("%v, %v", got, err)
	}
}

// Many engines ask many things at once; each gets its own answer, and never more than 64 are with the host's resolver.
func TestManyQuestions(t *testing.T) {
	known := map[string]string{}
	for i := range 200 {
		known[fmt.Sprintf("n%d.example.org.", i)] = fmt.Sprintf("203.0.113.%d", i%250)
	}
	asked := startResolver(t, "127.0.0.1:45353", known)
	h := newTestHub(t, "100.100.0.0/16")
	var open, most atomic.Int64
	must(t, h.ServeDNS(DNSOptions{
		ResolvConf: resolvConf(t, "192.0.2.1"), Timeout: deadline,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			n := open.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			c, err := to("127.0.0.1:45353")(ctx, network, "")
			return &counted{Conn: c, n: &open}, err
		},
	}))
	e := attach(t, h, 1)[0]
	var wg sync.WaitGroup
	for name, ip := range known {
		wg.Go(func() {
			var m dnsmessage.Message
			if err := m.Unpack(e.ask(h, newQuery(t, name, dnsmessage.TypeA))); err != nil {
				t.Error(err)
				return
			}
			if len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.AResource).A != netip.MustParseAddr(ip).As4() {
				t.Errorf("%s: %v", name, m.GoString())
			}
		})
	}
	wg.Wait()
	if most.Load() > askedAtOnce || asked.Load() != 200 {
		t.Errorf("%d questions, up to %d at once", asked.Load(), most.Load())
	}
}

type counted struct {
	net.Conn
	n    *atomic.Int64
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.n.Add(-1) })
	return c.Conn.Close()
}

// Rubbish is answered with a format error or not at all, and the service goes on.
func TestRubbish(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	must(t, h.ServeDNS(DNSOptions{ResolvConf: resolvConf(t)}))
	e := attach(t, h, 1)[0]
	must(t, h.Name("one", e.addr))
	good := newQuery(t, "one.", dnsmessage.TypeA)
	two := bytes.Clone(good)
	two[5] = 2
	if got := e.ask(h, two); got[3]&0xf != codeFormat {
		t.Errorf("two questions: %x", got)
	}
	c, err := e.resolver(h, "udp").Dial(t.Context(), "", "")
	must(t, err)
	defer c.Close()
	response := bytes.Clone(good)
	response[2] |= 0x80
	for _, msg := range [][]byte{{}, {1}, make([]byte, 11), response, good} {
		_, err := c.Write(msg)
		must(t, err)
	}
	c.SetDeadline(time.Now().Add(deadline))
	buf := make([]byte, 1000)
	n, err := c.Read(buf)
	must(t, err)
	if n < headerSize || binary.BigEndian.Uint16(buf) != 4711 || buf[7] != 1 {
		t.Errorf("the first answer is %x, want the one to the last question", buf[:n])
	}
}

func TestParseResolvers(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "[]",
		"nameserver 1.2.3.4":          "[1.2.3.4:53]",
		"# nameserver 1.2.3.4\n;\n":   "[]",
		"search a b\nnameserver\t::1": "[[::1]:53]",
		"nameserver fe80::1%eth0\n":   "[[fe80::1%eth0]:53]",
		"nameserver x\nnameserver 1.1.1.1 # c\nnameserver 2.2.2.2\r\nnameserver 3.3.3.3\nnameserver 4.4.4.4": "[1.1.1.1:53 2.2.2.2:53 3.3.3.3:53]",
	} {
		if got := fmt.Sprint(parseResolvers([]byte(text))); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// FuzzQuestion: no message breaks the parser, and what it reads is what a full DNS parser reads.
func FuzzQuestion(f *testing.F) {
	f.Add(newQuery(f, "www.example.org.", dnsmessage.TypeA))
	f.Add(newQuery(f, ".", dnsmessage.TypeNS))
	f.Add(newQuery(f, "7.0.100.100.in-addr.arpa.", dnsmessage.TypePTR))
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	n := newNames(netip.MustParsePrefix("100.100.0.0/16"))
	n.byName["www.example.org"] = netip.MustParseAddr("100.100.0.7")
	n.byAddr[netip.MustParseAddr("100.100.0.7")] = "www.example.org"
	f.Fuzz(func(t *testing.T, msg []byte) {
		q, err := parseQuestion(msg)
		if err != nil {
			return
		}
		var p dnsmessage.Parser
		if _, err := p.Start(msg); err != nil {
			t.Fatalf("parsed %x, but: %v", msg, err)
		}
		theirs, err := p.Question()
		if err == nil && (uint16(theirs.Type) != q.kind || uint16(theirs.Class) != q.class) {
			t.Fatalf("read %v, want %v", q, theirs)
		}
		for _, out := range [][]byte{reply(msg, q, codeServer), n.answer(msg, q)} {
			if out == nil {
				continue
			}
			var m dnsmessage.Message
			if uerr := m.Unpack(out); uerr != nil && err == nil {
				t.Fatalf("%x is answered with %x: %v", msg, out, uerr)
			}
		}
	})
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1\nnameserver fe80::1%eth0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if servers := parseResolvers(text); len(servers) > 3 {
			t.Fatalf("%d servers", len(servers))
		}
	})
}

// A query by UDP that is larger than any resolver takes is not kept, and not answered: thousands of them may wait.
func TestDNSLargeQueries(t *testing.T) {
	h := newTestHub(t, "100.100.0.0/16")
	must(t, h.ServeDNS(DNSOptions{ResolvConf: resolvConf(t)}))
	e := attach(t, h, 1)[0]
	must(t, h.Name("worker-one", e.addr))
	query := newQuery(t, "worker-one.", dnsmessage.TypeA)
	sized := func(n int) []byte { return append(bytes.Clone(query), make([]byte, n-len(query))...) }
	large, largest := sized(maxQuery+1), sized(maxQuery)
	large[0], largest[0] = 1, 2 // the number by which the answer is recognised
	c, err := e.resolver(h, "udp").Dial(t.Context(), "", "")
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(deadline))
	for _, q := range [][]byte{large, largest} {
		_, err = c.Write(q)
		must(t, err)
	}
	buf := make([]byte, maxMessage)
	n, err := c.Read(buf)
	must(t, err)
	if n < headerSize || buf[0] != 2 {
		t.Errorf("the first answer is % x, want the one to the smaller query", buf[:min(n, headerSize)])
	}
}

package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
)

// A script that launches 200 times a second for a minute, and asks as often what became of it, is never held up; one that asks
// without pause is, and its neighbour is not.
func TestHonestScriptsAreNotHeldUp(t *testing.T) {
	r := newRates()
	now := time.Unix(1000, 0)
	r.now = func() time.Time { return now }
	for i := range 60 * 400 {
		now = now.Add(time.Second / 400)
		if wait := r.take("honest"); wait != 0 {
			t.Fatalf("request %d waits %v", i, wait)
		}
	}
	refused := 0
	for range 2 * requestsAtOnce {
		if r.take("greedy") > 0 {
			refused++
		}
	}
	if refused != requestsAtOnce {
		t.Errorf("%d of %d were refused", refused, 2*requestsAtOnce)
	}
	if r.take("neighbour") != 0 {
		t.Error("the neighbour waits")
	}
	now = now.Add(time.Second)
	for range requestsPerSecond {
		if r.take("greedy") != 0 {
			t.Fatal("a second later nothing is left")
		}
	}
	if r.take("greedy") == 0 {
		t.Error("more than a second's came back")
	}
	for i := range 2 * maxBuckets {
		now = now.Add(time.Second)
		r.take(engine.ID(fmt.Sprint(i)))
	}
	if len(r.of) > maxBuckets {
		t.Errorf("%d senders are remembered", len(r.of))
	}
}

func TestTooManyRequests(t *testing.T) {
	k, base := shared(t, &stub{})
	hers, _ := k.of(t, alice, 0)
	his, _ := k.of(t, bob, 0)
	s := k.server
	s.rates.perSecond, s.rates.atOnce = 1.0/3600, 3
	for i := range 5 {
		status, body := ask(t, "GET", base+"/sessions", hers, "")
		if want := 200; i >= 3 {
			want = 429
			if errorOf(t, body).Hint == "" || status != want {
				t.Errorf("request %d: %d %s", i, status, body)
			}
		} else if status != want {
			t.Errorf("request %d: %d %s", i, status, body)
		}
	}
	for who, secret := range map[string]string{"another user": his, "the owner": ownerToken} {
		if status, body := ask(t, "GET", base+"/sessions", secret, ""); status != 200 {
			t.Errorf("%s: %d %s", who, status, body)
		}
	}
	for range 5 {
		if status, body := ask(t, "GET", base+"/sessions", ownerToken, ""); status != 200 {
			t.Errorf("the owner: %d %s", status, body)
		}
	}
}

// people serves a stub behind peers.
func people(t *testing.T, peers *Peers, configure func(*http.Server)) string {
	t.Helper()
	s := New(Config{Manager: &stub{}, Version: "1.2.3"})
	h := s.HTTP()
	if configure != nil {
		configure(h)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { h.Serve(peers.ForPeople(l)); close(served) }()
	t.Cleanup(func() { s.Close(); h.Close(); <-served })
	return l.Addr().String()
}

// answer asks for the version on a new connection from an address of this machine.
func answer(t *testing.T, from, to string) (string, net.Conn) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "GET /muster/v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error(), c
	}
	return strings.TrimSpace(line), c
}

// Whoever opens thousands of connections and is silent has so many and no more; everybody else is answered, and so is he when
// he has closed them.
func TestIdleConnectionsKeepNobodyAway(t *testing.T) {
	peers := &Peers{most: 50}
	address := people(t, peers, nil)
	var idle []net.Conn
	for range 500 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	eventually(t, "those over the bound are refused", func() bool { return peers.refused.Load() == 450 })
	if said, _ := answer(t, "127.0.0.1", address); !strings.Contains(said, "503") && !strings.Contains(said, "reset") && !strings.Contains(said, "EOF") {
		t.Errorf("one more: %s", said)
	}
	over, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	over.SetDeadline(time.Now().Add(patience))
	resp, err := http.ReadResponse(bufio.NewReader(over), nil) // to a request that is not sent: no reset takes its reply away
	if err != nil {
		t.Fatal(err)
	}
	var told api.Error // by this clients know the reply for a server's
	if err := json.NewDecoder(resp.Body).Decode(&told); err != nil || resp.Header.Get(api.HeaderVersion) != "1" || told.Kind != "unavailable" {
		t.Errorf("%v %+v %v", resp.Header, told, err)
	}
	for range 20 {
		if said, _ := answer(t, "127.0.0.2", address); !strings.Contains(said, "200") {
			t.Fatalf("another address: %s", said)
		}
	}
	for _, c := range idle {
		c.Close()
	}
	eventually(t, "he is answered again", func() bool {
		said, c := answer(t, "127.0.0.1", address)
		c.Close()
		return strings.Contains(said, "200")
	})
}

// Headers that come a byte at a time are not waited for, and those without end are refused.
func TestHeadersInTime(t *testing.T) {
	if h := New(Config{Manager: &stub{}}).HTTP(); h.ReadHeaderTimeout != headerTimeout || h.IdleTimeout != idleTimeout || h.MaxHeaderBytes != maxHeaderBytes {
		t.Errorf("%v %v %d", h.ReadHeaderTimeout, h.IdleTimeout, h.MaxHeaderBytes)
	}
	address := people(t, &Peers{}, func(h *http.Server) { h.ReadHeaderTimeout = 200 * time.Millisecond })
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stop := make(chan struct{})
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		fmt.Fprint(c, "GET /muster/v1/version HTTP/1.1\r\n")
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if _, err := fmt.Fprint(c, "X-A: b\r\n"); err != nil {
					return
				}
			case <-stop:
				return
			}
		}
	}()
	c.SetReadDeadline(time.Now().Add(patience))
	said, err := io.ReadAll(c)
	close(stop)
	<-fed
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Fatalf("it is still waited for: %q", said)
	}
	if strings.Contains(string(said), "200") {
		t.Errorf("answered: %q", said)
	}

	c, err = net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET /muster/v1/version HTTP/1.1\r\nHost: localhost\r\nX-Large: %s\r\n\r\n", strings.Repeat("x", 2*maxHeaderBytes))
	line, _ := bufio.NewReader(c).ReadString('\n')
	if !strings.Contains(line, "431") {
		t.Errorf("large headers: %q", line)
	}
}

// Who has all addresses of a network counts once.
func TestWhoseAddress(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "127.0.0.1": "127.0.0.1", "::1": "::1", "::ffff:192.0.2.7": "192.0.2.7",
		"2001:db8:1:2:aaaa::1": "2001:db8:1:2::/64", "2001:db8:1:2:ffff:1:2:3": "2001:db8:1:2::/64", "2001:db8:1:3::1": "2001:db8:1:3::/64",
	} {
		if got := whose(net.ParseIP(ip)); got != want {
			t.Errorf("%s: %s, want %s", ip, got, want)
		}
	}
}

package netns

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 30 * time.Second

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test makes network namespaces")
	}
}

func newNS(t *testing.T) *os.File {
	t.Helper()
	requireRoot(t)
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// eventually waits for a condition that no channel tells.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", deadline, what)
		}
	}
}

// namespaces returns the network namespaces that this process holds by threads and descriptors.
func namespaces(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, pattern := range []string{"/proc/self/task/*/ns/net", "/proc/self/fd/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			if to, err := os.Readlink(p); err == nil && len(to) > 5 && to[:5] == "net:[" {
				found[to] = true
			}
		}
	}
	return found
}

// same reports whether a and b are descriptors of one namespace.
func same(t *testing.T, a, b *os.File) bool {
	t.Helper()
	x, err := a.Stat()
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(x, y)
}

func TestNewIsEmptyAndOurs(t *testing.T) {
	ns := newNS(t)
	own, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if same(t, ns, own) {
		t.Fatal("the new namespace is the process's own")
	}
	err = Do(ns, func() error {
		here, err := Current()
		if err != nil {
			return err
		}
		defer here.Close()
		if !same(t, ns, here) {
			t.Error("inside Do is another namespace")
		}
		ifs, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, i := range ifs {
			if a, _ := i.Addrs(); len(a) > 0 {
				t.Errorf("fresh namespace: %s has addresses %v", i.Name, a)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDoReturnsTheError(t *testing.T) {
	ns := newNS(t)
	want := errors.New("seven")
	if err := Do(ns, func() error { return want }); !errors.Is(err, want) {
		t.Fatalf("err = %v", err)
	}
	if err := Do(ns, func() error { runtime.Goexit(); return nil }); !errors.Is(err, ErrNotRun) {
		t.Fatalf("err = %v, want ErrNotRun", err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Do(f, func() error { t.Error("fn ran"); return nil }); !errors.Is(err, unix.EINVAL) {
		t.Fatalf("err = %v, want EINVAL for a descriptor that is no namespace", err)
	}
}

// A failing setup leaves no namespace behind.
func TestNewWithFails(t *testing.T) {
	requireRoot(t)
	want := errors.New("seven")
	var kept *os.File
	ns, err := NewWith(func(ns *os.File) error { kept = ns; return want })
	if !errors.Is(err, want) || ns != nil {
		t.Fatalf("NewWith = %v, %v", ns, err)
	}
	if err := kept.Close(); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("the descriptor was still open: %v", err)
	}
}

// The loopback of one namespace is its own: two listen on the same port, and each reaches itself.
func TestTwoNamespacesOnePort(t *testing.T) {
	addr := netip.MustParseAddrPort("127.0.0.1:6000")
	for _, text := range []string{"one", "two"} {
		ns := newNS(t)
		if c, err := DialTCP(t.Context(), ns, addr); !errors.Is(err, unix.ENETUNREACH) {
			t.Fatalf("dial while lo is down: %v, %v; want ENETUNREACH", c, err)
		}
		if err := Do(ns, LoHere); err != nil {
			t.Fatal(err)
		}
		l, err := ListenTCP(ns, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			if c, err := l.Accept(); err == nil {
				io.WriteString(c, text)
				c.Close()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		c, err := DialTCP(ctx, ns, addr)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		c.Close()
		wg.Wait()
		if err != nil || string(got) != text {
			t.Fatalf("read %q, %v; want %q", got, err, text)
		}
	}
}

func TestUDPInNamespace(t *testing.T) {
	ns := newNS(t)
	if err := Do(ns, LoHere); err != nil {
		t.Fatal(err)
	}
	a, err := ListenUDP(ns, netip.MustParseAddrPort("127.0.0.1:53"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := ListenUDP(ns, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.WriteToUDPAddrPort([]byte("hi"), netip.MustParseAddrPort("127.0.0.1:53")); err != nil {
		t.Fatal(err)
	}
	a.SetReadDeadline(time.Now().Add(deadline))
	buf := make([]byte, 10)
	n, _, err := a.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "hi" {
		t.Fatalf("read %q, %v", buf[:n], err)
	}
}

// The context ends a connect that nobody answers.
func TestDialEnds(t *testing.T) {
	ns := newNS(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := DialTCP(ctx, ns, netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Fatal("no error")
	}
}

// Many at once leave no thread in a foreign namespace and no descriptor behind; ordinary goroutines never see one.
func TestNothingLeftBehind(t *testing.T) {
	requireRoot(t)
	fds := func() int { e, _ := os.ReadDir("/proc/self/fd"); return len(e) }
	start := fds()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				ns, err := New()
				if err != nil {
					t.Error(err)
					return
				}
				if err := Do(ns, LoHere); err != nil {
					t.Error(err)
				}
				ns.Close()
				if here, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || here != own {
					t.Errorf("an ordinary goroutine is in %s, %v; want %s", here, err, own)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "threads leave the namespaces", func() bool { return len(namespaces(t)) <= 1 })
	eventually(t, "descriptors are closed", func() bool { return fds() <= start })
}

package manager_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
)

// What people who open an engine's address are told of it, from launch to end.
func TestFindFollowsAnEngine(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 1e9, CPU: 4}))
	s, err := b.CreateSession(t.Context(), api.CreateSession{Name: "train", Code: "hang", Project: b.project})
	if err != nil {
		t.Fatal(err)
	}
	session := engine.ID(s.ID)
	if f, ok := b.Find(session); !ok || f.ID != session || f.Session != session || f.Name != "train" || f.Role != engine.RoleSession {
		t.Errorf("the session's own: %+v %v", f, ok)
	}
	first := engine.ID(b.launch(session, api.LaunchWorkers{N: 1, CPU: 1, Memory: 1, Code: "exit 3", Name: "w"})[0].ID)
	b.awaitEnd(session, string(first))
	if f, ok := b.Find(first); !ok || f.Session != session || f.Name != "w" || f.Role != engine.RoleWorker || f.Status != engine.Failed || f.Why == "" {
		t.Errorf("a failed worker: %+v %v", f, ok)
	} else {
		closed(t, f.Done)
	}

	runs := engine.ID(b.launch(session, worker(1, "hang"))[0].ID)
	b.awaitRunning(session, string(runs))
	waits := engine.ID(b.launch(session, worker(1, "hang"))[0].ID)
	f, _ := b.Find(waits)
	if f.Status != engine.Scheduling || !strings.Contains(f.Why, "waits for 1 GB") {
		t.Errorf("a worker without room: %+v", f)
	}
	select {
	case <-f.Done:
		t.Error("it waits, and has ended")
	default:
	}
	again, _ := b.Find(waits)
	b.stop(session, string(waits))
	closed(t, f.Done)
	closed(t, again.Done)
	for _, id := range []engine.ID{"", engine.NewID(), runs[:8]} { // the whole id: it is what keeps strangers away
		if f, ok := b.Find(id); ok {
			t.Errorf("%q is %+v", id, f)
		}
	}
}

func closed(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(deadline):
		t.Fatal("the end was not told")
	}
}

func TestDialReachesTheEngineThatIsMeant(t *testing.T) {
	b := newBench(t)
	one, two := b.session(), b.session()
	id := engine.ID(b.launch(one, worker(1, "serve 8090 of the first"))[0].ID)
	other := engine.ID(b.launch(two, worker(1, "serve 8090 of the second"))[0].ID)
	b.awaitRunning(one, string(id))
	b.awaitRunning(two, string(other))
	for id, want := range map[engine.ID]string{id: "of the first\n", other: "of the second\n"} {
		var c net.Conn
		for end := time.Now().Add(deadline); ; time.Sleep(time.Millisecond) { // it runs, and is about to listen
			var err error
			if c, err = b.Dial(t.Context(), id, 8090); err == nil {
				break
			}
			if !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(end) {
				t.Fatalf("%v: it must be a refusal", err)
			}
		}
		if text, err := io.ReadAll(c); err != nil || string(text) != want {
			t.Errorf("%q, %v; want %q", text, err, want)
		}
		c.Close()
	}
	if _, err := b.Dial(t.Context(), one, 8090); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("where nobody listens: %v", err)
	}
	if _, err := b.Dial(t.Context(), engine.NewID(), 8090); engine.KindOf(err) != engine.NotFound {
		t.Errorf("an unknown engine: %v", err)
	}
	b.stop(one, string(id))
	b.awaitEnd(one, string(id))
	if c, err := b.Dial(t.Context(), id, 8090); err == nil {
		c.Close()
		t.Error("an engine that has ended is reached")
	}
}

// opens is a driver that keeps what sessions are opened with.
type opens struct {
	driver.Driver
	mu    sync.Mutex
	specs []driver.SessionSpec
	tells func(driver.Observation) driver.Observation // what is told in place of it; nil: the same
}

func (o *opens) Open(ctx context.Context, spec driver.SessionSpec) (driver.Session, error) {
	o.mu.Lock()
	o.specs = append(o.specs, spec)
	o.mu.Unlock()
	if observe := spec.Observe; o.tells != nil {
		spec.Observe = func(seen driver.Observation) { observe(o.tells(seen)) }
	}
	return o.Driver.Open(ctx, spec)
}

// The port of the address for people is served in every engine, for its session; not where engines share the machine's.
func TestEnginesFindTheAddressForPeople(t *testing.T) {
	for _, c := range []struct {
		web      string
		loopback bool
		port     int
	}{{"localhost:20202", true, 20202}, {"[::1]:80", true, 80}, {"localhost:20202", false, 0}, {"", true, 0}} {
		seen := &opens{}
		served := make(chan engine.ID, 1)
		b := newBench(t, func(m *manager.Config, f *fake.Options) {
			m.Web = c.web
			m.Serve = func(id engine.ID, l net.Listener) {
				if l == nil { // the test's, below
					served <- id
				}
			}
			f.Claim = func(caps *driver.Capabilities) { caps.Loopback = c.loopback }
			m.Driver = seen
		})
		id := b.session()
		inside := seen.specs[0].Inside
		if c.port == 0 {
			if inside != nil {
				t.Errorf("%+v: %+v", c, inside)
			}
			continue
		}
		if inside == nil || inside.Port != c.port {
			t.Fatalf("%+v: %+v", c, inside)
		}
		inside.Serve(nil)
		if got := <-served; got != id {
			t.Errorf("served as session %s, want %s", got, id)
		}
		if d := b.engine(string(id)); d.AppURL != "http://"+string(id)+"."+c.web+"/" {
			t.Errorf("app_url %s", d.AppURL)
		}
	}
}

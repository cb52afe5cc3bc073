package local

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/pidfd"
)

// The init of an adopted engine may have ended, and its number be another process's, before its network was opened: then nothing is
// served in that one's network, and nobody is led there.
func TestAdoptedEngineWhoseNumberIsAnothers(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		if r.name == Plain {
			t.Skip("capability OwnAddress: engines have no networks of their own")
		}
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		here := netip.MustParseAddrPort(free.Addr().String())
		w := newWatched(t)
		w.spec.Inside = &driver.Inside{Port: int(here.Port()), Serve: func(l net.Listener) {
			if c, err := l.Accept(); err == nil {
				c.Close()
			}
		}}
		if w.s, err = d.Open(context.Background(), w.spec); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.end)
		s, id := w.s.(*session), engine.NewID()
		addrs, err := s.Reserve(1)
		if err != nil {
			t.Fatal(err)
		}
		stranger := member{address: addrs[0], pid: os.Getpid(), adopted: true}
		s.mu.Lock()
		s.engines[id] = stranger
		s.mu.Unlock()
		if c, err := s.Dial(t.Context(), id, int(here.Port())); engine.KindOf(err) != engine.NotFound {
			t.Errorf("dialled into the stranger's network: %v, %v", c, err)
		}
		free.Close()
		s.reopen(id, stranger)
		if c, err := net.Dial("tcp", here.String()); err == nil {
			c.Close()
			t.Error("the session's server answers in the stranger's network")
		}
		s.mu.Lock()
		delete(s.engines, id)
		s.mu.Unlock()
	})
}

// Where no control group tells of an engine's processes, as on the rootless rung without delegation, its init's end is awaited before
// what it used is removed.
func TestSweepWithoutGroupsAwaitsTheEnd(t *testing.T) {
	for name, tree := range map[string]*cgroup.Tree{"rootless": {}, "plain": nil} {
		t.Run(name, func(t *testing.T) {
			hold, end, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer end.Close()
			cmd := exec.Command("cat")
			cmd.Stdin = hold
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			hold.Close()
			defer cmd.Wait()
			fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			s := &session{driver: &Driver{config: Config{Dir: t.TempDir()}, tree: tree}, spec: driver.SessionSpec{ID: engine.NewID()}}
			time.AfterFunc(200*time.Millisecond, func() { end.Close() })
			s.sweep(engine.NewID(), member{pid: cmd.Process.Pid})
			if !pidfd.Ended(fd, 0) {
				t.Error("the init has not ended")
			}
		})
	}
}

// A session that a server cannot reach for want of descriptors lives: it is not taken for lost, and its engines go on.
func TestAdoptionWithoutDescriptors(t *testing.T) {
	bothRungs(t, func(t *testing.T, r rung, d recorded) {
		next := r.driver(t)
		t.Cleanup(func() { next.Close() })
		w := r.open(t, d)
		spec := w.sh("echo up; sleep 1000")
		w.awaitOutput(spec.ID, "up\n")
		id := w.s.Handle().Session
		w.s.(*session).detach()
		again := newWatched(t)
		again.spec.ID, again.spec.ConsoleDir = id, w.spec.ConsoleDir
		_, err := without(t, func() (driver.Session, error) {
			return next.Recover(t.Context(), again.spec, driver.Handle{Session: id})
		})
		if err == nil || engine.KindOf(err) == engine.NotFound {
			t.Errorf("adopted without a descriptor: %v", err)
		}
		if again.s, err = next.Recover(t.Context(), again.spec, driver.Handle{Session: id}); err != nil {
			t.Fatal(err)
		}
		w.s = again.s // which the test's end ends
		again.await(driver.Started, spec.ID)
	})
}

// without does something while this process can open nothing more.
func without(t *testing.T, do func() (driver.Session, error)) (driver.Session, error) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	return do()
}

// A server that is told to end while it adopts a session has not found out that this has ended.
func TestAdoptionGivenUp(t *testing.T) {
	conn, keeper, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer keeper.Close() // which does not answer
	s := newSession(&Driver{rung: Root, sessions: map[*session]bool{}}, driver.SessionSpec{ID: engine.NewID()})
	s.conn = conn
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.adoptHub(ctx, wire.KeeperConfig{Network: "100.100.0.0/16"}); err == nil || engine.KindOf(err) == engine.NotFound {
		t.Errorf("%v", err)
	}
}

// A network that cannot be taken over is not a session that has ended.
func TestAdoptionOfAnotherNetwork(t *testing.T) {
	conn, peer, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	keeper, err := wire.FileConn(peer)
	if err != nil {
		t.Fatal(err)
	}
	defer keeper.Close()
	s := newSession(&Driver{rung: Root, sessions: map[*session]bool{}}, driver.SessionSpec{ID: engine.NewID()})
	s.conn = conn
	ns, err := os.Open("/proc/self/ns/net") // no hub's
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := keeper.Send(wire.Event{Seq: 1, Kind: wire.EventReply}, ns); err != nil {
		t.Fatal(err)
	}
	if _, err := s.adoptHub(t.Context(), wire.KeeperConfig{Network: "100.100.0.0/16"}); err == nil || engine.KindOf(err) == engine.NotFound {
		t.Errorf("%v", err)
	}
}

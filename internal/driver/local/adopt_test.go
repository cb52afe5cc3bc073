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

package peer

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestMain is also the process that connects.
func TestMain(m *testing.M) {
	if to := os.Getenv("CONNECT_TO_PORT"); to != "" {
		connectAs(to)
	}
	if path := os.Getenv("CONNECT_TO"); path != "" {
		c, err := net.Dial("unixpacket", path)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		c.Read(make([]byte, 1)) // until it was looked at
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestWhoConnects(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		name  string
		flags uintptr
		uid   uint32
		here  bool
	}{{"a program of ours", 0, uint32(os.Getuid()), true}, {"an engine", syscall.CLONE_NEWPID, 0, false}, {"another user", 0, 65534, true}} {
		t.Run(c.name, func(t *testing.T) {
			if (c.flags != 0 || c.uid != uint32(os.Getuid())) && os.Geteuid() != 0 {
				t.Skip("capability root: this test needs root for a process namespace and another user")
			}
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = []string{"CONNECT_TO=" + path}
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: c.flags, Credential: &syscall.Credential{Uid: c.uid, Gid: c.uid, NoSetGroups: true}}
			os.Chmod(path, 0o777)
			open(t, filepath.Dir(path))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			conn, err := l.AcceptUnix()
			if err != nil {
				t.Fatal(err)
			}
			uid, err := User(conn)
			if err != nil || uid != int(c.uid) {
				t.Errorf("user %d, %v; want %d", uid, err, c.uid)
			}
			if here, err := Here(conn); err != nil || here != c.here {
				t.Errorf("here %v, %v; want %v", here, err, c.here)
			}
			conn.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// open lets everybody into the test's folders.
func open(t *testing.T, dir string) {
	for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever connected and ended is nobody of ours.
func TestWhoHasEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"CONNECT_TO=" + path}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cmd.Process.Kill()
	cmd.Wait()
	if here, err := Here(conn); err == nil || here {
		t.Errorf("here %v, %v", here, err)
	}
}

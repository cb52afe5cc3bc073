package peer

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
	if dir := os.Getenv("TAKE_OVER_IN"); dir != "" {
		if err := takeOver(dir); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
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

// A program of ours that got the number of an engine's process, which connected and ended, does not speak for it.
func TestNumberTakenOver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test needs root for a process namespace")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"TAKE_OVER_IN=" + t.TempDir()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS} // where nobody else takes numbers
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "failed: open /proc/sys/kernel/ns_last_pid") {
		t.Skipf("capability checkpoint: this kernel does not let numbers be chosen: %s", out)
	}
	if strings.Contains(string(out), "failed: no private mounts") {
		t.Skipf("capability private mounts: in a chroot there are none: %s", out)
	}
	if strings.Contains(string(out), "failed: no SO_PEERPIDFD") {
		t.Skipf("capability SO_PEERPIDFD: %s", out)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if want := "before true, after false"; !strings.HasPrefix(string(out), want) {
		t.Errorf("got %s, want %s", out, want)
	}
}

// takeOver prints whether a connection is from here, before and after the number of a process of another namespace that made it
// has become that of a process of this namespace.
func takeOver(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err == syscall.EINVAL { // / is no mount
		return fmt.Errorf("no private mounts: %w", err)
	} else if err != nil {
		return err
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixpacket"})
	if err != nil {
		return err
	}
	defer l.Close()
	connect := func(flags uintptr) (*net.UnixConn, *exec.Cmd, error) {
		cmd := exec.Command(self)
		cmd.Env = []string{"CONNECT_TO=" + l.Addr().String()}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		if err := cmd.Start(); err != nil {
			return nil, nil, err
		}
		c, err := l.AcceptUnix()
		return c, cmd, err
	}
	c, ours, err := connect(0)
	if err != nil {
		return err
	}
	before, err := Here(c)
	if err != nil {
		return err
	}
	if fd, err := peerPidfd(c); err != nil { // Here goes by times, and is asked too late below
		return fmt.Errorf("no SO_PEERPIDFD: %w", err)
	} else {
		unix.Close(fd)
	}
	c.Close()
	ours.Wait()
	c, engine, err := connect(syscall.CLONE_NEWPID)
	if err != nil {
		return err
	}
	engine.Process.Kill()
	engine.Wait()
	for { // the threads of this process take numbers, too
		last, err := os.OpenFile("/proc/sys/kernel/ns_last_pid", os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		fmt.Fprint(last, engine.Process.Pid-1)
		last.Close()
		next := exec.Command("/bin/sleep", "1000")
		if err := next.Start(); err != nil {
			return err
		}
		if next.Process.Pid == engine.Process.Pid {
			break
		}
		next.Process.Kill()
		next.Wait()
	}
	after, err := Here(c)
	fmt.Printf("before %v, after %v (%v)\n", before, after, err)
	return nil // the namespace ends, and what is in it
}

// Before Linux 6.5 the time of its start tells a process from one that had its number before.
func TestBeganBefore(t *testing.T) {
	boot := func() time.Duration {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
			t.Fatal(err)
		}
		return time.Duration(now.Nano())
	}
	program := filepath.Join(t.TempDir(), "a) b 1 2 3") // the kernel writes a name as it is
	b, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o700); err != nil {
		t.Fatal(err)
	}
	before := boot() - 2*tick
	cmd := exec.Command(program, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	if err := beganBefore(cmd.Process.Pid, boot()); err != nil {
		t.Error(err)
	}
	if err := beganBefore(cmd.Process.Pid, before); err == nil {
		t.Error("it began before it was started")
	}
}

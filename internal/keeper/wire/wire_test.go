package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func pair(t testing.TB) (a, b *Conn) {
	t.Helper()
	a, peer, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = FileConn(peer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func descriptors(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

func null(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestMessageWithFiles(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(Request{Seq: 7, Op: OpStart, HasNet: true}, null(t), null(t)); err != nil {
		t.Fatal(err)
	}
	var r Request
	files, err := b.Receive(&r)
	if err != nil || len(files) != 2 || r.Seq != 7 || !r.HasNet {
		t.Fatalf("%+v, %d files, %v", r, len(files), err)
	}
	for _, f := range files {
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("a received descriptor would be inherited: %v", err)
		}
		f.Close()
	}
	a.Close()
	if _, err := b.Receive(&r); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

func TestTooLong(t *testing.T) {
	a, _ := pair(t)
	if err := a.Send(Request{By: strings.Repeat("x", maxMessage)}); !errors.Is(err, ErrTooLong) {
		t.Errorf("%v", err)
	}
	if err := a.Small().Send(Request{By: strings.Repeat("x", smallMessage)}); !errors.Is(err, ErrTooLong) {
		t.Errorf("small: %v", err)
	}
}

// A peer that never reads holds nobody up who does not want to wait.
func TestSendWithin(t *testing.T) {
	a, _ := pair(t)
	for range 100_000 {
		if err := a.SendWithin(10*time.Millisecond, Order{Signal: 1}); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			return
		}
	}
	t.Error("the socket takes everything")
}

// What cannot be decoded gives an error, and the descriptors beside it are closed.
func TestRubbish(t *testing.T) {
	before := descriptors(t)
	for _, c := range []struct {
		name  string
		bytes []byte
		fds   int
	}{
		{"no JSON", []byte("rubbish"), 1},
		{"another type", []byte(`"text"`), 2},
		{"nothing but descriptors", nil, 1},
		{"too long", bytes.Repeat([]byte(" "), maxMessage+1), 1},
		{"too many descriptors", []byte("{}"), maxFDs + 3},
	} {
		a, b := pair(t)
		var fds []int
		for range c.fds {
			fds = append(fds, int(null(t).Fd()))
		}
		if _, _, err := a.c.WriteMsgUnix(c.bytes, unix.UnixRights(fds...), nil); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var r Request
		if files, err := b.Receive(&r); err == nil || len(files) > 0 {
			t.Errorf("%s: %d files, %v", c.name, len(files), err)
		}
		a.Close()
		b.Close()
		if now, opened := descriptors(t), before+c.fds; now > opened {
			t.Errorf("%s: %d descriptors are open, %d at most are ours", c.name, now, opened)
		}
		before += c.fds // null's are closed at the end
	}
}

func FuzzReceive(f *testing.F) {
	good, _ := json.Marshal(Event{Seq: 1, Kind: EventExited, Exit: &Exit{}})
	for _, b := range [][]byte{good, []byte("{}"), []byte("null"), []byte(`{"seq":-1}`), []byte("\x00")} {
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, withFile bool) {
		if len(b) > maxMessage {
			return
		}
		before := descriptors(t)
		a, c, err := func() (*net.UnixConn, *Conn, error) {
			x, peer, err := Pair()
			if err != nil {
				return nil, nil, err
			}
			y, err := FileConn(peer)
			return x.c, y, err
		}()
		if err != nil {
			t.Fatal(err)
		}
		var oob []byte
		if withFile {
			oob = unix.UnixRights(0)
		}
		if _, _, err := a.WriteMsgUnix(b, oob, nil); err != nil {
			t.Fatal(err)
		}
		var e Event
		files, err := c.Receive(&e)
		if err != nil && len(files) > 0 {
			t.Errorf("files beside the error %v", err)
		}
		closeAll(files)
		a.Close()
		c.Close()
		if now := descriptors(t); now > before {
			t.Errorf("%d descriptors, before %d", now, before)
		}
	})
}

func TestMemoryFile(t *testing.T) {
	want := EngineSpec{ID: "x", Env: []string{"BIG=" + strings.Repeat("x", 300_000)}, Files: map[string][]byte{"code.py": {0, 255}}}
	f, err := MemoryFile("spec", want)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for range 2 { // keeper and init read the same file
		var got EngineSpec
		if err := ReadMemoryFile(f, &got); err != nil || got.Env[0] != want.Env[0] || !bytes.Equal(got.Files["code.py"], want.Files["code.py"]) {
			t.Errorf("%v, %d bytes", err, len(got.Env[0]))
		}
	}
}

// A thread of root's that looks at files with a user's rights is led to all that the process has open by /proc/self/fd.
func TestMemoryFileIsItsOwnersAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: only root takes another user's rights")
	}
	f, err := MemoryFile("spec", EngineSpec{Env: []string{"TOKEN=secret"}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	opened := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its rights
		unix.RawSyscall(unix.SYS_SETFSUID, 65534, 0, 0)
		_, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		opened <- err
	}()
	if err := <-opened; !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another user opens it: %v", err)
	}
}

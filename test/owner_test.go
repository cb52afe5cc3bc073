package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Engines see what lies in the project, here the sockets of their server and of another one, and get no answer from them.
func TestEnginesAreNotTheOwner(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	dir := filepath.Join(w.project, "sock")
	for _, d := range []string{dir, filepath.Join(w.project, "state")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	address := "unix://" + filepath.Join(dir, "s")
	w.start("up", "--listen", address).await("answers at")
	w.env = append(w.env, "MUSTER_HOST="+address)

	other.env = append(other.env, "MUSTER_STATE_DIR="+filepath.Join(w.project, "state"))
	neighbour := other.start("run", "-c", "import sys, time; print('neighbour'); sys.stdout.flush(); time.sleep(1000)")
	neighbour.await("neighbour")

	r := w.script(`
import glob, os, socket
def ask(kind, path, question):
    os.chdir(os.path.dirname(path)) # the path of a unix socket must be short
    s = socket.socket(socket.AF_UNIX, kind)
    s.settimeout(20)
    s.connect(os.path.basename(path))
    try:
        s.send(question)
        return s.recv(10000)
    except (BrokenPipeError, ConnectionResetError):
        return b""
print("beside the socket:", os.listdir("sock"))
(keeper,) = glob.glob(os.path.abspath("state/sessions/*/keeper.sock"))
print("server:", ask(socket.SOCK_STREAM, os.path.abspath("sock/s"), b"GET /muster/v1/version HTTP/1.1\r\nHost: x\r\n\r\n"))
print("keeper:", ask(socket.SOCK_SEQPACKET, keeper, b'{"seq": 1, "op": "end", "by": "an engine"}'))
`).ok(t)
	if want := "beside the socket: ['s']\nserver: b''\nkeeper: b''\n"; !strings.HasSuffix(r.out, want) {
		t.Errorf("%s\nwant %s", r.out, want)
	}
	select {
	case <-neighbour.done:
		t.Errorf("an engine ended another server's session: %s", neighbour.output())
	default:
	}
}

// The logs of sessions lie where they usually do, if not this server's then another one's.
func TestLogsOfOtherServersAreHidden(t *testing.T) {
	w := newWorld(t) // has a state folder of its own
	usual := "/var/lib/muster/sessions"
	if err := os.MkdirAll(usual, 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(filepath.Dir(usual)) // if they are empty
	defer os.Remove(usual)
	marker, err := os.MkdirTemp(usual, "test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(marker)
	w.script(`
import os
print("found:", os.listdir("`+filepath.Dir(usual)+`"))
`).ok(t).has(t, "found: []")
}

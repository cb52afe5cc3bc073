package test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A script's name may lead anywhere, and somewhere else a moment later: nothing is run or shown that the worker could not
// open itself, the server waits for no file, and refusals do not tell what is hidden.
func TestHostileScripts(t *testing.T) {
	n := newNeighbour(t)
	outside, err := os.MkdirTemp("/tmp", "muster-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(outside)
	secret := filepath.Join(outside, "secret.py")
	if err := os.WriteFile(secret, []byte("print('the' + 'secret')\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"zero.py": "/dev/zero", "tty.py": "/dev/tty", "environ.py": "/proc/1/environ", "descriptor.py": "/proc/self/fd/0", "loop.py": "loop.py",
		"hidden.py": secret, "nothing.py": outside + "/nothing.py", "socket.py": filepath.Join(n.root, "run", "server.sock"), "up.py": "../../../../../../../../" + secret,
	} {
		if err := os.Symlink(target, filepath.Join(n.project, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(n.project, "fifo.py"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mknod(filepath.Join(n.project, "device.py"), syscall.S_IFCHR|0o666, 1<<8|5); err != nil { // zero
		t.Fatal(err)
	}
	stop := n.swaps(secret)
	r := n.script(`
import cdsw
for script in ("zero.py", "tty.py", "environ.py", "descriptor.py", "loop.py", "hidden.py", "nothing.py", "socket.py", "up.py", "fifo.py", "device.py",
        "/dev/zero", "/proc/self/environ", "/dev/stdin", "` + secret + `", "/run/../tmp/../` + secret + `", "a/../../x.py", ".", "/", "x" * 5000):
    ws = cdsw.launch_workers(1, 0.1, 0.1, script=script)
    print("LAUNCHED" if "id" in ws[0] else "refused", script[:30], "|", ws[0].get("message"), flush=True)
tried = []
for i in range(15):
    ws = cdsw.launch_workers(1, 0.1, 0.1, script="swapped.py")
    if "id" in ws[0]: tried += ws
ended = cdsw.await_workers(tried) if tried else {"workers": [], "failures": []}
print(len(ended["workers"]), "ran,", len(ended["failures"]), "failed,", 15 - len(tried), "were refused")
`).ok(t)
	stop()
	t.Log(r.out)
	r.hasNone(t, "thesecret")
	r.hasNone(t, "LAUNCHED")
	if got := strings.Count(r.out, "refused "); got != 20 {
		t.Errorf("%d refusals, want 20", got)
	}
	for _, line := range lines(r.out) { // one that is there and one that is not get the same answer
		if strings.HasPrefix(line, "refused hidden.py") {
			r.has(t, strings.ReplaceAll(line, "hidden.py", "nothing.py"))
		}
	}
	n.unharmed()
}

// swaps makes swapped.py, again and again, a script and a link to another one, until stop is called.
func (w *world) swaps(other string) (stop func()) {
	script, link := w.write("script", "print('mine')\n"), filepath.Join(w.project, "link")
	swapped := filepath.Join(w.project, "swapped.py")
	end, wait := make(chan struct{}), sync.WaitGroup{}
	wait.Go(func() {
		for {
			os.Symlink(other, link)
			os.Rename(link, swapped)
			os.Link(script, link)
			os.Rename(link, swapped)
			select {
			case <-end:
				return
			default:
			}
		}
	})
	return func() { close(end); wait.Wait() }
}

package rights

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var nobody = User{UID: 20001, GID: 20001, Groups: []int{20010}}

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("capability root: only root takes another user's rights")
	}
}

func as(t *testing.T, u User, do func()) {
	t.Helper()
	if err := As(u, do); err != nil {
		t.Fatal(err)
	}
}

// What the user may not see is not seen, by whatever way; what he may is; and the caller stays what it was.
func TestAs(t *testing.T) {
	requireRoot(t)
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(dir, "roots")
	for path, mode := range map[string]os.FileMode{secret: 0o700, filepath.Join(dir, "his"): 0o700, filepath.Join(dir, "groups"): 0o750} {
		if err := os.Mkdir(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "file"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Chown(filepath.Join(dir, "his"), 20001, 20001)
	os.Chown(filepath.Join(dir, "groups"), 0, 20010)
	os.Symlink(filepath.Join(secret, "file"), filepath.Join(dir, "his", "link"))
	os.Symlink(filepath.Join(secret, "none"), filepath.Join(dir, "his", "nowhere"))
	link := fmt.Sprintf("/proc/1/root%s/file", secret) // root, as one that may trace, gets through
	as(t, nobody, func() {
		for _, path := range []string{secret + "/file", secret + "/none", dir + "/his/link", dir + "/his/nowhere", link, "/proc/1/cwd/etc", "/proc/1/root/etc"} {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v", path, err)
			}
			if f, err := os.Open(path); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("open %s: %v", path, err)
				f.Close()
			}
		}
		for _, path := range []string{"his/file", "groups/file"} {
			if _, err := os.ReadFile(filepath.Join(dir, path)); err != nil {
				t.Error(err)
			}
		}
	})
	if _, err := os.ReadFile(secret + "/file"); err != nil {
		t.Errorf("the caller: %v", err)
	}
	if groups, _ := os.Getgroups(); fmt.Sprint(groups) == fmt.Sprint(nobody.Groups) {
		t.Errorf("the caller's groups are %v", groups)
	}
}

// Nobody but the thread itself changes: not another one, whenever it was started.
func TestOtherThreadsStay(t *testing.T) {
	requireRoot(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			as(t, nobody, func() {
				var inner sync.WaitGroup
				inner.Go(func() { // on another thread, perhaps one that is made now
					if _, err := os.ReadFile(file); err != nil {
						t.Error(err)
					}
				})
				inner.Wait()
				if _, err := os.ReadFile(file); !errors.Is(err, fs.ErrPermission) {
					t.Errorf("%v", err)
				}
			})
		})
		wg.Go(func() {
			if _, err := os.ReadFile(file); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err != nil {
			continue // it has ended
		}
		var r, e, s, f int
		if i := indexOf(string(status), "Uid:"); i >= 0 {
			fmt.Sscanf(string(status[i:]), "Uid: %d %d %d %d", &r, &e, &s, &f)
		}
		if r != 0 || e != 0 || s != 0 {
			t.Errorf("thread %s has the user %d %d %d: that one could end the process by it", task.Name(), r, e, s)
		}
	}
}

func indexOf(s, part string) int {
	for i := range s {
		if len(s)-i >= len(part) && s[i:i+len(part)] == part {
			return i
		}
	}
	return -1
}

func TestPanicIsTheCallers(t *testing.T) {
	requireRoot(t)
	defer func() {
		if p := recover(); p != "oh" {
			t.Errorf("recovered %v", p)
		}
	}()
	As(nobody, func() { panic("oh") })
}

// A user whose files hang holds up himself alone.
func TestTakersAreBounded(t *testing.T) {
	requireRoot(t)
	var takers Takers
	release := make(chan struct{})
	var wg sync.WaitGroup
	in := make(chan struct{}, atOnce)
	for range atOnce {
		wg.Go(func() {
			if err := takers.As(t.Context(), nobody, func() { in <- struct{}{}; <-release }); err != nil {
				t.Error(err)
			}
		})
	}
	for range atOnce {
		<-in
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := takers.As(ctx, nobody, func() { t.Error("one too many") }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	ran := false
	if err := takers.As(t.Context(), User{UID: 20002, GID: 20002}, func() { ran = true }); err != nil || !ran {
		t.Errorf("another user: %v %v", ran, err)
	}
	close(release)
	wg.Wait()
	if len(takers.of) != 0 {
		t.Errorf("left: %v", takers.of)
	}
}

func TestRefusal(t *testing.T) {
	if os.Geteuid() == 0 { // who is refused nothing: another user runs this test
		dir := t.TempDir()
		program := filepath.Join(dir, "rights.test")
		self, err := os.ReadFile("/proc/self/exe")
		if err = errors.Join(err, os.WriteFile(program, self, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "-test.run=^TestRefusal$", "-test.v")
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestRefusal") {
			t.Errorf("as another user: %v\n%s", err, out)
		}
		return
	}
	if err := As(nobody, func() { t.Error("ran") }); !errors.Is(err, unix.EPERM) {
		t.Errorf("%v", err)
	}
}

package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"muster/internal/linux/userns"
)

// These tests run once more as an ordinary user, on the rungs that such a user has: the same binary, started by TestAsUser.
const (
	rungVariable   = "MUSTER_TEST_RUNG"   // the one that is tested
	keeperVariable = "MUSTER_TEST_KEEPER" // what the first process built, or another machine
	refusedCode    = 77                   // the machine has no such rung for such a user
)

// ordinary is the number of a user without rights: daemon or bin, whom all machines know, which ssh asks for.
const ordinary = 1

// rungs are those that this process tests.
func rungs() []Rung {
	switch name := Rung(os.Getenv(rungVariable)); {
	case name != "":
		return []Rung{name}
	case os.Geteuid() == 0:
		return []Rung{Root, Plain}
	}
	return []Rung{Plain}
}

// upper is the rung with isolation that this process tests.
func upper(t testing.TB) Rung {
	t.Helper()
	if name := rungs()[0]; name != Plain {
		return name
	}
	t.Skip("capability isolation: the plain rung has none")
	return ""
}

// needRoot is for what no other user can do, whatever the rung.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test mounts, or starts engines of other users")
	}
}

// enterRung takes this process to where the tested rung needs it.
func enterRung() {
	if os.Getenv(rungVariable) != string(Rootless) || userns.Inside() {
		return
	}
	err := func() error {
		holder := exec.Command("/bin/cat")
		holder.SysProcAttr = &syscall.SysProcAttr{}
		userns.Child(holder.SysProcAttr)
		in, err := holder.StdinPipe()
		if err == nil {
			err = holder.Start()
		}
		if err != nil {
			return err
		}
		ns, err := userns.Of(holder.Process.Pid)
		if err = errors.Join(err, in.Close(), holder.Wait()); err != nil {
			return err
		}
		return userns.Enter(ns, os.Args[0], os.Args, os.Environ(), []string{"REFUSED=1"})
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(refusedCode)
}

// TestAsUser runs everything here as a user without rights. What the runs print stands between the lines of this one.
func TestAsUser(t *testing.T) {
	if os.Getenv(rungVariable) != "" {
		t.Skip("capability root: this is the run as a user")
	}
	for _, name := range []Rung{Rootless, Plain} {
		t.Run(string(name), func(t *testing.T) {
			if name == Plain && os.Geteuid() != 0 {
				return // it is what this process tests
			}
			dir := userFolder(t)
			program, keeper := filepath.Join(dir, "local.test"), filepath.Join(dir, "muster-keeper")
			self, err := os.Executable()
			if err = errors.Join(err, copyFile(program, self), copyFile(keeper, keeperPath)); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, "-test.v", "-test.count=1", "-test.timeout=10m", "-test.skip=^TestAsUser$")
			if only := os.Getenv("MUSTER_TEST_ONLY"); only != "" {
				cmd.Args = append(cmd.Args, "-test.run="+only)
			}
			cmd.Dir = filepath.Join(dir, "home")
			cmd.Env = []string{
				"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + cmd.Dir, "TMPDIR=" + filepath.Join(dir, "tmp"),
				rungVariable + "=" + string(name), keeperVariable + "=" + keeper,
			}
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
			start := cmd.Start
			if os.Geteuid() == 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary, Gid: ordinary}}
				if name == Rootless { // with limits
					start = func() error { return startDelegated(t, cmd) }
				}
			}
			if err := start(); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == refusedCode {
				t.Skip("capability user namespaces: this machine has none for ordinary users")
			}
			if err != nil {
				t.Errorf("the tests on the %s rung: %v", name, err)
			}
		})
	}
}

// userFolder is a folder for another user, who owns a home and a folder for temporary files in it.
func userFolder(t *testing.T) string {
	dir, err := os.MkdirTemp("", "muster-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	err = os.Chmod(dir, 0o755)
	for _, name := range []string{"home", "tmp"} {
		own := filepath.Join(dir, name)
		err = errors.Join(err, os.Mkdir(own, 0o700))
		if os.Geteuid() == 0 {
			err = errors.Join(err, os.Chown(own, ordinary, ordinary))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(to, from string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// startDelegated starts a program in control groups of its user's, as a service manager does for one that asks for them. What
// this machine does not have of them is left out.
func startDelegated(t *testing.T, cmd *exec.Cmd) error {
	const root = "/sys/fs/cgroup"
	var fs unix.Statfs_t
	if unix.Statfs(root, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
		for _, controller := range []string{"+memory", "+cpu", "+pids", "+cpuset"} {
			os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte(controller), 0)
		}
	}
	name := fmt.Sprintf("muster-test-%d", os.Getpid())
	var groups []string
	for _, controller := range []string{"", "memory", "cpu", "cpuacct", "pids", "cpuset", "unified"} { // "" is version 2 alone
		dir := filepath.Join(root, controller, name)
		if controller == "" && fs.Type != unix.CGROUP2_SUPER_MAGIC || unix.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			for _, left := range []string{"muster", "muster-server"} { // parent of engines' groups, and the driver's own
				unix.Rmdir(filepath.Join(dir, left))
			}
			if err := unix.Rmdir(dir); err != nil {
				t.Error(err)
			}
		})
		for _, file := range []string{"", "tasks", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
			os.Chown(filepath.Join(dir, file), ordinary, ordinary)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // an empty set lets nobody in
			if text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file)); err == nil {
				os.WriteFile(filepath.Join(dir, file), []byte(strings.TrimSpace(string(text))), 0)
			}
		}
		groups = append(groups, dir)
	}
	// A shell moves itself there first: it is root until it executes the program.
	script := "exec setpriv --reuid " + strconv.Itoa(ordinary) + " --regid " + strconv.Itoa(ordinary) + ` --clear-groups "$@"`
	for _, g := range groups {
		script = "echo $$ > " + g + "/cgroup.procs; " + script
	}
	cmd.Args = append([]string{"/bin/sh", "-c", script, "sh"}, cmd.Args...)
	cmd.Path, cmd.SysProcAttr = "/bin/sh", nil
	return cmd.Start()
}

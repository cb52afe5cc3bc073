package sandbox

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// enter runs testdata/inside in a sandbox and returns what it printed. It looks at the paths as well.
func enter(t *testing.T, c Config, look ...string) string {
	t.Helper()
	dir := t.TempDir()
	program := buildInside(t, dir)
	if c.TmpDir == "" {
		c.TmpDir = filepath.Join(dir, "tmp")
		if err := os.Mkdir(c.TmpDir, 0o700); err != nil {
			t.Fatal(err)
		}
		os.Chmod(c.TmpDir, 0o1777)
	}
	return run(t, c, program, nil, look)
}

// buildInside makes dir/inside.
func buildInside(t *testing.T, dir string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test needs root for namespaces")
	}
	program := filepath.Join(dir, "inside")
	if built := os.Getenv("MUSTER_TEST_INSIDE"); built != "" { // set where there is no Go
		b, err := os.ReadFile(built)
		if err == nil {
			err = os.WriteFile(program, b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		return program
	}
	build := exec.Command("go", "build", "-o", program, "./testdata/inside")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// run runs testdata/inside in fresh namespaces.
func run(t *testing.T, c Config, program string, env, look []string) string {
	t.Helper()
	c.Hostname, c.Hosts, c.ShmBytes = "engine", "127.0.0.1 localhost\n", 1<<20
	c.Files = map[string][]byte{"program": []byte("code")}
	if c.Shared == nil {
		c.Shared = resolvedAll(c.Visible)
	}
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Stdin = bytes.NewReader(config)
	cmd.Env = append(env, "LOOK="+strings.Join(look, "\n"))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET,
	}
	if c.Groups.V2 != "" {
		group, err := os.Open(c.Groups.V2)
		if err != nil {
			t.Fatal(err)
		}
		defer group.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%v\n%s", err, out)
	return string(out)
}

func expect(t *testing.T, out string, lines ...string) {
	t.Helper()
	have := strings.Split(out, "\n")
	for _, l := range lines {
		if !slices.Contains(have, l) {
			t.Errorf("missing: %s", l)
		}
	}
}

// TestNoWayOut tries, as the user with id 0 and as nobody, what engines must not be able to do.
func TestNoWayOut(t *testing.T) {
	state := t.TempDir()
	secret := filepath.Join(state, "secret")
	if err := os.WriteFile(secret, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	elsewhere := rootTemp(t, "/var/lib")
	hidden := filepath.Join(elsewhere, "secret")
	if err := os.WriteFile(hidden, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join("/run", filepath.Base(elsewhere)+".sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, uid := range []int{0, 65534} {
		out := enter(t, Config{Hidden: []string{elsewhere}, UID: uid, GID: uid}, secret, hidden, socket, "/sys/fs/cgroup/memory", "/dev/vda", "/dev/.muster-etc", "/proc/kcore")
		for _, what := range []string{
			"mount", "umount", "remount /proc/sys", "mknod", "trace the init", "look into the init", "go through the init",
			"read the init's memory", "write /proc/sys", "write /sys",
			"set the hostname", "make a namespace", "open a raw socket", "keep supplementary groups",
			"make a user namespace", "start a process in a user namespace", "enter a namespace", "use the user's keyring",
			"read the kernel's log", "open a socket to the machine's host", "call clone3",
		} {
			expect(t, out, "cannot "+what)
		}
		expect(t, out, "can write /tmp", "can write /dev/shm", "can read private files", "can unshare its files",
			"no "+secret, "no "+hidden, "no "+socket, "no /sys/fs/cgroup/memory", "no /dev/vda", "no /dev/.muster-etc")
	}
}

// An engine in a chroot sees nothing of what lies around, also if it leaves a chroot: / may be a folder, or a mount.
func TestInChroot(t *testing.T) {
	for _, isMount := range []string{"", "1"} {
		t.Run("mount="+isMount, func(t *testing.T) {
			outside := filepath.Join(t.TempDir(), "secret")
			root := t.TempDir()
			buildInside(t, root)
			for _, d := range []string{"dev", "etc", "proc", "run", "sys", "tmp", "var/tmp", "var/secret"} {
				if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range []string{outside, root + "/var/file", root + "/var/secret/file"} {
				if err := os.WriteFile(f, nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			out := run(t, Config{TmpDir: "/var/tmp", Hidden: []string{"/var/secret"}}, root+"/inside",
				[]string{"CHROOT=" + root, "CHROOT_IS_MOUNT=" + isMount}, []string{"/var/file", "/var/secret/file", outside, root + "/var/file"})
			expect(t, out, "can change the root", "can write /tmp", "cannot look into the init",
				"yes /var/file", "no /var/secret/file", "no "+outside, "no "+root+"/var/file",
				"beyond the root: no /var/secret/file", "beyond the root: no "+outside, "beyond the root: yes /var/file")
		})
	}
}

// What shows or steers the kernel is not only in the usual places: chroots and images have a /proc and a /dev of their own.
func TestKernelMountsElsewhere(t *testing.T) {
	dir := t.TempDir()
	place := filepath.Join(dir, "a b\\040") // mountinfo escapes blanks and backslashes
	for _, d := range []string{"proc", "dev", "sys", "cgroup"} {
		if err := os.MkdirAll(filepath.Join(place, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := run(t, Config{Visible: []string{dir}, TmpDir: "/var/tmp"}, buildInside(t, dir), []string{"KERNEL_MOUNTS=" + place},
		[]string{dir + "/inside", place + "/proc/self", place + "/sys/kernel", place + "/cgroup/tasks"})
	expect(t, out, "before: yes "+place+"/proc/self", "before: yes "+place+"/sys/kernel", "yes "+dir+"/inside",
		"no "+place+"/proc/self", "no "+place+"/sys/kernel", "no "+place+"/cgroup/tasks", "cannot open a device node")
}

// TestVisible puts projects where private folders and covers lie.
func TestVisible(t *testing.T) {
	make := func(parent, name string) string {
		dir := rootTemp(t, parent)
		for _, d := range []string{name, name + "/inner"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, d, "file"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		os.Chmod(dir, 0o755)
		return filepath.Join(dir, name)
	}
	tmp, run, shm, state := make("/tmp", "project"), make("/run", "project"), make("/dev/shm", "project"), make("/var/lib", "project")
	outer := make("/tmp", "outer")
	links := make("/tmp", "links")
	chain := []string{filepath.Join(links, "first"), filepath.Join(links, "second")}
	if err := errorsOf(os.Symlink(chain[1], chain[0]), os.Symlink(tmp, chain[1])); err != nil {
		t.Fatal(err)
	}
	look := []string{tmp, run, shm, state, outer, chain[0]}
	for i := range look {
		look[i] += "/file"
	}
	look = append(look, filepath.Dir(state)+"/other", outer+"/inner/file")
	if err := os.WriteFile(filepath.Dir(state)+"/other", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out := enter(t, Config{
		Visible: []string{tmp, run, shm, state, outer, chain[0], "/missing"},
		Hidden:  []string{filepath.Dir(state), outer + "/inner"},
	}, look...)
	for _, p := range look[:6] {
		expect(t, out, "yes "+p)
	}
	expect(t, out, "no "+look[6], "no "+look[7])
}

// A link in a visible folder leads to what is elsewhere in /tmp, whichever of the two paths is longer; and no link leads past
// the cover of a hidden folder.
func TestVisibleByLinks(t *testing.T) {
	project, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "a", "much", "longer", "path")
	hidden, link := filepath.Join(elsewhere, "secrets"), filepath.Join(t.TempDir(), "link")
	if err := errorsOf(os.MkdirAll(hidden, 0o755), os.WriteFile(elsewhere+"/file", nil, 0o644), os.WriteFile(hidden+"/file", nil, 0o644),
		os.WriteFile(elsewhere+"/other", nil, 0o644), os.Symlink(elsewhere+"/file", project+"/file"),
		os.Symlink(elsewhere, project+"/folder"), os.Symlink(elsewhere, link)); err != nil {
		t.Fatal(err)
	}
	look := []string{project + "/file", project + "/folder/file", elsewhere + "/file", elsewhere + "/other"}
	out := enter(t, Config{Visible: []string{project, project + "/file", project + "/folder/file"}}, look...)
	expect(t, out, "yes "+look[0], "yes "+look[1], "yes "+look[2], "no "+look[3])
	look = []string{link + "/file", elsewhere + "/file", link + "/secrets/file", hidden + "/file"}
	out = enter(t, Config{Visible: []string{link}, Hidden: []string{hidden}}, look...)
	expect(t, out, "yes "+look[0], "yes "+look[1], "no "+look[2], "no "+look[3])
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// What an engine has turned into a link, after its session began, shows it nothing of what is covered.
func TestTurned(t *testing.T) {
	dir, elsewhere, program := realTemp(t), realTemp(t), buildInside(t, t.TempDir())
	inRun := rootTemp(t, "/run")
	state := rootTemp(t, "/var/lib")
	project, inner := filepath.Join(state, "project"), filepath.Join(dir, "state")
	secret := filepath.Join(state, "secret")
	if err := errorsOf(os.MkdirAll(inner+"/other", 0o755), os.Mkdir(secret, 0o755), os.Mkdir(project+".before", 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{elsewhere, inRun, secret, inner + "/other"} {
		link := filepath.Join(dir, "link")
		for _, visible := range []string{project, project + "/file", link} {
			if err := errorsOf(os.WriteFile(target+"/file", nil, 0o644), os.Symlink(target, project), os.Symlink(project, link)); err != nil {
				t.Fatal(err)
			}
			out := run(t, Config{
				Visible: []string{dir, visible}, Shared: []string{dir, project}, Hidden: []string{secret, inner}, TmpDir: "/var/tmp",
			}, program, nil, []string{target + "/file"})
			leads := target
			if filepath.Base(visible) == "file" {
				leads += "/file"
			}
			want := "failed enter: visible paths: " + visible + " now leads to " + leads + ", which is not shared with the engines of this session: "
			if leads == secret {
				want = "failed enter: visible paths: " + secret + " itself cannot be shared"
			}
			if !strings.HasPrefix(out, want) || strings.Contains(out, "yes ") {
				t.Errorf("%s: %s", visible, out)
			}
			if err := errorsOf(os.Remove(project), os.Remove(link)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What is asked for itself must be shared, too.
func TestNotShared(t *testing.T) {
	dir := realTemp(t)
	out := enter(t, Config{Visible: []string{dir}, Shared: []string{realTemp(t), dir + "/inside", filepath.Dir(dir) + "/00", "/tmp"}})
	if !strings.HasPrefix(out, "failed enter: visible paths: "+dir+" is not shared with the engines of this session: ") {
		t.Error(out)
	}
}

// Turned to where nothing is covered, and within what is shared, links lead where they lead.
func TestTurnedInTheOpen(t *testing.T) {
	dir := realTemp(t)
	state := rootTemp(t, "/var/lib")
	if err := errorsOf(os.MkdirAll(dir+"/releases/two", 0o755), os.WriteFile(dir+"/releases/two/file", nil, 0o644),
		os.Symlink("releases/two", dir+"/current"), os.WriteFile(state+"/file", nil, 0o644), os.Symlink(state, dir+"/open")); err != nil {
		t.Fatal(err)
	}
	look := []string{dir + "/current/file", dir + "/open/file"}
	out := enter(t, Config{Visible: []string{dir + "/current", dir + "/open"}, Shared: []string{dir}}, look...)
	expect(t, out, "yes "+look[0], "yes "+look[1])
}

func realTemp(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// rootTemp makes a folder in parent, which only root may write.
func rootTemp(t *testing.T, parent string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test makes a folder in " + parent)
	}
	dir, err := os.MkdirTemp(parent, "muster-sandbox-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A folder that is hidden in /tmp is not there, so that it has no cover: also when something in it is shown.
func TestVisibleInHiddenInTmp(t *testing.T) {
	dir := realTemp(t)
	cache, state := filepath.Join(dir, "cache"), filepath.Join(dir, "state")
	if err := errorsOf(os.Mkdir(cache, 0o755), os.Mkdir(state, 0o755), os.WriteFile(cache+"/file", nil, 0o644),
		os.WriteFile(state+"/file", nil, 0o644), os.WriteFile(dir+"/file", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	out := enter(t, Config{Visible: []string{cache}, Hidden: []string{dir, state}, ReadOnly: []string{cache}}, cache+"/file", state+"/file", dir+"/file")
	expect(t, out, "yes "+cache+"/file", "no "+state+"/file", "no "+dir+"/file")
}

// A cover that was made before what is inside of it is read-only in the end, and what is inside is not.
func TestCoverIsReadOnly(t *testing.T) {
	state := rootTemp(t, "/var/lib")
	project := filepath.Join(state, "project")
	if err := os.Mkdir(project, 0o755); err != nil {
		t.Fatal(err)
	}
	out := run(t, Config{Visible: []string{project}, Hidden: []string{state}, TmpDir: "/var/tmp"}, buildInside(t, t.TempDir()),
		[]string{"WRITE=" + state + "/new\n" + project + "/new"}, nil)
	expect(t, out, "cannot write "+state+"/new", "can write "+project+"/new")
}

// Of mounts on top of each other only the top one has a name: it keeps its own options, and no cover is taken away.
func TestStackedMounts(t *testing.T) {
	dir := realTemp(t)
	for _, d := range []string{"ro", "cover", "twice"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := run(t, Config{Visible: []string{dir}, TmpDir: "/var/tmp"}, buildInside(t, t.TempDir()), []string{"STACKED_MOUNTS=" + dir},
		[]string{dir + "/cover/file", dir + "/cover/self", dir + "/twice/self"})
	expect(t, out, "cannot write to what is read-only", "yes "+dir+"/cover/file", "no "+dir+"/cover/self", "no "+dir+"/twice/self")
}

// A private folder itself cannot be a project: its files would silently not be there.
func TestWholeTmp(t *testing.T) {
	for _, dir := range []string{"/tmp", "/run", "/dev/shm", "/tmp/"} {
		out := enter(t, Config{Visible: []string{dir}})
		if !strings.Contains(out, "failed enter: visible paths: "+filepath.Clean(dir)+" itself cannot be shared") {
			t.Errorf("%s: %s", dir, out)
		}
	}
}

func TestFollowOne(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errorsOf(os.MkdirAll(dir+"/real/sub", 0o755), os.Symlink("real", dir+"/relative"), os.Symlink(dir+"/relative", dir+"/absolute"),
		os.Symlink("loop", dir+"/loop")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want []string
	}{
		{"/real/sub", []string{"/real/sub"}},
		{"/relative/sub", []string{"/relative/sub", "/real/sub"}},
		{"/absolute/sub", []string{"/absolute/sub", "/relative/sub", "/real/sub"}},
		{"/missing", []string{"/missing"}},
	} {
		var got []string
		for _, n := range names(dir + c.path) {
			got = append(got, strings.TrimPrefix(n, dir))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.path, got, c.want)
		}
	}
	if got := names(dir + "/loop"); len(got) > 41 {
		t.Errorf("a loop is followed %d times", len(got))
	}
}

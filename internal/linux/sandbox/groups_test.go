package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// An engine whose group is in version 2 sees it, and it alone, where a container does.
func TestOwnGroupOfVersion2(t *testing.T) {
	root := version2(t)
	own, other := filepath.Join(root, "muster-sandbox-test"), filepath.Join(root, "muster-sandbox-other")
	for _, dir := range []string{own, other} {
		err := os.Mkdir(dir, 0o755)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
			t.Skipf("capability cgroup v2: %v", err)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		defer os.Remove(dir)
	}
	out := enter(t, Config{Groups: Groups{V2: own}},
		"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/muster-sandbox-other", "/sys/fs/cgroup/memory", stagedGroups, root+"/muster-sandbox-other")
	expect(t, out, "own group 0::/", "yes /sys/fs/cgroup/cgroup.procs", "no /sys/fs/cgroup/muster-sandbox-other", "no /sys/fs/cgroup/memory",
		"no "+stagedGroups, "no "+root+"/muster-sandbox-other", "cannot make a control group", "cannot write /sys")
}

// version2 finds where version 2 is mounted.
func version2(t *testing.T) string {
	t.Helper()
	mounts, err := mountTable()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.fstype == "cgroup2" && strings.HasPrefix(m.path, "/sys/fs/cgroup") {
			return m.path
		}
	}
	t.Skip("capability cgroup v2: it is not mounted in /sys/fs/cgroup")
	return ""
}

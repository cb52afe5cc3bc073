package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/internal/linux/cgroup"
)

// Sessions run without limits: what is missing of them is not marked as what sessions need, and the way out is no "run as root" to root.
func TestDoctorWithoutControlGroups(t *testing.T) {
	missing := []cgroup.Support{{Controller: cgroup.Memory, Reason: "this machine has no such controller"}}
	rows := limitRows(cgroup.None, missing)
	if len(rows) != 2 || rows[0].OK || rows[1].OK || !rows[0].Optional || !rows[1].Optional || !strings.Contains(rows[0].Fix, "mount -t cgroup2") || rows[1].Fix != "" {
		t.Errorf("none are mounted: %+v", rows)
	}
	rows = limitRows(cgroup.V2, missing)
	if len(rows) != 2 || !rows[0].OK || rows[1].OK || !rows[1].Optional || rows[1].Fix == "" || strings.Contains(rows[1].Fix, "run as root") && os.Geteuid() == 0 {
		t.Errorf("no controller: %+v", rows)
	}
}

func TestDoctorSeesWhereNoSocketCanBe(t *testing.T) {
	t.Setenv("MUSTER_STATE_DIR", t.TempDir())
	t.Setenv("MUSTER_CACHE_DIR", t.TempDir())
	t.Setenv("MUSTER_RUNTIME_DIR", "/tmp")
	if row := foldersRow(); !row.OK {
		t.Errorf("%+v", row)
	}
	t.Setenv("MUSTER_RUNTIME_DIR", filepath.Join("/tmp", strings.Repeat("x", 120)))
	if row := foldersRow(); row.OK || !strings.Contains(row.Detail, "has 137 bytes, and the system allows 107") || !strings.Contains(row.Fix, "MUSTER_RUNTIME_DIR") {
		t.Errorf("%+v", row)
	}
}

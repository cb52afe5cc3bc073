package app

import (
	"path/filepath"
	"strings"
	"testing"
)

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

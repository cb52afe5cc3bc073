package sandbox

import (
	"strings"
	"testing"
)

// escaped writes a path as the kernel does in mountinfo.
func escaped(path string) string {
	return strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(path)
}

// FuzzMounts: a path comes back as it was before the kernel escaped it, and no line makes more than one mount, or none unseen.
func FuzzMounts(f *testing.F) {
	f.Add("36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw\n", "/a b")
	f.Add("36 35 98:0 / /mnt\\04 rw - proc proc rw", "/\\134\n")
	f.Add("1 2 3:4 / / ro - x", "")
	f.Fuzz(func(t *testing.T, text, path string) {
		if got := unescaped(escaped(path)); got != path {
			t.Fatalf("%q was escaped and came back as %q", path, got)
		}
		mounts, err := parseMounts(text)
		if err != nil {
			return
		}
		if lines := len(strings.SplitAfter(text, "\n")); len(mounts) > lines || strings.TrimSpace(text) != "" && len(mounts) == 0 {
			t.Fatalf("%d mounts of %d lines", len(mounts), lines)
		}
		for _, m := range mounts {
			if m.id == "" || m.path == "" || m.fstype == "" {
				t.Fatalf("%+v", m)
			}
			if unique := m.path + "/x"; !(mounted{path: unique}).below(m.path) || m.below(unique) {
				t.Fatalf("%q and what is below it", m.path)
			}
		}
	})
}

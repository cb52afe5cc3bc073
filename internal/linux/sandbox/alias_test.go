package sandbox

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// An alias beside what is there: all of that stays as it was, with what is hidden in it, and nothing comes out.
func TestAlias(t *testing.T) {
	for _, there := range []bool{false, true} {
		base := rootTemp(t, "/var/lib")
		home, project := filepath.Join(base, "home"), filepath.Join(base, "project")
		for _, d := range []string{home + "/ada/secret", project + "/secret"} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		os.Chmod(base, 0o755)
		for _, f := range []string{home + "/ada/file", home + "/ada/secret/file", home + "/plain", project + "/file", project + "/secret/file"} {
			if err := os.WriteFile(f, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("ada", home+"/link"); err != nil {
			t.Fatal(err)
		}
		if there {
			if err := os.Mkdir(home+"/second", 0o755); err != nil {
				t.Fatal(err)
			}
		}
		out := enter(t, Config{
			Home: Alias{Path: home + "/second", Target: project}, Hidden: []string{home + "/ada/secret", project + "/secret"},
		}, home+"/second/file", home+"/second/secret/file", home+"/ada/file", home+"/ada/secret/file", home+"/plain", home+"/link/file", project+"/file")
		expect(t, out, "yes "+home+"/second/file", "no "+home+"/second/secret/file", "yes "+home+"/ada/file", "no "+home+"/ada/secret/file",
			"yes "+home+"/plain", "yes "+home+"/link/file", "yes "+project+"/file")
		if _, err := os.Stat(home + "/second/file"); err == nil {
			t.Error("the alias shows outside")
		}
		if _, err := os.Stat(home + "/second"); (err == nil) != there {
			t.Errorf("%s on the host: %v", home+"/second", err)
		}
	}
}

// A project that was turned into a link to the kernel's files, or that is everything, shows those of the engine alone.
func TestAliasOfKernelFiles(t *testing.T) {
	process := "/proc/" + strconv.Itoa(os.Getpid()) // outside of the engine
	for target, look := range map[string]string{"/proc": strings.TrimPrefix(process, "/proc"), "/": process, "/sys": "/fs/cgroup/cpu"} {
		base := rootTemp(t, "/var/lib")
		os.Chmod(base, 0o755)
		if err := os.Symlink(target, base+"/project"); err != nil {
			t.Fatal(err)
		}
		out := enter(t, Config{Home: Alias{Path: base + "/second", Target: base + "/project"}}, base+"/second", base+"/second"+look)
		expect(t, out, "yes "+base+"/second", "no "+base+"/second"+look)
	}
}

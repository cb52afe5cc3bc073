package kernel

import (
	"os"
	"path/filepath"
	"testing"
)

// What the machine's startup files of R ask for counts when R starts: then all variables do.
func TestSiteReadsVariables(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                    false,
		"options(repos = 'here')\n":           false,
		"# Sys.getenv('SEED')\n":              false,
		"R_LIBS_SITE=\"/x:${R_LIBS_SITE}\"\n": false,
		"MIRROR=${OURS-none}\n":               true,
		"x <- Sys.getenv('SEED')\n":           true,
	} {
		root := t.TempDir()
		etc := filepath.Join(root, "lib", "R", "etc")
		if err := os.MkdirAll(etc, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(etc, "Rprofile.site"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := siteAsks(filepath.Join(etc, "Rprofile.site")); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

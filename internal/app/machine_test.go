package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/engine"
)

func TestGPUInventory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gpus.json")
	if err := os.WriteFile(file, []byte(`[{"index": 3}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, good := range []string{`[{"index": 3}]`, file} {
		if list, err := gpus(good); err != nil || len(list) != 1 || list[0].Index != 3 {
			t.Errorf("%s: %v, %v", good, list, err)
		}
	}
	for bad, want := range map[string]string{
		"{": `the GPU inventory "{" is neither a file nor JSON`, "/no/where": `the GPU inventory "/no/where" is neither a file nor JSON`,
		"[{]": "the GPU inventory is no list of devices: ", filepath.Dir(file): "the GPU inventory cannot be read: ",
	} {
		if _, err := gpus(bad); err == nil || !strings.HasPrefix(err.Error(), want) || engine.KindOf(err) != engine.Invalid {
			t.Errorf("%s: %v, want %s", bad, err, want)
		}
	}
}

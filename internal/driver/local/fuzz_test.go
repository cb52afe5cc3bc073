package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzGPUs: a device is known by what its file says of it, once, and never by another one's node.
func FuzzGPUs(f *testing.F) {
	f.Add("Model: \t NVIDIA A100\nGPU UUID: \t GPU-1\nDevice Minor: \t 0\n")
	f.Add("Device Minor: x\n")
	f.Add("Device Minor: -1\nDevice Minor: 99999999999999999999")
	f.Add("GPU UUID:::\n: 1\nDevice Minor\n")
	f.Fuzz(func(t *testing.T, text string) {
		proc, dev := t.TempDir(), t.TempDir()
		for _, name := range []string{"nvidia0", "nvidia-1", "nvidia1"} {
			if err := os.WriteFile(filepath.Join(dev, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dir := filepath.Join(proc, "0000:01:00.0")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "information"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		list := gpusIn(proc, dev)
		if len(list) > 1 {
			t.Fatalf("%+v of one device", list)
		}
		for _, g := range list {
			if g.Index < 0 || g.Index > 1 || g.Nodes[0] != filepath.Join(dev, fmt.Sprint("nvidia", g.Index)) || !strings.Contains(text, fmt.Sprint(g.Index)) {
				t.Fatalf("%+v of %q", g, text)
			}
		}
	})
}

package kernel

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPreload(t *testing.T) {
	for code, want := range map[string][]string{
		"import numpy":                               {"numpy"},
		"import numpy as np, os, pandas as pd\n":     {"numpy", "pandas"},
		"import os\nfrom scipy.stats import norm\n":  {"scipy.stats"},
		"from numpy import array\nimport numpy\n":    {"numpy"},
		"import numpyish\nimport my.numpy\n":         nil,
		"def f():\n    import numpy\n":               nil, // perhaps never
		"'''\nimportant numpy\n'''\nx = 'import os'": nil,
		"import scipy.linalg , scipy.stats\r\n":      {"scipy.linalg", "scipy.stats"},
		"import\nfrom\nfrom numpy":                   nil,
	} {
		if got := preload(Request{Code: code}, ""); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", code, got, want)
		}
	}
	if got := preload(Request{Code: "import pandas, numpy", Preload: []string{"json", "numpy"}}, ""); !slices.Equal(got, []string{"json", "numpy", "pandas"}) {
		t.Errorf("with what was asked for: %q", got)
	}
	script := filepath.Join(t.TempDir(), "script.py")
	if err := os.WriteFile(script, []byte("import pandas\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := preload(Request{Script: "script.py", Code: "import numpy"}, script); !slices.Equal(got, []string{"pandas"}) {
		t.Errorf("of a script: %q", got)
	}
	for _, nothing := range []string{filepath.Dir(script), script + ".none", "/dev/zero"} {
		if got := preload(Request{}, nothing); got != nil {
			t.Errorf("of %s: %q", nothing, got)
		}
	}
}

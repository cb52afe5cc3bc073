package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	quoted   = regexp.MustCompile("`([^`]+)`|\"([^\"]+)\"")
	testName = regexp.MustCompile(`^(Test|Fuzz)\w+$`)
)

// Every test that docs/reliability.md names is there: PATH: NAME, and names after it, are of that file or folder; so are cases in
// double quotes of the suite of drivers.
func TestReliabilityNamesWhatExists(t *testing.T) {
	b, err := os.ReadFile(repo(t) + "/docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(b), "## Checklist")
	if !found {
		t.Fatal("there is no checklist")
	}
	named := 0
	for _, row := range strings.Split(table, "\n|") {
		where := ""
		for _, m := range quoted.FindAllStringSubmatch(row, -1) {
			path, name, both := strings.Cut(m[1], ": ")
			switch {
			case m[2] != "":
				name = regexp.MustCompile(`^[^:]*`).FindString(m[2])
			case both, strings.Contains(path, "/"), strings.HasSuffix(path, ".go"):
				if !strings.Contains(path, "/") {
					path = filepath.Join(filepath.Dir(where), path)
				}
				where = path
			default:
				name = path
			}
			if found, _ := filepath.Glob(filepath.Join(repo(t), where)); where != "" && len(found) == 0 {
				t.Errorf("%s does not exist: %s", where, row)
			}
			if m[2] == "" && !testName.MatchString(name) {
				continue
			}
			named++
			if !contains(t, where, name) {
				t.Errorf("%s is not in %s", name, where)
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d tests are named", named)
	}
}

// contains looks for a test, or a case of the drivers' suite, in a file or in the files of a folder.
func contains(t *testing.T, where, name string) bool {
	t.Helper()
	files := []string{filepath.Join(repo(t), where)}
	if !strings.HasSuffix(where, ".go") {
		files, _ = filepath.Glob(filepath.Join(repo(t), where, "*.go"))
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && (strings.Contains(string(b), "func "+name+"(") || strings.Contains(string(b), `"`+name+`"`)) {
			return true
		}
	}
	return false
}

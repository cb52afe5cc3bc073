package test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each file of contract/ is a script as users of the original write them, run as a session: it asserts what it sees inside of
// real engines, and ends with 0 if it saw that. "# prints: " is a line that a worker prints, each as often as it is named;
// "# says: " is something that the person must be told.
func TestContract(t *testing.T) {
	requireR(t)
	for _, name := range contractScripts(t) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			source := read(t, "test/contract/"+name)
			w.write(name, source)
			r := w.muster("run", name).ok(t)
			printed := workerLines(r.out)
			for _, want := range regexp.MustCompile(`(?m)^# prints: (.*)$`).FindAllStringSubmatch(source, -1) {
				i := slices.Index(printed, want[1])
				if i < 0 {
					t.Fatalf("no worker printed %q (so often)\nstdout: %s\nstderr: %s", want[1], tail(r.out), tail(r.err))
				}
				printed = slices.Delete(printed, i, i+1)
			}
			for _, want := range regexp.MustCompile(`(?m)^# says: (.*)$`).FindAllStringSubmatch(source, -1) {
				if !strings.Contains(r.err, want[1]) {
					t.Errorf("nobody was told %q: %s", want[1], tail(r.err))
				}
			}
		})
	}
}

func contractScripts(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(repo(t), "test/contract"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// workerLines are what workers printed, without labels and the spaces at the end.
func workerLines(out string) (texts []string) {
	for _, m := range regexp.MustCompile(`(?m)^\[[^\]]+\] (.*)$`).FindAllStringSubmatch(out, -1) {
		texts = append(texts, strings.TrimRight(m[1], " "))
	}
	return texts
}

// Every line of the contract has a row in docs/compatibility.md, every row names tests, and every test that it names is there.
// The scripts of contract/ are all named.
func TestCompatibilityTable(t *testing.T) {
	tests := map[string]bool{}
	for _, dir := range []string{".", "../clients/python/tests", "../clients/r/tests"} {
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, f := range files {
			tests[filepath.Base(f)] = true
			if strings.HasSuffix(f, "_test.go") {
				for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(read(t, filepath.Join("test", f)), -1) {
					tests[m[1]] = true
				}
			}
		}
	}
	unnamed := map[string]bool{}
	for _, name := range contractScripts(t) {
		tests["contract/"+name], unnamed["contract/"+name] = true, true
	}
	rows := 0
	for _, l := range lines(read(t, "docs/compatibility.md")) {
		cells := strings.Split(l, "|")
		if !strings.HasPrefix(l, "|") || strings.HasPrefix(l, "|--") || strings.TrimSpace(cells[len(cells)-2]) == "Proven by" {
			continue
		}
		rows++
		named := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[len(cells)-2], -1)
		if len(named) == 0 {
			t.Errorf("a row names no test: %s", l)
		}
		for _, m := range named {
			if !tests[m[1]] {
				t.Errorf("there is no test %s: %s", m[1], l)
			}
			delete(unnamed, m[1])
		}
	}
	if rows < 60 {
		t.Errorf("only %d rows were found", rows)
	}
	for name := range unnamed {
		t.Errorf("no row names %s", name)
	}
}

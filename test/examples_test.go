package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every folder of examples has a README with commands that scripts/examples can run, for scripts that are there, and stands in
// the table of all. The examples themselves are run by make examples.
func TestEveryExampleIsTold(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(repo(t), "examples/*/"))
	if err != nil || len(dirs) < 10 {
		t.Fatalf("%d folders in examples: %v", len(dirs), err)
	}
	table := read(t, "examples/README.md")
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		name := filepath.Base(dir)
		if !strings.Contains(table, "["+name+"]("+name+")") {
			t.Errorf("examples/README.md does not tell of %s", name)
		}
		commands := regexp.MustCompile(`(?m)^    (.*)$`).FindAllStringSubmatch(read(t, "examples/"+name+"/README.md"), -1)
		runs, setup := 0, false
		for _, c := range commands {
			for _, file := range regexp.MustCompile(`examples/\S+`).FindAllString(c[1], -1) {
				if _, err := os.Stat(filepath.Join(repo(t), file)); err != nil {
					t.Errorf("examples/%s/README.md: %s: %v", name, c[1], err)
				}
			}
			if strings.Contains(c[1], "muster run ") {
				runs++
			}
			setup = setup || c[1] == "examples/"+name+"/setup"
		}
		_, err := os.Stat(filepath.Join(dir, "setup"))
		if runs == 0 || setup != (err == nil) {
			t.Errorf("examples/%s/README.md: %d runs, set-up told: %v, set-up there: %v", name, runs, setup, err == nil)
		}
	}
}

// An example whose workers come to another result than the session fails and says so.
func TestExamplesNoticeWrongResults(t *testing.T) {
	requireR(t)
	for _, c := range []struct{ example, script, file, old, new, says string }{
		{"crawler", "session.py", "worker.py", "self.title += data", "self.title = 'x'", "the workers found other pages"},
		{"simulation", "session.r", "worker.r", "days(stream)", "days(stream) + 1e-9", "differ from those computed here"},
		{"simulation", "session.r", "worker.r", "close(con)", "close(con); stop('late')", "a worker failed"},
	} {
		t.Run(c.example+": "+c.says, func(t *testing.T) {
			w := newWorld(t)
			w.copyExample(c.example)
			b, err := os.ReadFile(filepath.Join(w.project, c.file))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(b), c.old) {
				t.Fatalf("%s has no %q", c.file, c.old)
			}
			w.write(c.file, strings.Replace(string(b), c.old, c.new, 1))
			r := w.muster("run", c.script)
			if r.code == 0 || !strings.Contains(r.err, c.says) {
				t.Errorf("exit code %d\n%s\n%s", r.code, r.out, r.err)
			}
		})
	}
}

package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// halves is a worker that prints half a line when the file "go" is there, and the rest, without a newline, at its end.
const halves = `
import os, time
def until(name):
    while not os.path.exists(name):
        time.sleep(0.01)
until("go")
print("half", end="", flush=True)
until("end")
print(" whole", end="")
`

// What a worker printed last stands above the prompt that follows the await, also without a newline at its end; half a line
// of a worker that goes on is shown too; and both leave the line that is being typed alone.
func TestSessionLastLine(t *testing.T) {
	for _, c := range []struct {
		name, prompt         string
		gap                  bool // an empty row above the prompt
		language             string
		short, launch, typed string
		quit                 string
	}{
		{name: "python", prompt: ">>>", language: "python3",
			short:  `import cdsw; r = cdsw.await_workers(cdsw.launch_workers(1, 0.2, 0.3, name="s", code="print(99*99, end='')"))`,
			launch: `w = cdsw.launch_workers(1, 0.2, 0.3, name="w", script="halves.py")`, typed: "print('half of a", quit: "exit()"},
		{name: "ipython", prompt: "In [2]:", gap: true, language: "python3",
			short:  `import cdsw; r = cdsw.await_workers(cdsw.launch_workers(1, 0.2, 0.3, name="s", code="print(99*99, end='')"))`,
			launch: `w = cdsw.launch_workers(1, 0.2, 0.3, name="w", script="halves.py")`, typed: "print('half of a", quit: "exit()"},
		{name: "r", prompt: ">", language: "r",
			short:  `r <- await.workers(launch.workers(n = 1, cpu = 0.2, memory = 0.5, name = "s", code = "cat(99*99)"))`,
			launch: `w <- launch.workers(1, 0.2, 0.3, name = "w", script = "halves.py")`, typed: "paste('half of a", quit: "q('no')"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := interactive(t)
			switch c.name {
			case "python":
				w.plainPython()
			case "ipython":
				w.env = append(w.env, "PATH="+filepath.Dir(jupyter(t))+":"+os.Getenv("PATH"))
			case "r":
				requireR(t)
			}
			w.write("halves.py", halves)
			x := w.terminal(40, 150, "session", c.language)
			x.sees(strings.Replace(c.prompt, "2", "1", 1))
			x.typed(c.short + "\r")
			if c.gap {
				x.sees("[s] 9801", "", c.prompt)
			} else {
				x.sees("[s] 9801", c.prompt)
			}
			x.typed(c.launch + "\r")
			prompt := strings.Replace(c.prompt, "2", "3", 1)
			x.seesThat("there is a prompt again", func(rows []string) bool {
				n := len(rows)
				return n > 2 && rows[n-1] == prompt && (strings.HasSuffix(rows[n-2], c.launch) || strings.HasSuffix(rows[n-3], c.launch))
			})
			x.typed(c.typed)
			x.sees(prompt + " " + c.typed)
			w.write("go", "")
			x.sees("[w] half", prompt+" "+c.typed)
			w.write("end", "")
			x.sees("[w] half", "[w]  whole", prompt+" "+c.typed)
			x.typed(" line')\r")
			x.has(c.typed + " line')")
			x.typed(c.quit + "\r")
			x.ends(0)
		})
	}
}

// In a process that became a session what is printed next begins a line, whatever a worker printed last.
func TestClientLastLine(t *testing.T) {
	w := newWorld(t)
	python := w.outsider()
	w.write("halves.py", halves)
	w.write("script.py", `
import cdsw
cdsw.await_workers(cdsw.launch_workers(1, 0.2, 0.2, name="s", code="print('short', end='')"))
print("M: after the short one")
cdsw.await_workers(cdsw.launch_workers(1, 0.2, 0.2, name="w", script="halves.py"))
print("M: after the long one")
`)
	b := w.begin(w.plain(python, "-u", "script.py"))
	w.write("go", "")
	b.await("[w] half")
	w.write("end", "")
	if code := b.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got, want := b.output(), "[s] short\nM: after the short one\n[w] half whole\nM: after the long one\n"; !strings.HasSuffix(got, want) {
		t.Errorf("shown is\n%s, and it should end in\n%s", got, want)
	}
	w.serverEnds()
}

// In R another process shows the lines. It may be later than what R prints next, and both are lines of their own.
func TestClientLastLineR(t *testing.T) {
	w := newWorld(t)
	w.outsiderR()
	w.write("script.R", `
library(cdsw)
done <- await.workers(launch.workers(n = 1, cpu = 0.2, memory = 0.5, name = "s", code = "cat(99*99)"))
while (!file.exists("seen")) Sys.sleep(0.01)
cat("M: next\n")
`)
	b := w.begin(w.plain("Rscript", "script.R"))
	b.await("[s] 9801\n")
	w.write("seen", "")
	if code := b.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got, want := b.output(), "[s] 9801\nM: next\n"; !strings.HasSuffix(got, want) {
		t.Errorf("shown is\n%s, and it should end in\n%s", got, want)
	}
	w.serverEnds()
}

package test

import (
	"regexp"
	"strings"
	"testing"
)

// What a worker printed before it failed stands before its traceback, although the two come through different pipes.
func TestTracebackStandsBehindThePrints(t *testing.T) {
	w := newWorld(t)
	w.write("w.py", "print('before 1'); print('before 2')\nraise ValueError('boom')\n")
	cmd := w.cmd("run", "-c", "import cdsw; cdsw.await_workers(cdsw.launch_workers(10, 0.1, 0.1, script='w.py'))")
	var both strings.Builder
	cmd.Stdout, cmd.Stderr = &both, &both
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, both.String())
	}
	last := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\[([^\]]+)\] (.*)$`).FindAllStringSubmatch(both.String(), -1) {
		if m[2] == "Traceback (most recent call last):" && last[m[1]] != "before 2" {
			t.Errorf("worker %s: the traceback stands behind %q", m[1], last[m[1]])
		}
		last[m[1]] = m[2]
	}
	if len(last) != 10 {
		t.Errorf("%d of 10 workers printed:\n%s", len(last), both.String())
	}
}

// Python writes what one print prints in pieces, and several engines and streams share the console: all lines stay whole.
func TestLinesStayWhole(t *testing.T) {
	w := newWorld(t)
	w.write("w.py", "for i in range(1000): print('epoch', i, 'loss', 1 / (i + 1), 'acc', i / 3000)\n")
	cmd := w.cmd("run", "-c", `
import cdsw, sys
for i in range(1000):
    print("o", i)
    print("e", i, file=sys.stderr)
assert not cdsw.await_workers(cdsw.launch_workers(4, 0.1, 0.1, name="w", script="w.py"))["failures"]
`)
	var both strings.Builder
	cmd.Stdout, cmd.Stderr = &both, &both
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, tail(both.String()))
	}
	whole := regexp.MustCompile(`^(\[w[^\]]*\] epoch \d+ loss [\d.e-]+ acc [\d.e-]+|[oe] \d+)$`)
	n := 0
	for _, l := range lines(both.String()) {
		switch {
		case whole.MatchString(l):
			n++
		case l != "" && !strings.HasPrefix(l, "muster: "):
			t.Errorf("torn: %q", l)
		}
	}
	if n != 6000 {
		t.Errorf("%d of 6000 lines", n)
	}
}

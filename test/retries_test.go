package test

import (
	"strings"
	"testing"
)

// What a person does with workers from outside of their session: groups, time limits, retries, restarts, and the output of those
// that have ended.
func TestRetriesFromOutside(t *testing.T) {
	w := newWorld(t)
	w.server()
	w.write("idle.py", "print('idle', flush=True)\nimport time\ntime.sleep(1000)\n")
	w.write("fit.py", "import os\nn = len([f for f in os.listdir('.') if f.startswith('try')])\nopen('try%d' % n, 'w').close()\nprint('one')\nprint('try', n)\nraise SystemExit(0 if n else 4)\n")
	b := w.start("run", "idle.py")
	b.await("idle")
	session := strings.Fields(lines(w.muster("ps").ok(t).out)[1])[0]
	in := []string{"--session", session}
	launch := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(w.muster(append(append([]string{"launch"}, in...), args...)...).ok(t).out)
	}
	first := launch("--retries", "2", "--group", "fits", "fit.py")
	slow := launch("--time-limit", "1s", "--name", "slow", "idle.py")
	w.muster(append([]string{"await", "--group", "fits"}, in...)...).ok(t).has(t, "1 of 1 workers succeeded")
	timed := w.muster("await", slow)
	if timed.code != 1 || !strings.Contains(timed.err, "timedout") || !strings.Contains(timed.err, "ended at its time limit of 1 s") {
		t.Errorf("await of one with a time limit: exit code %d\n%s", timed.code, timed.err)
	}
	w.muster("ps", "-a").ok(t).has(t, "ended with exit code 4; tried again as ")
	if out := w.muster("logs", "--tail", "1", first).ok(t).out; out != "try 0\n" {
		t.Errorf("the first attempt's last line: %q", out)
	}
	if r := w.start("logs", "-f", first); r.wait() != 0 || !strings.Contains(r.output(), "try 0") || strings.Contains(r.output(), "try 1") {
		t.Errorf("the first attempt's log: %s", r.output())
	}
	again := strings.TrimSpace(w.muster("restart", first).ok(t).out)
	w.muster("await", again).ok(t)
	if out := w.muster("logs", again).ok(t).out; out != "one\ntry 2\n" {
		t.Errorf("the restarted one printed %q", out)
	}
	stays := launch("--group", "idle", "idle.py")
	if out := w.muster(append([]string{"stop", "--all", "--group", "idle"}, in...)...).ok(t).out; strings.TrimSpace(out) != stays {
		t.Errorf("stopped: %q", out)
	}
	w.muster("stop", session).ok(t)
	b.wait()
}

package oom

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOffer(t *testing.T) {
	for now, want := range map[int]int{-900: 500, 0: 500, 200: 500, 450: 550, 850: 950, 950: 1000, 1000: 1000} {
		if got := offer(now); got != want {
			t.Errorf("offer(%d) = %d, want %d", now, got, want)
		}
	}
}

// In a process of its own, because an ordinary user cannot take it back; what it starts inherits it.
func TestProcesses(t *testing.T) {
	if os.Getenv("OOM_TEST") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestProcesses$", "-test.v")
		cmd.Env = append(os.Environ(), "OOM_TEST=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	before, err := read()
	if err != nil {
		t.Fatal(err)
	}
	Protect()
	now, err := read()
	want := before
	if mayProtect(t) {
		want = min(before, protected)
	}
	if err != nil || now != want {
		t.Errorf("protected: %d, %v, want %d", now, err, want)
	}
	if err := Offer(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("cat", file).Output()
	if got, _ := strconv.Atoi(strings.TrimSpace(string(out))); err != nil || got != offer(now) {
		t.Errorf("a child of the offered: %s, %v, want %d", out, err, offer(now))
	}
}

// mayProtect reports whether this process has CAP_SYS_RESOURCE: root in a container may not.
func mayProtect(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "CapEff:\t")
	line, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return set&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// The kernel's count is read: it never goes down, and where the file has the line it is what a plain search finds.
func TestKills(t *testing.T) {
	before := Kills()
	out, err := exec.Command("awk", "$1 == \"oom_kill\" { print $2 }", "/proc/vmstat").Output()
	if err != nil {
		t.Fatal(err)
	}
	there, _ := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if after := Kills(); there < before || there > after {
		t.Errorf("Kills %d, then %d; /proc/vmstat has %d in between", before, after, there)
	}
}

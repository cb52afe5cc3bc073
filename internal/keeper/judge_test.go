package keeper

import (
	"strings"
	"testing"
	"time"

	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/oom"
)

func TestJudge(t *testing.T) {
	stopped := &wire.Exit{Reason: "stopped", By: "somebody"}
	limit := &wire.Exit{Reason: "time limit"}
	session := &wire.Exit{Reason: "session ended", By: "the end of its session"}
	ran := func(code, signal int) heard {
		return heard{started: true, exited: &wire.Exited{Code: code, Signal: signal}}
	}
	for _, c := range []struct {
		name     string
		evidence evidence
		reason   string
		code     int
		signal   int
		message  string
	}{
		{"success", evidence{heard: ran(0, 0)}, "succeeded", 0, 0, "exit code 0"},
		{"exit code", evidence{heard: ran(7, 0)}, "exit code", 7, 0, "exit code 7"},
		{"signal", evidence{heard: ran(139, 11)}, "signal", 139, 11, "signal 11 (segmentation fault)"},
		{"killed when memory was short", evidence{heard: ran(137, 9), lacks: 2}, "signal", 137, 9, "signal 9 (killed), perhaps for want of memory: of this machine's processes the kernel killed 2"},
		{"another signal when memory was short", evidence{heard: ran(143, 15), lacks: 2}, "signal", 143, 15, "signal 15 (terminated)"},
		{"failed", evidence{heard: heard{failed: &wire.Failed{Step: "/dev", Message: "why"}}}, "launch failed", 1, 0, `"/dev": why`},
		{"failed although asked", evidence{heard: heard{failed: &wire.Failed{Step: "s"}}, asked: stopped}, "launch failed", 1, 0, "s"},
		{"init killed early", evidence{}, "launch failed", 1, 0, "init"},
		{"init killed early, as asked", evidence{asked: stopped}, "stopped", 137, 9, "stopped by somebody"},
		{"init killed from outside", evidence{heard: heard{started: true}}, "signal", 137, 9, "killed from outside"},
		{"stopped by TERM", evidence{heard: ran(143, 15), asked: stopped}, "stopped", 143, 15, "stopped by somebody"},
		{"stopped and left politely", evidence{heard: ran(0, 0), asked: stopped}, "stopped", 0, 0, "stopped by somebody"},
		{"session ended, killed", evidence{heard: heard{started: true}, asked: session}, "session ended", 137, 9, "ended by the end of its session"},
		{"time, killed", evidence{heard: heard{started: true}, asked: limit, lasts: 90 * time.Second}, "time limit", 137, 9, "ended at its time limit of 90 s"},
		{"time, left politely", evidence{heard: ran(0, 0), asked: limit, lasts: time.Second / 2}, "time limit", 0, 0, "ended at its time limit of 0.5 s"},
		{"memory, told", evidence{heard: heard{started: true}, outOf: true, limit: 200e6, peak: 199.5e6}, "out of memory", 137, 9, "limit 200 MB, peak 199.5 MB"},
		{"memory, counted", evidence{heard: ran(137, 9), kills: 1, limit: 2e9, peak: 2e9}, "out of memory", 137, 9, "limit 2 GB"},
		{"memory, before it ran", evidence{kills: 1, limit: 1e6}, "out of memory", 137, 9, "limit 1 MB"},
		{"memory, of everybody", evidence{heard: ran(137, 9), kills: 1, peak: 589.8e6}, "out of memory", 137, 9,
			"out of memory: the machine's (or the server's cgroup's) memory is used up, peak 589.8 MB"},
		{"memory, of everybody, within its limit", evidence{heard: ran(137, 9), kills: 1, limit: 1e9, peak: 589.8e6}, "out of memory", 137, 9,
			"memory is used up, limit 1 GB, peak 589.8 MB"},
		{"memory, on a kernel that counts no peak", evidence{heard: ran(137, 9), kills: 1, limit: 1e9}, "out of memory", 137, 9,
			"out of memory: limit 1 GB"},
		{"a child was killed, it went on", evidence{heard: ran(3, 0), kills: 1}, "exit code", 3, 0, "exit code 3"},
		{"memory while stopping", evidence{heard: ran(137, 9), kills: 1, asked: stopped}, "stopped", 137, 9, "stopped by somebody"},
	} {
		x := judge(c.evidence)
		if x.Reason != c.reason || x.Code != c.code || x.Signal != c.signal || !strings.Contains(x.Message, c.message) {
			t.Errorf("%s: reason %q, code %d, signal %d, %q; want %q, %d, %d, %q",
				c.name, x.Reason, x.Code, x.Signal, x.Message, c.reason, c.code, c.signal, c.message)
		}
		if c.evidence.asked != nil && x.By != c.evidence.asked.By && x.Reason != "launch failed" {
			t.Errorf("%s: by %q", c.name, x.By)
		}
	}
}

// Where control groups count no kills for want of memory, those of the machine are evidence: on the rootless rung without delegation a
// group is there, in no hierarchy.
func TestKillsWhereNobodyCountsTheEngines(t *testing.T) {
	for name, group := range map[string]*cgroup.Group{"no group": nil, "a group in no hierarchy": cgroup.Open(cgroup.Paths{}), "a group without memory": cgroup.Open(cgroup.Paths{V2: t.TempDir()})} {
		e := &engine{group: group, lacked: oom.Kills() - 3}
		if v := e.evidence(heard{}); v.lacks < 3 {
			t.Errorf("%s: %d kills", name, v.lacks)
		}
	}
}

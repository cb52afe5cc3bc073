package manager

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"muster/engine"
)

var update = flag.Bool("update", false, "write the golden files")

// The descriptions that scripts of the original read, in each state of a life.
func TestDescriptions(t *testing.T) {
	m := &Manager{cfg: Config{User: "Ada Lovelace", Web: "127.0.0.1:8088"}}
	s := m.newSite(&session{project: "/home/ada/My Project"})
	at := func(seconds int) time.Time {
		return time.Date(2023, 9, 28, 8, 37, 44, 36_900_000, time.FixedZone("east", 2*3600)).Add(time.Duration(seconds) * time.Second)
	}
	base := view{
		ID: "ar4nrrt7q0wmarcv", Master: "matqgdmrrh08o6t6", Status: engine.Scheduling, Created: at(0),
		Batch: &batch{
			name: defaultWorkerName, role: engine.RoleWorker, cpu: 0.2, memory: 0.5, gpus: 1,
			kernel: engine.Python3,
		},
	}
	with := func(change func(*view)) view {
		v := base
		change(&v)
		return v
	}
	running := with(func(v *view) {
		v.Addr, v.Status, v.Starting, v.Running = netip.MustParseAddr("100.100.133.8"), engine.Running, at(1), at(2)
	})
	ended := func(change func(*view)) view {
		v := running
		v.Finished = at(5)
		change(&v)
		v.Status = v.Exit.Status()
		return v
	}
	for name, v := range map[string]view{
		"waiting": with(func(v *view) { v.Waits = "waits for 2 GB memory: 0.5 GB of 24 GB is free" }),
		"running": running,
		"succeeded": ended(func(v *view) {
			v.Exit = &engine.Exit{Reason: engine.ReasonSucceeded, CPUNanos: 1_500_000_000}
		}),
		"out-of-memory": ended(func(v *view) {
			v.Exit = &engine.Exit{Reason: engine.ReasonOutOfMemory, Code: 1, Signal: 9, MemoryLimitBytes: 200e6, MemoryPeakBytes: 199.6e6}
		}),
		"stopped": ended(func(v *view) {
			v.Stopping = at(4)
			v.Exit = &engine.Exit{Reason: engine.ReasonStopped, Code: 143, Signal: 15, By: "session"}
		}),
		"launch-failed": with(func(v *view) {
			v.Starting, v.Finished, v.Status = at(1), at(1), engine.Failed
			v.Exit = &engine.Exit{Reason: engine.ReasonLaunchFailed, Step: "namespace", Message: "launch failed at step namespace: operation not permitted"}
		}),
	} {
		golden(t, name, describe(v, s, at(6)))
	}
	r := refused(base.Batch, s, base.Master, "asks for 64 GB, this machine has 24 GB", at(0))
	if !engine.ID(r.EngineID).Valid() {
		t.Errorf("engineId %q", r.EngineID)
	}
	r.EngineID = "xjm08fyudf2ohqzr"
	golden(t, "refused", r)
	golden(t, "unknown", unknown("nonsense", s, base.Master))
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s differs (go test -update writes it):\n%s", file, got.Bytes())
	}
}

func TestExitMessages(t *testing.T) {
	for want, e := range map[string]engine.Exit{
		"":            {Reason: engine.ReasonSucceeded},
		"exit code 7": {Reason: engine.ReasonExitCode, Code: 7},
		"ended by signal 11 (segmentation fault)": {Reason: engine.ReasonSignal, Signal: 11},
		"out of memory":                          {Reason: engine.ReasonOutOfMemory},
		"out of memory: limit 1.5 GB, peak 1 GB": {Reason: engine.ReasonOutOfMemory, MemoryLimitBytes: 1.5e9, MemoryPeakBytes: 1e9},
		"stopped by owner":                       {Reason: engine.ReasonStopped, By: "owner"},
		"session ended":                          {Reason: engine.ReasonSessionEnded},
		"keeper lost":                            {Reason: engine.ReasonKeeperLost},
		"launch failed at step cgroup":           {Reason: engine.ReasonLaunchFailed, Step: "cgroup"},
		"the driver's own words":                 {Reason: engine.ReasonSignal, Message: "the driver's own words"},
	} {
		if got := exitMessage(e); got != want {
			t.Errorf("%+v: %q, want %q", e, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for want, got := range map[string]string{
		"0": number(0), "0.5": number(0.5), "24": number(24), "0.003": number(0.003), "1.33": number(4.0 / 3), "100": number(100),
		"0.5 GB": gigabytes(500e6), "1.99 GB": freeGigabytes(1.999e9), "0 GB": freeGigabytes(-5), "200 MB": size(200e6),
		"1.5 GB": size(1.5e9), "12 kB": size(12_000), "1 core": cores(1), "0.25 cores": cores(0.25), "1 GPU": count(1, "GPU"), "3 GPUs": count(3, "GPU"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSlugs(t *testing.T) {
	for s, want := range map[string]string{"My Project": "my-project", "a_b-9": "a_b-9", "…": "project", "/": "project"} {
		if got := slug(s); got != want {
			t.Errorf("slug(%q) is %q, want %q", s, got, want)
		}
	}
}

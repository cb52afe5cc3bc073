package manager_test

import (
	"slices"
	"testing"
	"time"

	"muster/api"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
)

func TestWaitingForMemory(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 2.5e9, CPU: 4}))
	one, two := b.session(), b.session()
	first := b.launch(one, api.LaunchWorkers{N: 1, CPU: 1, Memory: 2, Code: "hang"})
	waiting := b.launch(two, api.LaunchWorkers{N: 2, CPU: 1, Memory: 2, Code: "hang"})
	small := b.launch(one, api.LaunchWorkers{N: 1, CPU: 1, Memory: 0.1, Code: "hang"})
	b.awaitRunning(one, first[0].ID)
	for _, c := range []struct{ id, want string }{
		{waiting[0].ID, "waits for 2 GB memory: 0.5 GB of 2.5 GB is free"},
		{waiting[1].ID, "waits for 2 GB memory: 0.5 GB of 2.5 GB is free"},
		{small[0].ID, "waits for its turn: the first in the queue waits for 2 GB memory: 0.5 GB of 2.5 GB is free"},
	} {
		w := b.engine(c.id)
		if w.Status != "scheduling" || text(w.K8s.Reason) != "Unschedulable" || text(w.K8s.Message) != c.want {
			t.Errorf("%s, %s: %q, want %q", w.Status, text(w.K8s.Reason), text(w.K8s.Message), c.want)
		}
	}
	if got, want := b.messages(two, "waiting"), "2 workers wait: each waits for 2 GB memory: 0.5 GB of 2.5 GB is free"; !slices.Equal(got, []string{want}) {
		t.Errorf("console: %q, want %q", got, want)
	}
	b.stop(one, first[0].ID)
	if a := b.awaitRunning(two, waiting[0].ID); len(a.Workers) != 1 {
		t.Errorf("%+v", a)
	}
	b.stop(two, waiting[1].ID) // while it waits: the small one behind it fits now
	if a := b.awaitRunning(one, small[0].ID); len(a.Workers) != 1 {
		t.Errorf("%+v", a)
	}
	w := b.engine(waiting[1].ID)
	if w.Status != "stopped" || w.Evidence.By != "session" || w.ExitCode != nil || text(w.K8s.Message) != "stopped by session before it started" {
		t.Errorf("stopped while it waited: %+v", w)
	}
}

// Whoever waits in a session that ends is gone from the queue.
func TestSessionEndFreesTheQueue(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 2e9, CPU: 4}))
	one, two := b.session(), b.session()
	b.launch(one, api.LaunchWorkers{N: 3, CPU: 1, Memory: 2, Code: "hang"})
	ws := b.launch(two, api.LaunchWorkers{N: 1, CPU: 1, Memory: 2, Code: "exit 0"})
	if err := b.EndSession(t.Context(), one, "owner"); err != nil {
		t.Fatal(err)
	}
	if a := b.awaitEnd(two); len(a.Workers) != 1 || a.Workers[0].ID != ws[0].ID {
		t.Errorf("%+v", a)
	}
}

func TestNeverFitsBesidesItsSession(t *testing.T) {
	b := newBench(t)
	id := b.sessionOf(api.CreateSession{Code: "hang", Memory: 20})
	ws := b.launch(id, api.LaunchWorkers{N: 1, CPU: 1, Memory: 8, Code: "hang"})
	if want := "asks for 8 GB, this machine has 24 GB, of which the session itself holds 20 GB"; ws[0].Message != want {
		t.Errorf("%q, want %q", ws[0].Message, want)
	}
}

// Two sessions whose own engines hold what the other's workers want would wait for each other: what only a session's end
// can make room for holds nobody up, and nobody else overtakes.
func TestWaitingForASessionHoldsNobodyUp(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 10e9, CPU: 4}))
	one := b.sessionOf(api.CreateSession{Code: "hang", Memory: 3})
	two := b.sessionOf(api.CreateSession{Code: "hang", Memory: 3})
	large := b.launch(one, api.LaunchWorkers{N: 1, CPU: 1, Memory: 6, Code: "hang"})
	small := b.launch(two, api.LaunchWorkers{N: 1, CPU: 1, Memory: 2, Code: "hang"})
	if a := b.awaitRunning(two, small[0].ID); len(a.Workers) != 1 {
		t.Fatalf("%+v", a)
	}
	middle := b.launch(two, api.LaunchWorkers{N: 1, CPU: 1, Memory: 4, Code: "hang"})
	last := b.launch(one, api.LaunchWorkers{N: 1, CPU: 1, Memory: 1, Code: "hang"})
	for id, want := range map[string]string{
		large[0].ID:  "waits for a session to end: asks for 6 GB memory, sessions themselves hold 6 GB of 10 GB",
		middle[0].ID: "waits for 4 GB memory: 2 GB of 10 GB is free",
		last[0].ID:   "waits for its turn: the first in the queue waits for 4 GB memory: 2 GB of 10 GB is free",
	} {
		if w := b.engine(id); text(w.K8s.Message) != want {
			t.Errorf("%q, want %q", text(w.K8s.Message), want)
		}
	}
	if err := b.EndSession(t.Context(), two, "owner"); err != nil {
		t.Fatal(err)
	}
	if a := b.awaitRunning(one, large[0].ID, last[0].ID); len(a.Workers) != 2 {
		t.Errorf("%+v", a)
	}
}

// A new session can be what makes the head of the queue wait for a session's end: those behind it are admitted then.
func TestANewSessionLetsTheQueueGoOn(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 10e9, CPU: 4}))
	one := b.session()
	b.launch(one, api.LaunchWorkers{N: 1, CPU: 1, Memory: 4, Code: "hang"})
	b.launch(one, api.LaunchWorkers{N: 1, CPU: 1, Memory: 8, Code: "hang"})
	small := b.launch(one, api.LaunchWorkers{N: 1, CPU: 1, Memory: 2, Code: "hang"})
	b.sessionOf(api.CreateSession{Code: "hang", Memory: 3})
	if a := b.awaitRunning(one, small[0].ID); len(a.Workers) != 1 {
		t.Errorf("%+v", a)
	}
}

// CPU is a share: it never refuses or delays, and is mentioned once.
func TestCPUIsAShare(t *testing.T) {
	b := newBench(t)
	id := b.session()
	b.launch(id, api.LaunchWorkers{N: 3, CPU: 2, Memory: 0.1, Code: "hang"})
	b.launch(id, api.LaunchWorkers{N: 2, CPU: 1e300, Memory: 0.1, Code: "hang"})
	if a := b.awaitRunning(id); len(a.Workers) != 5 {
		t.Errorf("%+v", a.Failures)
	}
	if got, want := b.messages(id, "notice"), "workers ask for 6 cores in all, this machine has 4: they share them"; !slices.Equal(got, []string{want}) {
		t.Errorf("console: %q, want %q", got, want)
	}
}

// What is said of absurd requests is the sum all the same.
func TestAbsurdCPU(t *testing.T) {
	for _, c := range []struct {
		cpu  float64
		want string
	}{{1e6, "1000000.1 cores"}, {1e8, "100000000.1 cores"}, {1e300, "1000000000 cores or more"}} {
		b := newBench(t)
		id := b.session()
		b.awaitRunning(id, b.launch(id, api.LaunchWorkers{N: 1, CPU: 0.1, Memory: 0.1, Code: "hang"})[0].ID)
		b.awaitRunning(id, b.launch(id, api.LaunchWorkers{N: 1, CPU: c.cpu, Memory: 0.1, Code: "hang"})[0].ID)
		want := "workers ask for " + c.want + " in all, this machine has 4: they share them"
		if got := b.messages(id, "notice"); !slices.Equal(got, []string{want}) {
			t.Errorf("console: %q, want %q", got, want)
		}
	}
}

func TestHardCPU(t *testing.T) {
	b := newBench(t, hard, capacity(manager.Capacity{MemoryBytes: 24e9, CPU: 3}))
	id := b.session() // holds a core
	if w := b.launch(id, api.LaunchWorkers{N: 1, CPU: 8, Memory: 1}); w[0].Message != "asks for 8 cores, this machine has 3" {
		t.Errorf("%q", w[0].Message)
	}
	if w := b.launch(id, api.LaunchWorkers{N: 1, CPU: 2.5, Memory: 1}); w[0].Message != "asks for 2.5 cores, this machine has 3, of which the session itself holds 1" {
		t.Errorf("%q", w[0].Message)
	}
	ws := b.launch(id, api.LaunchWorkers{N: 2, CPU: 1.5, Memory: 1, Code: "hang"})
	b.awaitRunning(id, ws[0].ID)
	if w := b.engine(ws[1].ID); text(w.K8s.Message) != "waits for 1.5 cores: 0.5 of 3 are free" {
		t.Errorf("%q", text(w.K8s.Message))
	}
	b.stop(id, ws[0].ID)
	if a := b.awaitRunning(id, ws[1].ID); len(a.Workers) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestHardCPUNeedsADriverThatCaps(t *testing.T) {
	d := fake.New(fake.Options{})
	defer d.Close()
	_, err := manager.New(manager.Config{
		Driver: d, Kernels: scripts{}, Capacity: manager.Capacity{MemoryBytes: 1e9, CPU: 1}, StateDir: "x", OwnerToken: "x", HardCPU: true,
	})
	if want := "CPU cannot be capped by the fake driver on this machine"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestGPUsAreExclusive(t *testing.T) {
	gpus := []driver.GPU{{Index: 0, UUID: "GPU-a"}, {Index: 1, UUID: "GPU-b"}, {Index: 2, UUID: "GPU-c"}}
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 24e9, CPU: 4, GPUs: gpus}))
	id := b.session()
	gpu := func(n, each int, code string) []api.Worker {
		return b.launch(id, api.LaunchWorkers{N: n, CPU: 1, Memory: 1, GPUs: each, Code: code})
	}
	const show = "print $CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES\n"
	two, one, waits := gpu(1, 2, show+"hang"), gpu(1, 1, show+"hang"), gpu(1, 1, show)
	b.awaitRunning(id, two[0].ID, one[0].ID)
	if w := b.engine(waits[0].ID); text(w.K8s.Message) != "waits for 1 GPU: 0 of 3 are free" {
		t.Errorf("%q", text(w.K8s.Message))
	}
	for _, w := range []string{two[0].ID, one[0].ID} { // it runs, and may not have printed yet
		for late := time.Now().Add(deadline); b.output(id, w, console.Stdout) == "" && time.Now().Before(late); {
			time.Sleep(time.Millisecond)
		}
	}
	b.stop(id, two[0].ID)
	b.awaitEnd(id, two[0].ID, waits[0].ID)
	none := gpu(1, 0, show)
	b.awaitEnd(id, none[0].ID)
	for w, want := range map[string]string{
		two[0].ID: "GPU-a,GPU-b GPU-a,GPU-b\n", one[0].ID: "GPU-c GPU-c\n", waits[0].ID: "GPU-a GPU-a\n", none[0].ID: " void\n",
	} {
		if got := b.output(id, w, console.Stdout); got != want && " "+got != want {
			t.Errorf("sees %q, want %q", got, want)
		}
	}
}

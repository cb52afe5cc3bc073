package manager_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
)

func TestBadWorkers(t *testing.T) {
	b := newBench(t)
	id := b.session()
	long := strings.Repeat("x", 2_000_000)
	for _, c := range []struct {
		change func(*api.LaunchWorkers)
		want   string
	}{
		{func(r *api.LaunchWorkers) { r.CPU = 0 }, "cpu must be a number of cores above 0, not 0"},
		{func(r *api.LaunchWorkers) { r.CPU = -0.5 }, "cpu must be a number of cores above 0, not -0.5"},
		{func(r *api.LaunchWorkers) { r.CPU = math.NaN() }, "cpu must be a number of cores above 0, not NaN"},
		{func(r *api.LaunchWorkers) { r.CPU = math.Inf(1) }, "cpu must be a number of cores above 0, not +Inf"},
		{func(r *api.LaunchWorkers) { r.Memory = 0 }, "memory must be a number of gigabytes above 0, not 0"},
		{func(r *api.LaunchWorkers) { r.Memory = -2 }, "memory must be a number of gigabytes above 0, not -2"},
		{func(r *api.LaunchWorkers) { r.Memory = math.NaN() }, "memory must be a number of gigabytes above 0, not NaN"},
		{func(r *api.LaunchWorkers) { r.Memory = math.Inf(-1) }, "memory must be a number of gigabytes above 0, not -Inf"},
		{func(r *api.LaunchWorkers) { r.Memory = 1e300 }, "memory must be a number of gigabytes, 1e+300 is too large to be one"},
		{func(r *api.LaunchWorkers) { r.Memory = 0.003 }, "memory is 0.003 GB (3 MB): an interpreter needs at least 0.004 GB (4 MB) to start"},
		{func(r *api.LaunchWorkers) { r.Memory = 64 }, "asks for 64 GB, this machine has 24 GB"},
		{func(r *api.LaunchWorkers) { r.GPUs = -1 }, "nvidia_gpu must be 0 or more, not -1"},
		{func(r *api.LaunchWorkers) { r.GPUs = 2 }, "asks for 2 GPUs, this machine has 0"},
		{func(r *api.LaunchWorkers) { r.Kernel = "cobol" }, `unknown kernel "cobol" (kernels are python3, r)`},
		{func(r *api.LaunchWorkers) { r.Kernel = "r" }, "no interpreter for kernel r (apt install r-base-core)"},
		{func(r *api.LaunchWorkers) { r.Script = "missing.py" }, `script "missing.py" does not exist`},
		{func(r *api.LaunchWorkers) { r.Script = "a\x00.py" }, `the script's name "a\x00.py" has a NUL byte`},
		{func(r *api.LaunchWorkers) { r.Code = "print 1\x00" }, "the code has a NUL byte at offset 7"},
		{func(r *api.LaunchWorkers) { r.Code = "é\xff" }, "the code is not UTF-8: byte 0xff at offset 2"},
		{func(r *api.LaunchWorkers) { r.Name = "a\nb" }, `the name "a\nb" has characters that cannot be printed`},
		{func(r *api.LaunchWorkers) { r.Name = strings.Repeat("n", 300) }, "the name has 300 bytes: at most 200 are allowed"},
		{func(r *api.LaunchWorkers) { r.Kernel = long }, "the kernel's name has 2000000 bytes: at most 200 are allowed"},
		{func(r *api.LaunchWorkers) { r.Script = long }, "the script's name has 2000000 bytes: at most 4096 are allowed"},
		{func(r *api.LaunchWorkers) { r.Env = map[string]string{"": "v"} }, "env has a variable without a name"},
		{func(r *api.LaunchWorkers) { r.Env = map[string]string{"A=B": "v"} }, `env: "A=B" cannot be the name of a variable`},
		{func(r *api.LaunchWorkers) { r.Env = map[string]string{"A\x00": "v"} }, "env: \"A\\x00\" cannot be the name of a variable"},
		{func(r *api.LaunchWorkers) { r.Env = map[string]string{"A": "v\x00"} }, "env: the value of A has a NUL byte"},
		{func(r *api.LaunchWorkers) { r.Env = map[string]string{"BIG": long} },
			"env: the value of BIG has 2 MB, the system's limit is 131.07 kB (write it to a file in the project)"},
		{func(r *api.LaunchWorkers) {
			r.Env = map[string]string{}
			for i := range 20 {
				r.Env["A"+strconv.Itoa(i)] = long[:100_000]
			}
		}, "env has 2 MB in all, at most 1.05 MB are allowed (write large values to a file in the project)"},
	} {
		req := worker(2, "print never")
		c.change(&req)
		before := len(b.messages(id, "refused"))
		ws := b.launch(id, req)
		if len(ws) != 2 {
			t.Fatalf("%s: %d descriptions", c.want, len(ws))
		}
		for _, w := range ws {
			if w.ID != "" || w.Message != c.want || w.K8sMessage != c.want || !engine.ID(w.EngineID).Valid() || w.IPAddress != "unknown" || w.Status != "failed" {
				t.Errorf("refused %+v, want message %q", w, c.want)
			}
		}
		told := b.messages(id, "refused")[before:]
		if want := "2 workers refused: " + c.want; !slices.Equal(told, []string{want}) {
			t.Errorf("console says %q, want %q", told, want)
		}
	}
	if all, _ := b.Workers(id, ""); len(all.Workers) != 0 {
		t.Errorf("%d workers listed", len(all.Workers))
	}
	if n := b.driver.World().Count(); n["engines"] != 1 || n["addresses"] != 1 {
		t.Errorf("left: %v", n)
	}
}

// What is refused is described as often as workers were asked for: nothing of it may be as long as the request was.
func TestRefusalsAreShort(t *testing.T) {
	b := newBench(t)
	id := b.session()
	long := strings.Repeat("é=", 500_000)
	for what, change := range map[string]func(*api.LaunchWorkers){
		"name": func(r *api.LaunchWorkers) { r.Name = long }, "kernel": func(r *api.LaunchWorkers) { r.Kernel = long },
		"script": func(r *api.LaunchWorkers) { r.Script = long }, "code": func(r *api.LaunchWorkers) { r.Code = long + "\x00" },
		"variable": func(r *api.LaunchWorkers) { r.Env = map[string]string{long: ""} },
	} {
		req := worker(2, "print never")
		change(&req)
		ws := b.launch(id, req)
		text, err := json.Marshal(ws)
		if err != nil || len(ws) != 2 || ws[0].ID != "" || ws[0].Message == "" || len(text) > 10_000 {
			t.Errorf("long %s: %d refused, %d bytes in all, %v", what, len(ws), len(text), err)
		}
	}
	if told := b.messages(id, "refused"); len(told) != 5 {
		t.Errorf("%d of 5 refusals are in the console", len(told))
	}
}

func TestBadLaunches(t *testing.T) {
	b := newBench(t)
	id := b.session()
	for n, want := range map[int]string{-1: "n must be from 0 to 10000, not -1", 10_001: "n must be from 0 to 10000, not 10001"} {
		_, _, err := b.Launch(t.Context(), id, worker(n, "hang"))
		if engine.KindOf(err) != engine.Invalid || err.Error() != want {
			t.Errorf("n=%d: %v, want %s", n, err, want)
		}
	}
	if _, _, err := b.Launch(t.Context(), id, worker(1, "break")); engine.KindOf(err) != engine.Internal || err.Error() != "launch workers: something is wrong with us" {
		t.Errorf("a mistake of ours: %v", err)
	}
	if ws := b.launch(id, worker(0, "hang")); ws == nil || len(ws) != 0 {
		t.Errorf("n=0: %v", ws)
	}
}

func TestLaunchRunsAndDescribes(t *testing.T) {
	b := newBench(t)
	id := b.session()
	req := worker(3, "print $CDSW_ENGINE_ID $COLOUR\nexit 0")
	req.Env = map[string]string{"COLOUR": "green"}
	reply, release, err := b.Launch(t.Context(), id, req)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, w := range reply.Workers {
		if w.Status != "scheduling" || !strings.HasPrefix(w.IPAddress, "100.100.") || seen[w.IPAddress] || w.Name != "Untitled Worker" || w.MasterID != string(id) {
			t.Errorf("launched %+v", w)
		}
		seen[w.IPAddress] = true
	}
	if n := b.driver.World().Count()["engines"]; n != 1 {
		t.Errorf("%d engines run before the reply is written, want the session's own alone", n)
	}
	release()
	release() // harmless
	a := b.awaitEnd(id)
	if !slices.Equal(ids(a.Workers), ids(reply.Workers)) || len(a.Failures) != 0 {
		t.Errorf("awaited %+v", a)
	}
	for _, w := range a.Workers {
		if out := b.output(id, w.ID, console.Stdout); out != w.ID+" green\n" {
			t.Errorf("output %q", out)
		}
		if w.ExitCode == nil || *w.ExitCode != 0 || w.StartingAt == nil || w.RunningAt == nil || w.FinishedAt == nil || w.Reason != "succeeded" {
			t.Errorf("ended %+v", w)
		}
	}
}

func TestTwoHundredInOrder(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 24e9, CPU: 4}))
	id := b.session()
	ws := b.launch(id, api.LaunchWorkers{N: 150, CPU: 0.1, Memory: 0.1, Code: "exit 0"})
	ws = append(ws, b.launch(id, api.LaunchWorkers{N: 50, CPU: 0.1, Memory: 0.1, Code: "exit 0"})...)
	if a := b.awaitEnd(id); !slices.Equal(ids(a.Workers), ids(ws)) {
		t.Error("awaited: not in launch order, or not all")
	}
	all, err := b.Workers(id, "")
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(ws)
	if !slices.Equal(ids(all.Workers), ids(ws)) {
		t.Error("listed: not newest first")
	}
	if s, _ := b.Session(id); s.Workers != 200 || s.Live != 0 {
		t.Errorf("session %+v", s)
	}
}

// More than one call of the driver takes.
func TestLaunchInSeveralBatches(t *testing.T) {
	b := newBench(t)
	id := b.session()
	b.launch(id, api.LaunchWorkers{N: 1300, CPU: 0.1, Memory: 0.01, Code: "hang"})
	if all := b.awaitRunning(id); len(all.Workers) != 1300 {
		t.Errorf("%d run", len(all.Workers))
	}
	if r, err := b.Stop(t.Context(), id, api.Stop{All: true}, "session"); err != nil || len(r.Results) != 1300 {
		t.Errorf("%d stopped, %v", len(r.Results), err)
	}
	if all := b.awaitEnd(id); len(all.Failures) != 1300 || all.Failures[1299].Status != "stopped" {
		t.Errorf("%d ended", len(all.Failures))
	}
}

func TestLaunchFails(t *testing.T) {
	for _, step := range fake.EngineSteps {
		t.Run(step, func(t *testing.T) {
			b := newBench(t, capacity(manager.Capacity{MemoryBytes: 2e9, CPU: 4}), func(_ *manager.Config, f *fake.Options) {
				f.Fail = func(at string, s driver.Spec) error {
					if at == step && s.Name == "fails" {
						return errors.New("injected")
					}
					return nil
				}
			})
			id := b.session()
			req := worker(2, "hang")
			req.Name = "fails"
			b.launch(id, req)
			a := b.awaitRunning(id)
			for _, w := range a.Failures {
				if w.Status != "failed" || w.Reason != "launch failed" || !strings.Contains(text(w.K8s.Message), "injected") || w.Evidence.Step == "" || w.ExitCode != nil {
					t.Errorf("failed %+v: %s", w, text(w.K8s.Message))
				}
			}
			if len(a.Failures) != 2 || len(a.Workers) != 0 {
				t.Errorf("%+v", a)
			}
			b.launch(id, worker(2, "exit 0")) // the room is free again
			if a := b.awaitEnd(id); len(a.Workers) != 2 {
				t.Errorf("%+v", a)
			}
			if n := b.driver.World().Count(); n["addresses"] != 1 {
				t.Errorf("left: %v", n)
			}
		})
	}
}

func TestNoAddresses(t *testing.T) {
	b := newBench(t, func(_ *manager.Config, f *fake.Options) {
		var reserved atomic.Int32
		f.Fail = func(at string, s driver.Spec) error {
			if at == fake.StepReserve && reserved.Add(1) > 1 { // the first is the session's own
				return engine.Errorf(engine.Unavailable, "no address is free")
			}
			return nil
		}
	})
	id := b.session()
	if ws := b.launch(id, worker(3, "hang")); len(ws) != 3 || ws[0].Message != "no address is free" {
		t.Errorf("%+v", ws)
	}
	if all, _ := b.Workers(id, ""); len(all.Workers) != 0 {
		t.Errorf("listed %+v", all)
	}
}

func TestKernelOfWorkers(t *testing.T) {
	b := newBench(t)
	id := b.sessionOf(api.CreateSession{Code: "hang", Kernel: "python3"})
	for _, c := range []struct{ kernel, script, want string }{
		{"", "", "python3"}, {"", "a.py", "python3"}, {"", "a.r", "r"}, {"", "a.txt", "python3"}, {"python3", "a.r", "python3"},
	} {
		req := worker(1, "exit 0")
		req.Kernel, req.Script = c.kernel, c.script
		if w := b.launch(id, req); w[0].Kernel != c.want {
			t.Errorf("%+v: kernel %s", c, w[0].Kernel)
		}
	}
}

// A launch that is asked for again while it is being carried out, because a link broke, is answered when it is.
func TestLaunchAskedForAgainMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var goOn chan struct{} // nil: nobody waits
		refuse := true
		b := newBench(t, func(_ *manager.Config, f *fake.Options) {
			f.Fail = func(step string, s driver.Spec) error {
				if step != fake.StepReserve || goOn == nil {
					return nil
				}
				<-goOn
				if refuse {
					refuse = false
					return engine.Errorf(engine.Unavailable, "injected")
				}
				return nil
			}
		})
		id := b.session()
		goOn = make(chan struct{})
		req := worker(2, "hang")
		req.Key = "one launch"
		replies := make(chan api.Workers)
		for range 3 {
			go func() {
				reply, release, err := b.Launch(t.Context(), id, req)
				if err != nil {
					t.Error(err)
				}
				release()
				replies <- reply
			}()
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := b.Launch(ctx, id, req); !errors.Is(err, context.Canceled) {
			t.Errorf("who went away: %v", err)
		}
		close(goOn)
		var accepted []string
		for range 3 {
			if reply := <-replies; reply.Workers[0].ID != "" {
				accepted = append(accepted, reply.Workers[0].ID)
			}
		}
		if len(accepted) != 2 || accepted[0] != accepted[1] {
			t.Errorf("one was refused, the others are one launch: %v", accepted)
		}
		if s, err := b.Session(id); err != nil || s.Workers != 2 {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

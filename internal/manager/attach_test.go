package manager_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver/fake"
	"muster/internal/kernel"
	"muster/internal/manager"
)

// sleeper is a process outside that lives until the test ends it.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

// A process becomes a session: it is described as an engine that runs, learns who it is, its workers run on its interpreter
// and environment, it takes no room, and its end is the session's.
func TestAttached(t *testing.T) {
	var asked kernel.Request
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 2e9, CPU: 4}), func(c *manager.Config, _ *fake.Options) { c.Kernels = scripts{asked: &asked} })
	cmd := sleeper(t)
	s, err := b.CreateSession(t.Context(), api.CreateSession{
		Kind: "attached", Name: "notebook", Project: b.project, OwnerPID: cmd.Process.Pid, Interpreter: "/bin/sh",
		BaseEnv: map[string]string{"MARK": "base", "CDSW_ENGINE_ID": "another"},
	})
	if err != nil {
		t.Fatal(err)
	}
	id := engine.ID(s.ID)
	own := s.Engine
	if s.Kind != "attached" || s.Token == "" || own.ID != s.ID || own.MasterID != s.ID || own.Status != "running" || own.Kernel != "python3" || own.CPU != 4 || own.Batch {
		t.Errorf("%+v", s)
	}
	if ip := own.IPAddress; s.Env["CDSW_ENGINE_ID"] != s.ID || s.Env["CDSW_MASTER_ID"] != s.ID || s.Env["CDSW_MASTER_IP"] != ip || s.Env["CDSW_IP_ADDRESS"] != ip ||
		s.Env["CDSW_API_KEY"] != s.Token || s.Env["CDSW_ENGINE_TYPE"] != "session" || s.Env["MUSTER_URL"] == "" || s.Env["CDSW_CPU_MILLICORES"] != "4000" {
		t.Errorf("%v", s.Env)
	}
	for k := range s.Env {
		if k != "PROJECT_OWNER" && !strings.HasPrefix(k, "CDSW_") && !strings.HasPrefix(k, "CML_") && !strings.HasPrefix(k, "MUSTER_") {
			t.Errorf("the process is to set %s", k)
		}
	}
	if got, err := b.Session(id); err != nil || got.Env != nil || got.Token != "" {
		t.Errorf("later: %+v, %v", got, err)
	}
	ws := b.launch(id, worker(2, "env CDSW_MASTER_IP\nenv MARK\nenv SEEN_INTERPRETER\nhang")) // all the memory there is
	b.awaitRunning(id)
	if asked.Interpreter[engine.Python3] != "/bin/sh" || asked.Trusted {
		t.Errorf("asked %+v", asked)
	}
	if err := b.Interrupt(t.Context(), id); engine.KindOf(err) != engine.Conflict {
		t.Errorf("interrupt: %v", err)
	}
	cmd.Process.Kill()
	b.ended(id)
	if out := b.output(id, ws[0].ID, console.Stdout); out != own.IPAddress+"\nbase\n/bin/sh\n" {
		t.Errorf("the worker printed %q", out)
	}
	if w := b.engine(ws[1].ID); w.Status != "stopped" || w.Reason != "session ended" {
		t.Errorf("worker: %+v", w)
	}
	if got, _ := b.Session(id); !got.Ended || got.Engine.Status != "stopped" || got.Live != 0 {
		t.Errorf("ended: %+v", got)
	}
}

func TestEndOfAttached(t *testing.T) {
	b := newBench(t)
	cmd := sleeper(t)
	id := b.sessionOf(api.CreateSession{Kind: "attached", OwnerPID: cmd.Process.Pid})
	b.ended(func() engine.ID { b.EndSession(t.Context(), id, "user"); return id }())
	if got, _ := b.Session(id); got.Engine.Status != "stopped" || got.Engine.Evidence == nil || got.Engine.Evidence.By != "user" {
		t.Errorf("ended: %+v", got.Engine)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process: %v", err)
	}
}

// A process is called by its file's name, whatever that is.
func TestAttachedIsCalledByItsFile(t *testing.T) {
	b := newBench(t)
	for name, want := range map[string]string{
		"a\tb\x00.py": "a b .py", strings.Repeat("数", 70) + ".py": strings.Repeat("数", 65) + "…", "caf\xe9": "caf?", "": "session",
	} {
		s, err := b.CreateSession(t.Context(), api.CreateSession{Kind: "attached", Name: name, Project: b.project, OwnerPID: sleeper(t).Process.Pid})
		if err != nil || s.Name != want {
			t.Errorf("%q is called %q, %v; want %q", name, s.Name, err, want)
		}
	}
}

func TestBadAttached(t *testing.T) {
	b := newBench(t)
	pid := os.Getpid()
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	for _, c := range []struct {
		req  api.CreateSession
		says string
	}{
		{api.CreateSession{Kind: "strange", Code: "hang"}, `no kind of session "strange"`},
		{api.CreateSession{Kind: "attached"}, "owner_pid"},
		{api.CreateSession{Kind: "attached", OwnerPID: 1 << 30}, "no such process"},
		{api.CreateSession{Kind: "attached", OwnerPID: pid, Code: "hang"}, "runs no code of its own"},
		{api.CreateSession{Kind: "attached", OwnerPID: pid, Memory: 1}, "leave cpu, memory"},
		{api.CreateSession{Kind: "attached", OwnerPID: pid, Kernel: "cobol"}, `unknown kernel "cobol"`},
		{api.CreateSession{Kind: "attached", OwnerPID: pid, Interpreter: "python3"}, "no absolute path"},
		{api.CreateSession{Kind: "attached", OwnerPID: pid, Interpreter: "/missing"}, "no such file"},
		{api.CreateSession{Kind: "attached", OwnerPID: pid, Interpreter: file}, "no program"},
		{api.CreateSession{Kind: "attached", OwnerPID: pid, Project: "relative"}, "no absolute path"},
		{api.CreateSession{Code: "hang", Interpreter: "/bin/sh"}, "only that of an attached session"},
	} {
		if c.req.Project == "" {
			c.req.Project = b.project
		}
		_, err := b.CreateSession(t.Context(), c.req)
		if err == nil || engine.KindOf(err) != engine.Invalid && c.req.Kernel == "" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.req, err, c.says)
		}
	}
}

// The server that waits for being idle counts from the end of the last session, and refuses those who come too late.
func TestAwaitIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		start := time.Now()
		idle := make(chan error, 1)
		go func() { idle <- b.AwaitIdle(t.Context(), 10*time.Second) }()
		for _, code := range []string{"sleep 30s", "sleep 60s"} {
			time.Sleep(8 * time.Second)
			b.sessionOf(api.CreateSession{Code: code})
		}
		if err := <-idle; err != nil {
			t.Fatal(err)
		}
		if got, want := time.Since(start), (16+60+10)*time.Second; got < want || got > want+time.Second {
			t.Errorf("idle after %v, want %v", got, want)
		}
		if _, err := b.CreateSession(t.Context(), api.CreateSession{Code: "hang", Project: b.project}); engine.KindOf(err) != engine.Unavailable {
			t.Errorf("a session of a server that ends: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := b.AwaitIdle(ctx, time.Hour); err != context.Canceled {
			t.Errorf("cancelled: %v", err)
		}
	})
}

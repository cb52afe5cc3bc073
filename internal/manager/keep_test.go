package manager_test

import (
	"testing"
	"testing/synctest"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/kernel"
	"muster/internal/manager"
)

// Code and environments may be megabytes: they are kept as long as something may start with them, also as a restart, descriptions
// for ever.
func TestWhatIsOverHoldsNothing(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 2e9, CPU: 4}))
	id := b.sessionOf(api.CreateSession{Code: "hang", BaseEnv: map[string]string{"A": "1"}})
	holds := func(what string, origins, works int) {
		t.Helper()
		if o, w := b.Holds(id); o != origins || w != works {
			t.Errorf("%s: %d environments, the work of %d batches; want %d, %d", what, o, w, origins, works)
		}
	}
	ws := b.launch(id, worker(3, "hang")) // the third one waits
	b.awaitRunning(id, ws[0].ID, ws[1].ID)
	b.stop(id, ws[0].ID)
	b.awaitEnd(id, ws[0].ID)
	b.awaitRunning(id, ws[2].ID)
	holds("two of three run", 1, 2)
	b.stop(id, ws[1].ID, ws[2].ID)
	b.awaitEnd(id)
	holds("the session's own runs", 1, 2)
	b.launch(id, worker(1, "exit 0"))
	b.awaitEnd(id)
	if err := b.EndSession(t.Context(), id, "owner"); err != nil {
		t.Fatal(err)
	}
	holds("it has ended", 0, 0)
	if w := b.engine(ws[0].ID); w.Kernel != "python3" || w.Name != "Untitled Worker" || w.CPU != 1 {
		t.Errorf("%+v", w)
	}
}

// Interpreters are looked up with the environment that the owner gave the session, never with a launch's.
func TestSearchIsTheSessions(t *testing.T) {
	var asked kernel.Request
	b := newBench(t, func(c *manager.Config, _ *fake.Options) { c.Kernels = scripts{asked: &asked} })
	id := b.sessionOf(api.CreateSession{
		Code: "hang", BaseEnv: map[string]string{"PATH": "/base", "MARK": "base"}, Env: map[string]string{"MARK": "session"}})
	if !asked.Trusted || asked.SearchEnv["MARK"] != "session" {
		t.Errorf("the session's: trusted %v, search %v", asked.Trusted, asked.SearchEnv)
	}
	path := asked.SearchEnv["PATH"]
	req := worker(1, "exit 0")
	req.Env = map[string]string{"PATH": "/evil", "MARK": "launch", "NEW": "1"}
	b.launch(id, req)
	if asked.Trusted || asked.SearchEnv["PATH"] != path || asked.SearchEnv["MARK"] != "session" || asked.SearchEnv["NEW"] != "" {
		t.Errorf("a launch's: trusted %v, search %v", asked.Trusted, asked.SearchEnv)
	}
	if asked.Env["MARK"] != "launch" {
		t.Errorf("a launch's environment: %v", asked.Env)
	}
	b.awaitEnd(id)
}

// A server that goes down leaves no session that was just being created.
func TestEndAllRefusesNewSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opening, goOn := make(chan struct{}), make(chan struct{})
		b := newBench(t, func(_ *manager.Config, f *fake.Options) {
			f.Fail = func(at string, _ driver.Spec) error {
				if at == fake.StepListen {
					close(opening)
					<-goOn
				}
				return nil
			}
		})
		created := make(chan error, 1)
		go func() {
			_, err := b.CreateSession(t.Context(), api.CreateSession{Code: "hang", Project: b.project})
			created <- err
		}()
		<-opening
		if err := b.EndAll(t.Context(), "server"); err != nil {
			t.Error(err)
		}
		close(goOn)
		if err := <-created; engine.KindOf(err) != engine.Unavailable || err.Error() != "create session: the server is going down" {
			t.Errorf("created after the end: %v", err)
		}
		if n := b.driver.World().Count()["places"]; n != 0 {
			t.Errorf("%d places left", n)
		}
	})
}

package manager_test

import (
	"fmt"
	"testing"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
)

// A keeper that is killed after it wrote how an engine ended, and before it told that: the log's word holds, not that the keeper is
// lost, also with the server that lives. Found by make chaos (SEED=11).
func TestEndThatWasWrittenAndNotTold(t *testing.T) {
	killed := &opens{tells: func(o driver.Observation) driver.Observation {
		if o.Kind == driver.Exited {
			o.Exit = &engine.Exit{Reason: engine.ReasonKeeperLost, Code: 137, Signal: 9, At: o.At, Message: "the session's keeper was killed"}
		}
		return o
	}}
	b := newBench(t, func(c *manager.Config, _ *fake.Options) { c.Driver = killed })
	id := b.session()
	ws := b.launch(id, api.LaunchWorkers{N: 1, CPU: 0.1, Memory: 0.1, Code: "exit 3"})
	b.awaitEnd(id, ws[0].ID)
	if w := b.engine(ws[0].ID); w.Reason != string(engine.ReasonExitCode) || w.ExitCode == nil || *w.ExitCode != 3 {
		t.Errorf("it is told to have ended so: %+v", w)
	}
}

// A worker that the driver refuses because its session is ending has not failed, though nobody has told the manager of that end yet.
func TestStartInAnEndingSession(t *testing.T) {
	b := newBench(t, func(_ *manager.Config, f *fake.Options) {
		f.Fail = func(step string, s driver.Spec) error {
			if step == fake.StepAccept && s.Role == engine.RoleWorker {
				return &driver.StartError{Step: "keeper", Err: fmt.Errorf("keeper: %w", driver.ErrEnding)}
			}
			return nil
		}
	})
	id := b.session()
	w := b.launch(id, worker(1, "exit 0"))[0]
	if a := b.awaitEnd(id, w.ID); len(a.Failures) != 1 || a.Failures[0].Status != "stopped" || a.Failures[0].Reason != "session ended" {
		t.Errorf("%+v", a)
	}
}

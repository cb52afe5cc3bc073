package keeper

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"muster/internal/console"
	"muster/internal/keeper/wire"
)

// live goes with the engine from its start to its end: it hears its init, waits until every process of it is gone and its
// output is complete, and then says how it ended.
func (e *engine) live() {
	for _, p := range e.pumps {
		go p.run()
	}
	e.watchMemory()
	e.resumeStop()
	failed, exited := e.hear()
	e.process.Wait()
	e.keeper.endStrays()
	for _, p := range e.pumps {
		p.finish()
	}
	e.mu.Lock()
	if e.killing != nil {
		e.killing.Stop()
	}
	e.mu.Unlock()
	if e.memory != nil {
		e.memory.Close()
	}
	exit := e.judge(failed, exited)
	e.record(exit)
	e.clean()
	e.keeper.exited(e, exit)
}

// resumeStop carries out a stop that was asked for while the init was being started.
func (e *engine) resumeStop() {
	e.mu.Lock()
	asked := e.asked
	e.mu.Unlock()
	if asked != nil {
		e.kill()
	}
}

// hear receives the init's reports until it ends.
func (e *engine) hear() (failed *wire.Failed, exited *wire.Exited) {
	defer e.control.Close()
	for {
		var r wire.Report
		if _, err := e.control.Receive(&r); err != nil {
			return failed, exited
		}
		switch {
		case r.Started:
			e.keeper.tell(wire.Event{Kind: wire.EventStarted, Engine: e.id, Pid: e.pid})
		case r.Failed != nil:
			failed = r.Failed
		case r.Exited != nil:
			exited = r.Exited
			e.mu.Lock()
			e.over = true
			e.mu.Unlock()
		}
	}
}

// watchMemory ends the whole engine when the kernel killed one process of it at the memory limit: an engine that limps on
// without one of its processes helps nobody.
func (e *engine) watchMemory() {
	if e.group == nil || e.limit == 0 {
		return
	}
	events, err := e.group.OOMEvents()
	if err != nil {
		return // the counter is read at the end all the same
	}
	e.memory = events
	go func() {
		if _, err := events.Wait(); err != nil {
			return // the engine is over
		}
		e.mu.Lock()
		e.outOf = true
		e.mu.Unlock()
		e.kill()
	}()
}

// judge says how the engine ended, from what was asked, reported and measured.
func (e *engine) judge(failed *wire.Failed, exited *wire.Exited) *wire.Exit {
	x := &wire.Exit{At: time.Now(), MemoryLimitBytes: e.limit}
	kills := 0
	if e.group != nil {
		if s, err := e.group.Stats(); err == nil {
			x.MemoryPeakBytes, x.CPUNanos, kills = int64(s.MemoryPeakBytes), int64(s.CPUNanos), int(s.OOMKills)
		}
	}
	e.mu.Lock()
	asked, outOf := e.asked, e.outOf
	e.mu.Unlock()
	killed := exited == nil || exited.Signal == int(syscall.SIGKILL)
	switch {
	case failed != nil:
		x.Reason, x.Code, x.Step = "launch failed", 1, failed.Step
		x.Message = fmt.Sprintf("launch failed at %q: %s", failed.Step, failed.Message)
	case outOf && asked == nil, kills > 0 && killed && asked == nil:
		x.Reason, x.Code, x.Signal = "out of memory", 137, int(syscall.SIGKILL)
		x.Message = fmt.Sprintf("out of memory: limit %s, peak %s", megabytes(e.limit), megabytes(x.MemoryPeakBytes))
	case asked != nil:
		x.Reason, x.By, x.Code = asked.Reason, asked.By, 143
		if exited != nil {
			x.Code, x.Signal = exited.Code, exited.Signal
		}
		x.Message = fmt.Sprintf("%s by %s", map[bool]string{true: "stopped", false: "ended"}[asked.Reason == "stopped"], asked.By)
	case exited == nil:
		x.Reason, x.Code, x.Signal = "signal", 137, int(syscall.SIGKILL)
		x.Message = "killed from outside (its first process ended without a report)"
	case exited.Signal != 0:
		x.Reason, x.Code, x.Signal = "signal", exited.Code, exited.Signal
		x.Message = fmt.Sprintf("ended by signal %d (%s)", exited.Signal, syscall.Signal(exited.Signal))
	case exited.Code != 0:
		x.Reason, x.Code = "exit code", exited.Code
		x.Message = fmt.Sprintf("ended with exit code %d", exited.Code)
	default:
		x.Reason, x.Message = "succeeded", "ended with exit code 0"
	}
	return x
}

// megabytes writes a size as people do; decimal, as in the API.
func megabytes(bytes int64) string {
	if bytes >= 1e9 {
		return fmt.Sprintf("%.3g GB", float64(bytes)/1e9)
	}
	return fmt.Sprintf("%.4g MB", float64(bytes)/1e6)
}

// event is the payload of a record of stream event, as package api defines it.
type event struct {
	Type    string `json:"type"`
	Engine  string `json:"engine"`
	Name    string `json:"name,omitempty"`
	Role    string `json:"role,omitempty"`
	Address string `json:"address,omitempty"`
	Message string `json:"message,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Code    *int   `json:"code,omitempty"`
	Status  string `json:"status,omitempty"`
}

func (v event) json() []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain strings always encode
	}
	return b
}

// record writes the end of the engine to its log, as its last record.
func (e *engine) record(x *wire.Exit) {
	v := event{Type: "exit", Engine: e.id, Message: x.Message, Reason: x.Reason, Code: &x.Code, Status: statusOf(x.Reason)}
	if err := e.log.Append(console.Event, 0, x.At, v.json()); err != nil {
		e.keeper.notice(fmt.Sprintf("the end of engine %s could not be written to its log: %v", e.id, err))
	}
	e.log.Close()
	e.keeper.wrote()
}

// statusOf is engine.Exit.Status for this wire.
func statusOf(reason string) string {
	switch reason {
	case "succeeded":
		return "succeeded"
	case "stopped", "session ended":
		return "stopped"
	default:
		return "failed"
	}
}

// clean removes the cgroup and the private folder. Everything that used them is gone.
func (e *engine) clean() {
	if e.group != nil {
		if err := e.group.Remove(); err != nil {
			e.keeper.notice(fmt.Sprintf("the cgroup of engine %s could not be removed: %v", e.id, err))
		}
	}
	k := e.keeper
	k.cleanup.Add(1)
	go func() {
		defer k.cleanup.Done()
		if err := os.RemoveAll(e.dir); err != nil {
			k.notice(fmt.Sprintf("the folder of engine %s could not be removed: %v", e.id, err))
		}
	}()
}

// exited makes the end known. The end of the session's own engine is the session's.
func (k *Keeper) exited(e *engine, x *wire.Exit) {
	k.mu.Lock()
	e.exit = x
	k.live--
	main := k.main == e
	k.mu.Unlock()
	k.tell(wire.Event{Kind: wire.EventExited, Engine: e.id, Exit: x})
	if main {
		k.end(endGrace, "the end of its session")
	}
	k.endIfEmpty()
}

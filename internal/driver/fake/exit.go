package fake

import (
	"fmt"
	"syscall"
	"time"

	"muster/engine"
)

// exit makes the engine's exit from its program's outcome and from who asked for its end.
func (pr *proc) exit(out outcome) engine.Exit {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	e := engine.Exit{
		Code: out.code, Signal: out.signal, At: time.Now(),
		MemoryLimitBytes: pr.spec.Resources.MemoryBytes, MemoryPeakBytes: pr.peak,
		TimeLimitNanos: int64(pr.spec.TimeLimit),
	}
	if out.signal != 0 {
		e.Code = 128 + out.signal
	}
	switch {
	case out.oom:
		e.Reason, e.Signal, e.Code = engine.ReasonOutOfMemory, int(syscall.SIGKILL), 137
		e.MemoryPeakBytes = e.MemoryLimitBytes
		e.Message = fmt.Sprintf("out of memory: limit %d MB, peak %d MB", e.MemoryLimitBytes/1e6, e.MemoryPeakBytes/1e6)
	case pr.reason == engine.ReasonSessionEnded:
		e.Reason, e.By, e.Message = pr.reason, pr.by, "its session ended"
	case pr.reason == engine.ReasonTimeLimit:
		e.Reason, e.Message = pr.reason, fmt.Sprintf("ended at its time limit of %v s", pr.spec.TimeLimit.Seconds())
	case pr.reason != "":
		e.Reason, e.By, e.Message = pr.reason, pr.by, "stopped by "+pr.by
	case out.err != nil:
		e.Reason, e.Step = engine.ReasonLaunchFailed, out.step
		e.Message = fmt.Sprintf("launch failed at step %s: %v", out.step, out.err)
	case out.signal != 0:
		e.Reason, e.Message = engine.ReasonSignal, fmt.Sprintf("ended by signal %d (%s)", out.signal, syscall.Signal(out.signal))
	case out.code != 0:
		e.Reason, e.Message = engine.ReasonExitCode, fmt.Sprintf("exit code %d", out.code)
	default:
		e.Reason = engine.ReasonSucceeded
	}
	return e
}

package keeper

import (
	"fmt"
	"syscall"
	"time"

	"muster/internal/keeper/wire"
	"muster/internal/linux/oom"
)

// evidence is all that is known of an engine's end.
type evidence struct {
	heard
	asked *wire.Exit    // who asked for it before it came, and before a kill at the memory limit
	outOf bool          // the kernel killed a process at the memory limit, and the engine was ended for it
	kills int64         // how many processes the kernel killed at the memory limit
	limit int64         // bytes
	peak  int64         // bytes
	lacks int64         // how many processes of the machine the kernel killed for want of memory meanwhile, where nobody counts the engine's
	nanos int64         // of CPU
	lasts time.Duration // how long it was allowed to run; 0: as long as it liked
	at    time.Time
}

// evidence is taken when every process of the engine is gone, but its init perhaps.
func (e *engine) evidence(h heard) evidence {
	v := evidence{heard: h, limit: e.limit, lasts: e.lasts, at: time.Now()}
	counted := false
	if e.group != nil {
		var err error
		v.kills, err = e.group.OOMKills()
		counted = err == nil
		v.peak, v.nanos = e.group.MemoryPeakBytes(), e.group.CPUNanos()
	}
	if !counted {
		v.lacks = oom.Kills() - e.lacked
	}
	if e.memory != nil {
		e.memory.Close()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.killing != nil {
		e.killing.Stop()
	}
	if e.ending != nil {
		e.ending.Stop()
	}
	v.asked, v.outOf = e.asked, e.outOf
	v.nanos = max(0, v.nanos-e.before)
	return v
}

const (
	killSignal = int(syscall.SIGKILL)
	killCode   = 128 + killSignal
)

// judge says how an engine ended: what kept it from beginning, then whichever came first of a kill at the memory limit and of
// being asked to end (stop sees to it that asked is not set after that kill), then what the init reported.
func judge(v evidence) *wire.Exit {
	x := &wire.Exit{At: v.at, MemoryLimitBytes: v.limit, MemoryPeakBytes: v.peak, CPUNanos: v.nanos, TimeLimitNanos: int64(v.lasts)}
	killed := v.exited == nil || v.exited.Signal == killSignal
	switch {
	case v.failed != nil:
		x.Reason, x.Code, x.Step = "launch failed", 1, v.failed.Step
		x.Message = fmt.Sprintf("launch failed at %q: %s", v.failed.Step, v.failed.Message)
	case v.asked == nil && (v.outOf || v.kills > 0 && killed):
		x.Reason, x.Code, x.Signal = "out of memory", killCode, killSignal
		x.Message = outOfMemory(v.limit, v.peak)
	case v.asked != nil:
		x.Reason, x.By, x.Code, x.Signal = v.asked.Reason, v.asked.By, killCode, killSignal
		if v.exited != nil {
			x.Code, x.Signal = v.exited.Code, v.exited.Signal
		}
		if v.asked.Reason == reasonTimeLimit {
			x.Message = fmt.Sprintf("ended at its time limit of %v s", v.lasts.Seconds())
			break
		}
		what := "ended"
		if v.asked.Reason == "stopped" {
			what = "stopped"
		}
		x.Message = what + " by " + v.asked.By
	case v.exited == nil && !v.started:
		x.Reason, x.Code, x.Step = "launch failed", 1, "init"
		x.Message = `launch failed at "init": the engine's first process was killed before the interpreter ran`
	case v.exited == nil:
		x.Reason, x.Code, x.Signal = "signal", killCode, killSignal
		x.Message = "killed from outside (its first process ended without a report)"
	case v.exited.Signal != 0:
		x.Reason, x.Code, x.Signal = "signal", v.exited.Code, v.exited.Signal
		x.Message = fmt.Sprintf("ended by signal %d (%s)", v.exited.Signal, syscall.Signal(v.exited.Signal))
		if killed && v.lacks > 0 { // no proof that it was this one
			x.Message += fmt.Sprintf(", perhaps for want of memory: of this machine's processes the kernel killed %d for that meanwhile", v.lacks)
		}
	case v.exited.Code != 0:
		x.Reason, x.Code = "exit code", v.exited.Code
		x.Message = fmt.Sprintf("ended with exit code %d", v.exited.Code)
	default:
		x.Reason, x.Message = "succeeded", "ended with exit code 0"
	}
	return x
}

// outOfMemory says whose memory it was. The kernel counts its kills alike, whatever made it kill; but an engine that was far from
// its own limit was not killed for that.
func outOfMemory(limit, peak int64) string {
	machines := "out of memory: the machine's (or the server's cgroup's) memory is used up, "
	switch {
	case limit == 0:
		return machines + "peak " + megabytes(peak)
	case peak > 0 && peak < limit-limit/8: // a kernel that is too old to tell the peak says 0
		return machines + fmt.Sprintf("limit %s, peak %s", megabytes(limit), megabytes(peak))
	default:
		return fmt.Sprintf("out of memory: limit %s, peak %s", megabytes(limit), megabytes(peak))
	}
}

// megabytes writes a size as people do; decimal, as in the API.
func megabytes(bytes int64) string {
	if bytes >= 1e9 {
		return fmt.Sprintf("%.3g GB", float64(bytes)/1e9)
	}
	return fmt.Sprintf("%.4g MB", float64(bytes)/1e6)
}

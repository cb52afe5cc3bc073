package engine

// Status is where an engine is in its life. Values are on the wire; they are the original's words.
//
//	            ┌────────────────────────────┐ refused, stopped or failed on the way
//	scheduling ─┴─► starting ─► running ─► stopping ─► stopped
//	                                │  └──────────────► succeeded | failed | timedout
//	                                └─ (a final status may be reached from every earlier one)
//
// An engine only moves to the right, and ends in exactly one final status.
type Status string

const (
	Scheduling Status = "scheduling" // accepted; waits, for room most of all (Waits says for what)
	Starting   Status = "starting"   // has its room; the sandbox and the interpreter are being made
	Running    Status = "running"    // the interpreter was started and the address is known
	Stopping   Status = "stopping"   // asked to end, has not ended yet
	Stopped    Status = "stopped"    // ended because somebody, or the session's end, asked for it
	Succeeded  Status = "succeeded"  // its code ended with exit code 0
	Failed     Status = "failed"     // everything else
	TimedOut   Status = "timedout"   // ran longer than it was allowed to
	Unknown    Status = "unknown"    // the place where it runs cannot be reached
)

var rank = map[Status]int{
	Scheduling: 1, Starting: 2, Running: 3, Stopping: 4,
	Stopped: 5, Succeeded: 5, Failed: 5, TimedOut: 5,
}

// Final reports whether s is an end: it never changes again.
func (s Status) Final() bool { return rank[s] == 5 }

// CanBecome reports whether an engine in s may move to next: only forward, and never out of a final status.
func (s Status) CanBecome(next Status) bool {
	return !s.Final() && rank[next] > rank[s]
}

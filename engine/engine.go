// Package engine is the domain: what an engine is, which sizes it may ask for, through which states it goes, how it
// ended, and the kinds of errors people meet. It is pure (no files, no sockets, no clocks of its own) and looks at
// nothing else of ours; every other package may import it.
package engine

import (
	"crypto/rand"
	"time"
)

// ID names one engine: 16 lower-case letters and digits, the form that scripts written for the original expect.
type ID string

const idAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789"

// NewID returns a fresh random ID that begins with a letter (it is also a hostname).
func NewID() ID {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	for i := range b {
		n := len(idAlphabet)
		if i == 0 {
			n = 26
		}
		b[i] = idAlphabet[int(b[i])%n]
	}
	return ID(b[:])
}

// Valid reports whether the ID has the form that NewID gives.
func (id ID) Valid() bool {
	if len(id) != 16 {
		return false
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		if !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9' && i > 0) {
			return false
		}
	}
	return true
}

// Short is the form shown in labels and tables.
func (id ID) Short() string {
	if len(id) > 8 {
		return string(id[:8])
	}
	return string(id)
}

// Resources is what one engine is given.
type Resources struct {
	CPU         float64 // cores; a weight by default, a cap in hard mode
	MemoryBytes int64   // a hard limit; 0 means no limit (only a session's own engine may ask for that)
	GPUs        int     // exclusive devices
}

// Role tells a session's own engine from its workers.
type Role string

const (
	RoleSession Role = "session"
	RoleWorker  Role = "worker"
)

// Kernel is the language an engine runs: a name of the table in package kernel.
type Kernel string

const (
	Python3 Kernel = "python3"
	Python2 Kernel = "python2"
	R       Kernel = "r"
	Scala   Kernel = "scala"
)

// Reason is why an engine ended. Values are on the wire and in files: they never change their meaning.
type Reason string

const (
	ReasonSucceeded    Reason = "succeeded"     // its code ended with exit code 0
	ReasonExitCode     Reason = "exit code"     // its code ended with another exit code
	ReasonSignal       Reason = "signal"        // a signal from inside or from outside ended it
	ReasonOutOfMemory  Reason = "out of memory" // the kernel killed it at its memory limit
	ReasonTimeLimit    Reason = "time limit"    // it ran longer than it was allowed to
	ReasonStopped      Reason = "stopped"       // somebody asked for it; Exit.By says who
	ReasonSessionEnded Reason = "session ended" // its session ended and took it along
	ReasonLaunchFailed Reason = "launch failed" // it never ran; Exit.Step says how far it came
	ReasonKeeperLost   Reason = "keeper lost"   // the session's keeper died
	ReasonNodeLost     Reason = "node lost"     // the machine went down while it ran
)

// Exit is how an engine ended, with the evidence. The zero value is no valid exit.
type Exit struct {
	Reason           Reason    `json:"reason"`
	Code             int       `json:"code"`                         // exit code; 128+signal for a signal, as shells say it
	Signal           int       `json:"signal,omitempty"`             // 0: none
	Message          string    `json:"message"`                      // a sentence for people
	By               string    `json:"by,omitempty"`                 // who stopped it
	Step             string    `json:"step,omitempty"`               // the launch step that failed
	MemoryLimitBytes int64     `json:"memory_limit_bytes,omitempty"` // 0: no limit or unknown
	MemoryPeakBytes  int64     `json:"memory_peak_bytes,omitempty"`  // 0: unknown
	CPUNanos         int64     `json:"cpu_nanos,omitempty"`          // CPU time used; 0: unknown
	TimeLimitNanos   int64     `json:"time_limit_nanos,omitempty"`   // how long it was allowed to run; 0: as long as it likes
	At               time.Time `json:"at"`
}

// Status maps the exit to the final status of an engine.
func (e Exit) Status() Status {
	switch e.Reason {
	case ReasonSucceeded:
		return Succeeded
	case ReasonStopped, ReasonSessionEnded:
		return Stopped
	case ReasonTimeLimit:
		return TimedOut
	default:
		return Failed
	}
}

// Package driver is the contract between the manager and the places where engines run. Drivers (local, fake, later
// kubernetes) implement it and never meet each other; drivertest beneath it is the suite that each of them passes.
// The manager and the drivers import it; it looks only at package engine.
//
// A driver opens a place for each session. In that place it starts engines, tells what it observes of them, and appends
// what they print to the session's console log (package console) in SessionSpec.ConsoleDir.
//
//	Open ──► Session ──► Start(specs) ──► observations: Started, then Exited (or Exited alone, reason "launch failed")
//	             │                          └─ output is complete in the console log before Exited is observed
//	             └─ End / lease lost / main engine exited ──► all engines Exited ──► Ended (the last observation)
package driver

import (
	"context"
	"net"
	"net/netip"
	"os"
	"time"

	"muster/engine"
)

// Capabilities declares what a driver can do. A false field is weaker isolation or a missing power that is said aloud:
// the conformance suite skips its tests of it and prints the skip.
type Capabilities struct {
	Name        string // "local", "plain", "fake"
	OwnAddress  bool   // every engine has an IP address of its own, every port free
	Isolation   bool   // engines see their own processes, /tmp and /dev only
	MemoryLimit bool   // memory is a hard limit, and going over it is told as out of memory
	CPUShare    bool   // CPU is at least a weight
	CPUCap      bool   // hard mode is possible
	GPU         bool   // devices can be given and hidden
	Survives    bool   // engines outlive the driver's process and Recover finds them
	Loopback    bool   // SessionSpec.Inside is heeded
	Attach      bool   // a process that lives outside can be a session: SessionSpec.Attached
	AttachReach bool   // its workers reach what it listens on, and it reaches them
	AttachApart bool   // its workers have addresses of their own too, and reach nothing else of the host; else they share its loopback
	Terminal    bool   // a session's own engine can have a terminal
	Ahead       bool   // its sessions are Warmers
	ConnectWait bool   // a young worker's connect to a port of its master that nobody listens on yet waits
	Warnings    []string
}

// Driver is a place where engines run. Methods are safe for concurrent use.
type Driver interface {
	Capabilities() Capabilities
	// Open makes a place for a session and holds its lease. All or nothing: after an error nothing is left behind.
	Open(ctx context.Context, spec SessionSpec) (Session, error)
	// Recover finds a session's place again after a restart of this process, and observes it from the beginning: the Accepted of
	// each engine that lives, and each engine's Started and Exited, are told (again), all that happened so far before it returns.
	// From then on another process that was connected to the place has no say in it. A place that is gone gives an error of
	// kind NotFound.
	Recover(ctx context.Context, spec SessionSpec, h Handle) (Session, error)
	// List returns the handles of all places that are alive, also those that this process forgot.
	List(ctx context.Context) ([]Handle, error)
	// Probe is an engine.RunProbe: where engines are isolated, what the server has to run of what they can change is, too.
	Probe(ctx context.Context, p engine.Probe) (stdout, stderr []byte, err error)
	// Close releases what this process holds. Engines of drivers that survive go on.
	Close() error
}

// Handle is what is needed to find a session's place again. It is stored, carries a version and only grows.
type Handle struct {
	Version int               `json:"version"`
	Session engine.ID         `json:"session"`
	Data    map[string]string `json:"data,omitempty"` // the driver's own
	// Ephemeral tells, in a List, that it ends with the process that opened it.
	Ephemeral bool `json:"-"`
}

// SessionSpec says what a session needs from its driver.
type SessionSpec struct {
	ID         engine.ID
	ConsoleDir string   // the driver appends to the console log here, and nobody else does
	Ephemeral  bool     // when the session ends and no server is there to look, remove everything of it
	Owner      *os.File // pidfd of the process whose end is the session's end; nil: none. The driver takes it over
	// Attached is the session's own process where that lives outside; nil: the session has an engine of its own.
	Attached *Attached
	// Observe is called for everything that happens, in order, one call at a time for each session. It must not block
	// and must not call back into the driver.
	Observe func(Observation)
	// Inside, if it is not nil, is what engines find on a port of their own 127.0.0.1, from their first process on.
	Inside *Inside
	// Wrote is called after console records were appended; calls may be merged. It must not block.
	Wrote func()
	// Reserved, for Recover, are addresses that were given before for engines which may be still to come. What else was given and is
	// no living engine's is free again.
	Reserved []netip.Addr
}

// Inside is a service of this process on the loopback of every engine, where names that mean "this machine" lead.
type Inside struct {
	Port int
	// Serve answers what comes to one engine's port, until the driver closes the listener at the engine's end.
	Serve func(net.Listener)
}

// Attached is a process of the user's that is a session: nothing of it is started, stopped or observed here, but the
// session's console begins and ends with its events, under the session's ID, and takes its notes. It should be the Owner
// too: then its end is the session's.
type Attached struct {
	Name string // label for the console
	PID  int    // it and its descendants hold the sockets that workers reach at Session.Address
	UID  int    // of its user: no other, but root, reaches what the driver lets the process reach
}

// Session is a session's place.
type Session interface {
	Handle() Handle
	// Address is where workers find the process of an attached session; invalid for other sessions. While a worker is young
	// its connect to a port there on which nobody listens yet waits, where the driver declares ConnectWait.
	Address() netip.Addr
	// Listen opens a TCP listener that the session's engines reach at the returned address, and no engine of another
	// session; an attached session's process reaches it too. It lives until it is closed or the session ends.
	Listen(ctx context.Context, port int) (net.Listener, netip.AddrPort, error)
	// Reserve gives n addresses for engines to come, in order. Released by the engine's end, or by Release.
	Reserve(n int) ([]netip.Addr, error)
	Release(addrs ...netip.Addr)
	// Keep returns the session's secret: what was proposed first, by whatever process. It is held as long as the place is there, in
	// memory alone.
	Keep(ctx context.Context, proposed []byte) ([]byte, error)
	// Start starts engines; it returns when each was accepted or not (nil or an error for each spec, all or nothing each:
	// a refused engine leaves nothing behind). What happens later is observed.
	Start(ctx context.Context, specs []Spec) []error
	// Signal sends a signal to the process group of the engine's interpreter. NotFound if it is not alive.
	Signal(ctx context.Context, id engine.ID, signal int) error
	// Resize tells the size of an engine's terminal: its programs hear SIGWINCH. NotFound if it is not alive or has none.
	Resize(ctx context.Context, id engine.ID, size TerminalSize) error
	// WriteStdin writes data to an engine's stdin, and then, if last, closes it. From is how many bytes come before data: what was
	// written already, by whatever process, is left out, so that who does not know may say it again; -1 is all that was written. It
	// waits while the engine does not read, and returns when all is written or nothing more can be. NotFound if the engine is not
	// alive; Conflict if it has no stdin, or if bytes before data are missing.
	WriteStdin(ctx context.Context, id engine.ID, from int64, data []byte, last bool) (Stdin, error)
	// Stop ends an engine and all its descendants: SIGTERM, after grace SIGKILL. It returns when the end has begun;
	// the Exited observation, with reason and by, tells when it is over. Idempotent.
	Stop(ctx context.Context, id engine.ID, grace time.Duration, reason engine.Reason, by string) error
	// Note appends an event record (JSON, see api.Event) to the console under the engine's id (the session's own
	// engine or any started one).
	Note(ctx context.Context, id engine.ID, event []byte) error
	// Dial connects to a TCP port of an engine's own 127.0.0.1, or to one on which an attached session's process listens.
	// Where nobody listens, ECONNREFUSED is in the error's chain. NotFound if the engine is not alive.
	Dial(ctx context.Context, id engine.ID, port int) (net.Conn, error)
	// End ends the session: all engines, then the place. It returns when everything is gone. Idempotent.
	End(ctx context.Context, grace time.Duration, by string) error
}

// Warmer is a Session that starts engines ahead of their work, so that there is hardly anything left to do when it comes.
type Warmer interface {
	// Warm sees to it from now on that n engines of a kind wait for work, or as many as the machine has room for, of its own accord and in
	// its own time: it returns at once. n = 0 ends those that wait. Spec, which may be called at any time until n is 0 or the
	// session has ended, and must not call back, makes an engine for a seat; what it leaves out is said when work is given: its name, its
	// role, its resources, its time limit.
	Warm(kind Kind, n int, spec func(Seat) Spec)
	// Take gives the seats of at most n engines that wait for work of that kind: its own, then others that it may be given to, and of those
	// who have waited longest first. The zero Kind is any. Start
	// gives such an engine its work, if the Spec has the seat's id and address. A Spec without Work, or with work that is not for it, has
	// its interpreter started where the other one waited, with all the rest done. Release of the address ends what waits instead.
	Take(kind Kind, n int) []Seat
	// Forks reports whether there is a zygote for that kind: then what no engine waits for is as soon forked as a waiting one of another
	// kind is ready for it.
	Forks(kind Kind) bool
	// Zygote has the zygote of a kind that is wanted made at once, if there is to be one and is none, and returns what is closed when it is
	// ready, or will not be; nil: it is not the time for one.
	Zygote(kind Kind) <-chan struct{}
	// Waiting counts the engines of that kind that wait for work and could be taken.
	Waiting(kind Kind) int
}

// Kind is all that counts when an engine is started ahead of its work, in the words of who wants it. The zero Kind is none.
type Kind struct {
	Name string
	// Threads are the numbers of threads that libraries are to start. They count for an interpreter that has loaded libraries itself: not for
	// one that is forked, which is told with its work, nor where no libraries are loaded ahead.
	Threads string
	// Bare says that none are, in all kinds of that name.
	Bare bool
}

// Takes reports whether an engine of this kind, which was forked or not, may be given work of another kind.
func (k Kind) Takes(other Kind, forked bool) bool {
	return k == other || k.Name == other.Name && (forked || k.Bare)
}

// Seat is where an engine that was started ahead waits.
type Seat struct {
	ID      engine.ID
	Address netip.Addr
}

// Work is what an engine that was started ahead reads: bytes that its interpreter understands, and then the content of a file, if one
// is named, relative to the working directory or absolute.
type Work struct {
	Bytes []byte
	File  string
	// Kind is of engines that wait for it. Where there is a zygote for that kind, one is forked from it for this work; the zero Kind: not.
	Kind Kind
	// Fork, in the Spec of a Warm, is the command line of a zygote, from which the others may be forked; nil: there is none.
	Fork []string
	// Reads are files that such an interpreter reads when it starts, or is. One of them is another one now: so is the interpreter.
	Reads []string
}

// ErrEnding is in the chain of what Start returns where the session is ending, or has ended: nothing starts there any more.
var ErrEnding = engine.Errorf(engine.Unavailable, "the session has ended")

// StartError is the error of an engine that could not be started: the step at which it failed, and why.
type StartError struct {
	Step string
	Err  error
}

func (e *StartError) Error() string { return e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// Spec is one engine to start.
type Spec struct {
	ID       engine.ID
	Name     string // label for the console
	Role     engine.Role
	Address  netip.Addr // from Reserve
	Master   netip.Addr // the master's address: its own in a session's own engine, Session.Address in an attached session
	Hostname string
	// Argv, Private and Files come from package kernel. Private in Argv, if it is not empty, is replaced by the folder, visible to
	// the engine alone, in which Files are found.
	Argv    []string
	Private string
	Env     []string // KEY=VALUE, complete: nothing is inherited
	Files   map[string][]byte
	Dir     string   // working directory, absolute
	Alias   string   // a path in /home at which the engine sees Dir as well, where engines are isolated; "": none
	Visible []string // paths that stay visible even if they lie in /tmp (project, interpreter, clients)
	// Shared are real places, known since before anything of the session ran: what Visible leads to in /tmp and the like must lie in
	// one of them, else the start fails. Links that lead there may have been turned by engines.
	Shared    []string
	Resources engine.Resources
	HardCPU   bool          // cap instead of weight
	TimeLimit time.Duration // from Started to SIGTERM; SIGKILL follows 2 s later. 0: none. It holds also while no server is there
	CPUSet    []int         // whole cores to pin to; empty: all
	GPUs      []GPU         // devices given; all others are hidden
	Stdin     bool          // it has one, for WriteStdin; else it is empty
	// Work is for an engine that was started ahead; nil: it cannot be one. In the Spec of a Warm it is what comes first: bytes alone.
	Work *Work
	// Terminal makes stdin, stdout and stderr one terminal, the controlling one of the interpreter: what is written to stdin is
	// typed there, its end hangs up; what it shows is the engine's stdout. nil: none.
	Terminal *TerminalSize
	UID, GID int
	Groups   []int
	Foreign  bool // of another user than this process: what paths lead to is looked at with that user's rights alone
}

// Stdin is how far an engine's stdin was written.
type Stdin struct {
	Written int64 // bytes in all
	Closed  bool  // nothing more can be written: it was closed, or nobody reads it
}

// TerminalSize is a terminal's size in characters.
type TerminalSize struct{ Rows, Cols int }

// GPU is one device that can be given to an engine.
type GPU struct {
	Index int      `json:"index"`
	UUID  string   `json:"uuid,omitempty"`
	Nodes []string `json:"nodes"` // device nodes that belong to this GPU alone, such as /dev/nvidia0
}

// Held is what an engine was given of what others must not get too.
type Held struct {
	GPUs  []int // their indexes
	Cores []int // that it is pinned to
}

// Observation is one thing that happened in a session's place.
type Observation struct {
	Kind   ObservationKind
	Engine engine.ID // empty in Ended
	At     time.Time
	Exit   *engine.Exit // Exited and Ended (why the session ended)
	Held   *Held        // Accepted
	Text   string       // Notice: a sentence for people, such as that the disk is full
}

// ObservationKind tells observations apart.
type ObservationKind string

const (
	// Accepted is told by Recover of each engine that has not ended: Start answered nil to another process.
	Accepted ObservationKind = "accepted"
	Started  ObservationKind = "started" // the interpreter was started
	// Exited: the engine's interpreter and all its descendants are gone, its output is complete. What the driver had for it (its first
	// process, its groups) may take a moment more, at most until Ended.
	Exited ObservationKind = "exited"
	Ended  ObservationKind = "ended" // the session's place is gone; nothing follows
	Notice ObservationKind = "notice"
)

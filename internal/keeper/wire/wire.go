// Package wire is what the server, the keeper and the init of an engine say to each other: JSON messages over unix
// SOCK_SEQPACKET sockets, with file descriptors beside them where something is handed over. It carries a version and only
// grows: a new server must understand an old keeper. The local driver, the keeper and the init import it; it uses the
// standard library and x/sys only.
//
//	server ──Request──► keeper ──Order──► init
//	server ◄──Event──── keeper ◄─Report── init
package wire

import (
	"encoding/json"
	"time"

	"muster/internal/linux/cgroup"
)

// Version of the protocol.
const Version = 1

// SocketName and the others are files in a session's folder.
const (
	SocketName = "keeper.sock"
	ConfigName = "keeper.json"
	LockName   = "lock"
)

// GroupName is the file in EngineSpec.PrivateDir that tells where the engine's control group is (cgroup.Paths as JSON): a server that
// runs in other control groups than the one that made it must find it, too.
const GroupName = "cgroup.json"

// PlainFilesName is the folder in EngineSpec.PrivateDir with the engine's Files on the plain rung. Where there are mounts they
// lie in sandbox.PrivateDir.
const PlainFilesName = "files"

// Descriptors that a keeper inherits from the server that starts it.
const (
	KeeperConnFD  = 3 // its first connection to a server
	KeeperHubFD   = 4 // the hub's network namespace, or /dev/null on the plain rung
	KeeperLeaseFD = 5 // pidfd whose end is the session's end, or /dev/null
	KeeperLockFD  = 6 // holds the lock of the session's folder: it tells a living session from what a dead one left
)

// Descriptors that an init inherits from its keeper (0, 1 and 2 become the interpreter's).
const (
	InitSpecFD    = 3 // the EngineSpec as JSON, in memory
	InitControlFD = 4 // Orders in, Reports out; its end of file is the engine's end
	// InitZygoteFD is, in the init of a zygote, where it is asked to fork, and in that of an engine that it forks, where to ask.
	InitZygoteFD = 5
	// InitDoorsFD and what follows, in the latter, are the doors of the engine's control groups (cgroup.Group.Doors).
	InitDoorsFD = 6
)

// KeeperConfig is what a keeper is told at its start; it stands in ConfigName so that a later server can find it again.
type KeeperConfig struct {
	Version    int    `json:"version"`
	Session    string `json:"session"`
	ConsoleDir string `json:"console_dir"`
	Dir        string `json:"dir"`       // the session's folder
	Ephemeral  bool   `json:"ephemeral"` // remove Dir at the end if no server is connected
	Plain      bool   `json:"plain"`     // no namespaces
	HasHub     bool   `json:"has_hub"`
	HasLease   bool   `json:"has_lease"`
	Network    string `json:"network,omitempty"` // the hub's range

	Attached *Attached `json:"attached,omitempty"`
}

// Attached is the session's own process where that lives outside. It has the session's id.
type Attached struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Address string `json:"address"`
	UID     int    `json:"uid"` // of its user
}

// MaxStdin is how much of stdin fits into a message.
const MaxStdin = 32 << 10

// Request is a message from the server to the keeper. Every Request is answered by one Event with the same Seq.
type Request struct {
	Seq    uint64 `json:"seq"`
	Op     string `json:"op"`
	Engine string `json:"engine,omitempty"`

	// OpStart; descriptors: the EngineSpec, then the network namespace if HasNet.
	HasNet bool          `json:"has_net,omitempty"`
	Cgroup *cgroup.Paths `json:"cgroup,omitempty"`
	// Zygote, of an OpPrepare, is the id of the zygote that forks the engine's interpreter: the engine lives in the namespaces that are
	// made for such.
	Zygote string `json:"zygote,omitempty"`

	Give *Given `json:"give,omitempty"` // OpGive

	Signal      int             `json:"signal,omitempty"`       // OpSignal
	GraceMillis int64           `json:"grace_millis,omitempty"` // OpStop, OpEnd
	Reason      string          `json:"reason,omitempty"`       // OpStop
	By          string          `json:"by,omitempty"`           // OpStop, OpEnd
	Note        json.RawMessage `json:"note,omitempty"`         // OpNote
	Key         []byte          `json:"key,omitempty"`          // OpKey, OpKeep
	Size        *TerminalSize   `json:"size,omitempty"`         // OpResize

	// OpStdin: at most MaxStdin bytes, whose first comes after From others, or -1; and whether stdin is closed behind them.
	Data []byte `json:"data,omitempty"`
	From int64  `json:"from,omitempty"`
	Last bool   `json:"last,omitempty"`
}

// Given is what a keeper has to know of the work that an engine is given.
type Given struct {
	Name        string        `json:"name"`
	Role        string        `json:"role"`
	ShmBytes    int64         `json:"shm_bytes"`
	MemoryLimit int64         `json:"memory_limit,omitempty"`
	TimeLimit   time.Duration `json:"time_limit,omitempty"`

	// Files and Work are those of the spec, at most MaxHanded bytes, where the keeper is to hand them to the interpreter itself; else the
	// init does, a moment later.
	Files map[string][]byte `json:"files,omitempty"`
	Work  []byte            `json:"work,omitempty"`
}

// MaxHanded is how much of an engine's files and work fits into a message, and into a FIFO that nobody reads.
const MaxHanded = 32 << 10

// Operations.
const (
	OpStart  = "start"
	OpSignal = "signal"
	OpStop   = "stop"
	OpNote   = "note"
	OpEnd    = "end"
	OpResize = "resize"
	OpStdin  = "stdin" // answered when all is written, or nothing more can be
	OpHub    = "hub"   // answered with the hub's network namespace as a descriptor
	OpKey    = "key"   // answered with the session's SSH key: the first that a server proposed
	// OpKeep is answered with the secret that the first server proposed.
	OpKeep = "keep"
	// OpTake cuts the connections of all other servers off, and is answered when everything is done that they had asked for: what
	// a server that connects after it is told is complete.
	OpTake = "take"
	// OpPrepare starts an engine ahead of its work, with the descriptors of OpStart. Nobody is told of it as of an engine, but the
	// server that asked: EventReady when its interpreter waits, EventDropped when it has ended without ever having had work. The
	// answer says that it was accepted.
	OpPrepare = "prepare"
	// OpGive gives it its work. The descriptor is an EngineSpec, of which only Argv, Env, Files and Work count: the keeper hands it on to
	// the init without reading it, or has it for the case that the interpreter does not take what Given says. From the answer on it is an engine like any.
	OpGive = "give"
	OpDrop = "drop" // ends it without work
	// OpNetwork is answered with a network namespace for an engine that a zygote forks.
	OpNetwork = "network"
)

// Event is a message from the keeper to the server: the answer to a Request (Seq not 0), or something that happened. A
// server that connects is told all that happened so far, then "live", then what happens.
type Event struct {
	Seq     uint64    `json:"seq,omitempty"`
	Kind    string    `json:"kind"`
	Engine  string    `json:"engine,omitempty"`
	At      time.Time `json:"at"`
	Error   string    `json:"error,omitempty"` // EventReply: empty is success
	ErrKind string    `json:"err_kind,omitempty"`
	Exit    *Exit     `json:"exit,omitempty"`   // EventExited, EventEnded
	Pid     int       `json:"pid,omitempty"`    // EventStarted: the init, in the host's process namespace
	Signal  int       `json:"signal,omitempty"` // EventDropped: what ended its interpreter, or its init with that; 0: it ended by itself
	Text    string    `json:"text,omitempty"`   // EventNotice
	Apart   bool      `json:"apart,omitempty"`  // EventReady: its interpreter says so
	Key     []byte    `json:"key,omitempty"`    // EventReply to OpKey and OpKeep

	// EventReply to OpStdin: how many bytes were written in all, and whether nothing more can be.
	Written int64 `json:"written,omitempty"`
	Closed  bool  `json:"closed,omitempty"`

	// EventAccepted
	Address  string `json:"address,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	GPUs     []int  `json:"gpus,omitempty"`
	Cores    []int  `json:"cores,omitempty"`
}

// Kinds of errors in replies; all others are internal.
const (
	ErrNotFound = "not_found"
	ErrConflict = "conflict"
	ErrEnding   = "ending" // nothing is started any more
)

// Kinds of events.
const (
	EventReply    = "reply"
	EventAccepted = "accepted" // told to servers that connect later: an engine that has not ended
	EventStarted  = "started"
	EventExited   = "exited"
	EventEnded    = "ended"  // the session is over; the keeper exits after this
	EventWrote    = "wrote"  // the console log grew
	EventNotice   = "notice" // a sentence for people
	EventLive     = "live"
	EventReady    = "ready"   // an engine that was started ahead waits for its work
	EventDropped  = "dropped" // it is gone, and everything of it
	EventStale    = "stale"   // it has declined its work because of files that were changed since it was started
)

// Exit is engine.Exit on this wire (this package must not need package engine's dependencies in the keeper).
type Exit struct {
	Reason           string    `json:"reason"`
	Code             int       `json:"code"`
	Signal           int       `json:"signal,omitempty"`
	Message          string    `json:"message"`
	By               string    `json:"by,omitempty"`
	Step             string    `json:"step,omitempty"`
	MemoryLimitBytes int64     `json:"memory_limit_bytes,omitempty"`
	MemoryPeakBytes  int64     `json:"memory_peak_bytes,omitempty"`
	CPUNanos         int64     `json:"cpu_nanos,omitempty"`
	TimeLimitNanos   int64     `json:"time_limit_nanos,omitempty"`
	At               time.Time `json:"at"`
}

// EngineSpec is everything that keeper and init need to start one engine.
type EngineSpec struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Role        string            `json:"role"`
	Main        bool              `json:"main"` // the session's own engine: its end is the session's end
	Argv        []string          `json:"argv"`
	Env         []string          `json:"env"`
	Files       map[string][]byte `json:"files,omitempty"`
	Dir         string            `json:"dir"`
	Alias       string            `json:"alias,omitempty"` // a path in /home that shows Dir as well
	Hostname    string            `json:"hostname"`
	Address     string            `json:"address"`
	Gateway     string            `json:"gateway,omitempty"` // name server; empty: the host's stays
	UID         int               `json:"uid"`
	GID         int               `json:"gid"`
	Groups      []int             `json:"groups,omitempty"`
	Foreign     bool              `json:"foreign,omitempty"` // not the server's user: what paths lead to is looked at with the user's rights
	Plain       bool              `json:"plain,omitempty"`
	PrivateDir  string            `json:"private_dir"`       // folder of the engine on the host: tmp/, and files/ on the plain rung
	TmpDir      string            `json:"tmp_dir,omitempty"` // on the plain rung: is to be made; empty: tmp/ in PrivateDir
	Visible     []string          `json:"visible,omitempty"` // stay visible in private folders such as /tmp
	Shared      []string          `json:"shared,omitempty"`  // real places: nothing else is visible there
	Hidden      []string          `json:"hidden,omitempty"`  // folders that the engine must not see
	ReadOnly    []string          `json:"read_only,omitempty"`
	Writable    []string          `json:"writable,omitempty"` // folders in read-only ones that may be written to
	DeviceNodes []string          `json:"device_nodes,omitempty"`
	ShmBytes    int64             `json:"shm_bytes"`
	MemoryLimit int64             `json:"memory_limit,omitempty"` // for the exit's evidence
	TimeLimit   time.Duration     `json:"time_limit,omitempty"`   // nanoseconds, from Started on; 0: none
	Cgroup      *cgroup.Paths     `json:"cgroup,omitempty"`       // the engine's own groups, to be seen by it
	GPUs        []int             `json:"gpus,omitempty"`         // indexes of the devices that it holds: a later server asks
	Cores       []int             `json:"cores,omitempty"`        // that it is pinned to: the same
	Covers      map[string][]byte `json:"covers,omitempty"`       // what files of the host show in the engine instead
	SSH         *SSH              `json:"ssh,omitempty"`          // nil: no SSH server
	Stdin       bool              `json:"stdin,omitempty"`        // it has one, which OpStdin writes
	Terminal    *TerminalSize     `json:"terminal,omitempty"`     // stdin, stdout and stderr are a terminal of this size

	// Ahead says that there is no work yet: Argv makes the interpreter wait for it, see Work.
	Ahead bool `json:"ahead,omitempty"`
	// Zygote says that the interpreter never gets work: it waits to fork others, which do. With Ahead.
	Zygote bool `json:"zygote,omitempty"`
	// Forked says that a zygote forks the interpreter. Where that fails, Argv is started. With Ahead.
	Forked bool `json:"forked,omitempty"`
	// Work, in the spec of an OpPrepare, is what the interpreter reads first, and in that of an OpGive what it reads then; nil there: it
	// is ended, and Argv started in its place.
	Work *Work `json:"work,omitempty"`
}

// Names of two FIFOs in the engine's private folder, of an engine that is started ahead. Its interpreter opens both, writes Waits to the
// first, with Apart behind it if it, and what is forked from it, takes work of its own kind alone (driver.Kind), and reads the second to its
// end. When it has what it needs, and before it runs anything of the work, it writes Takes. One that ends before that has declined, and the
// work is done by an interpreter that is started in its place. Before it waits it may write Says and a line for people, of MaxSaid bytes at
// most.
const (
	WaitsName = "waits"
	WorkName  = "work"
	Waits     = 'w'
	Apart     = 'a'
	Takes     = 't'
	Says      = 'n'
	MaxSaid   = 500
)

// Work is what is written into the FIFO: bytes that the interpreter understands, and then the content of a file.
type Work struct {
	Bytes []byte `json:"bytes"`
	File  string `json:"file,omitempty"`
}

// SSH is the server that an init starts for each connection to a port of the engine, as the engine's user.
type SSH struct {
	Port     int      `json:"port"`
	Programs []string `json:"programs"` // the first that exists is taken
	Args     []string `json:"args"`
}

// TerminalSize is in characters.
type TerminalSize struct {
	Rows int `json:"rows"`
	Cols int `json:"cols"`
}

// ReadyFiles says how many files are beside a Report that the interpreter of an engine that was started ahead waits: the FIFO that it reads,
// which the init lets go of, the folder with the engine's files, and then /dev/shm, but on the plain rung. None: it is a zygote.
const ReadyFiles = 2

// Order is a message from the keeper to an init: exactly one field is set.
type Order struct {
	Signal int `json:"signal,omitempty"` // to the interpreter's process group
	// Give says that an engine that was started ahead gets its work. Beside it: the spec, and the FIFO, if files and work are to be written
	// yet. Who has taken work that the keeper has written is told nothing.
	Give bool `json:"give,omitempty"`
}

// StaleCode is how an interpreter ends that declines work because of files that were changed since it read them.
const StaleCode = 65

// Report is a message from an init to its keeper: one field is set, and maybe Apart.
type Report struct {
	Notice   string  `json:"notice,omitempty"`   // a sentence for people, told once in a session
	Terminal bool    `json:"terminal,omitempty"` // beside it: the master of the engine's terminal
	Ready    bool    `json:"ready,omitempty"`    // see ReadyFiles
	Apart    bool    `json:"apart,omitempty"`    // beside Ready: see Apart
	Lost     *Exited `json:"lost,omitempty"`     // so it has ended without having taken work: another one is started when there is some
	Started  bool    `json:"started,omitempty"`
	Failed   *Failed `json:"failed,omitempty"`
	Exited   *Exited `json:"exited,omitempty"`
}

// Failed says that the engine could not be started.
type Failed struct {
	Step    string `json:"step"`
	Message string `json:"message"`
}

// Exited is the interpreter's wait status.
type Exited struct {
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
	// Alone says that the init is the last process of its engine, and ends when its control socket is closed. What the kernel then takes
	// apart takes it longer than the interpreter's end did: nobody has to wait for that.
	Alone bool `json:"alone,omitempty"`
}

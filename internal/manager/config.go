package manager

import (
	"context"
	"log/slog"
	"net"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/kernel"
	"muster/internal/project"
	"muster/internal/quota"
	"muster/internal/store"
)

// Kernels makes the commands of engines: *kernel.Table. An error of another kind than Internal is the request's fault.
type Kernels interface {
	Prepare(ctx context.Context, r kernel.Request) (kernel.Command, error)
	ByEnding(script string, own []kernel.Own) (engine.Kernel, bool)
}

// Capacity is what this machine gives to engines.
type Capacity struct {
	MemoryBytes int64
	CPU         float64 // cores
	Cores       []int   // their numbers, for pinning in hard mode; empty: nobody is pinned
	GPUs        []driver.GPU
}

// Ahead says whether engines are started ahead of their work.
type Ahead string

const (
	AheadOn     Ahead = "" // where the driver can
	AheadOff    Ahead = "off"
	AheadRandom Ahead = "random" // they are, and each launch uses them or not: nobody may tell the difference
)

// Config of a Manager. Driver, Kernels, Capacity, StateDir and OwnerToken are needed.
type Config struct {
	Driver    driver.Driver // stays the caller's: close it after the Manager
	Kernels   Kernels
	Capacity  Capacity
	HardCPU   bool   // CPU is admitted and capped like memory, not shared
	StateDir  string // consoles are kept beneath it
	Ahead     Ahead
	Ephemeral bool // Close ends all sessions and removes what they left
	// Records are what outlives this process; nil: nothing does. They stay the caller's: close them after the Manager.
	Records *store.Store
	// LeaseGrace is how long a session whose creator is on another machine outlives its connection; 0: 10 s.
	LeaseGrace time.Duration
	Logs       project.Logs // what is kept of sessions that have ended, of all projects together
	// Own are the real places of this server's own files, which engines find wherever they lie: a session that is adopted knows
	// those of the server that created it.
	Own        []string
	Boot       string // names this run of the machine: what ran in another one is lost
	OwnerToken string
	APIPort    int // where engines find the API in their hub; 0: any free port
	// Serve serves the API on a session's listener, to its engines, until the listener is closed. Nil: nothing is served.
	Serve func(engine.ID, net.Listener)
	// Web is host and port at which people's browsers and, by the same address, engines find this server: what is in the
	// original's variables and in every URL of a description. "": the address at which a session's engines find the API.
	Web      string
	User     string // owner's name; "": muster
	Home     string // HOME of engines whose caller has none
	UID, GID int
	Groups   []int
	// Quotas are the most that users and sessions may have at a time; over them engines wait.
	Quotas quota.Quotas
	// Behalf says for whom a user's sessions are made, on a server that several users share; nil: it has one user.
	Behalf func(context.Context, engine.User) (*engine.Behalf, error)
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: silent
}

const (
	// stopGrace is the time between SIGTERM and SIGKILL for whoever is stopped on request: enough to write a file, short
	// for a person who waits.
	stopGrace = 2 * time.Second
	// endGrace is the same at a session's end, all of which must be over within a second.
	endGrace = 500 * time.Millisecond
	// maxLaunch is the largest n of one launch, and the most ids of one request.
	maxLaunch = 10_000
	// maxPath is Linux's own bound for a path, maxRefusal that of a refused worker's message.
	maxPath    = 4096
	maxRefusal = 1000
	// maxWorkers is how many workers a session may launch in its life: each keeps a description of 1.5 kB.
	maxWorkers = 50_000
	// maxWork is for the code and environments of a session's workers that have not ended, which are held in memory.
	maxWork = 64_000_000
	// maxEnded and maxEndedWorkers are for the sessions that have ended and are still known; older ones are forgotten.
	maxEnded        = 1000
	maxEndedWorkers = 100_000
	// maxLiving is how many sessions of a user may live at a time, on a server that users share: each is a process and a network.
	maxLiving = 200
	// maxStart is how many engines one call of the driver starts: each has an environment of some kilobytes.
	maxStart = 500
	// defaultWorkerName is the original's.
	defaultWorkerName = "Untitled Worker"
)

func (c Config) check() (Config, error) {
	switch {
	case c.Driver == nil || c.Kernels == nil:
		return c, engine.Errorf(engine.Internal, "manager: Driver and Kernels are needed")
	case c.StateDir == "":
		return c, engine.Errorf(engine.Invalid, "no folder for the state: set one")
	case c.OwnerToken == "":
		return c, engine.Errorf(engine.Invalid, "no owner token: set one")
	case c.Capacity.MemoryBytes <= 0:
		return c, engine.Errorf(engine.Invalid, "capacity: memory must be more than 0 bytes, not %d", c.Capacity.MemoryBytes)
	case !(c.Capacity.CPU > 0):
		return c, engine.Errorf(engine.Invalid, "capacity: CPU must be more than 0 cores, not %g", c.Capacity.CPU)
	}
	if caps := c.Driver.Capabilities(); c.HardCPU && !caps.CPUCap {
		return c, engine.Errorf(engine.Invalid, "CPU cannot be capped by the %s driver on this machine", caps.Name).
			WithHint("leave the hard CPU setting off: CPU is then a share")
	}
	if c.User == "" {
		c.User = "muster"
	}
	if c.Home == "" {
		c.Home = "/"
	}
	if c.LeaseGrace == 0 {
		c.LeaseGrace = defaultGrace
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Serve == nil {
		c.Serve = func(engine.ID, net.Listener) {}
	}
	return c, nil
}

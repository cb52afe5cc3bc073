package keeper

import (
	"fmt"
	"os"
	"sync"
	"time"

	"muster/internal/console"
	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/oom"
)

// engine is one engine that this keeper started and that has not ended yet.
type engine struct {
	keeper   *Keeper
	id       string
	name     string
	role     string
	address  string
	hostname string
	gpus     []int // what it holds, told to servers that come later
	cores    []int
	dir      string        // private folder
	tmp      string        // another one, for temporary files; "" if that is in dir
	limit    int64         // memory limit in bytes; 0: none
	lasts    time.Duration // how long it may run; 0: as long as it likes
	plain    bool
	user     *[2]int // uid and gid of a user who is not this process's; nil: this process's
	log      *console.EngineLog
	group    *cgroup.Group     // nil without limits
	held     *os.File          // while it is, no other server sweeps the group; closed when the group is removed
	memory   *cgroup.OOMEvents // nil without a memory limit
	process  *os.Process       // the init, and what follows: set before live
	pumps    [2]*pump
	input    *input // nil: its stdin is empty

	mu      sync.Mutex
	control *wire.Conn // nil until the init was started
	asked   *wire.Exit // who asked for its end, if anybody did before it came, or before the memory limit was met
	screen  *terminal  // nil until the init made it
	early   bool       // that was before the init was started
	outOf   bool       // the kernel killed one of its processes at the memory limit
	over    bool       // its interpreter's end was reported: later requests to stop do not count
	killing *time.Timer
	ending  *time.Timer // strikes at the time limit; nil: it has none, or does not run yet
	killAt  time.Time

	lacked    int64     // oom.Kills at its start
	startedAt time.Time // guarded by keeper.mu; zero: its interpreter was not started
}

// pid of the init, in the host's process namespace.
func (e *engine) pid() int { return e.process.Pid }

// start starts an engine as the server asked. All or nothing: after an error nothing of the engine is left.
func (k *Keeper) start(r wire.Request, files []*os.File) error {
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	want := 1
	if r.HasNet {
		want++
	}
	if len(files) != want {
		return fmt.Errorf("%d descriptors came with the request, %d were announced", len(files), want)
	}
	var spec wire.EngineSpec
	if err := wire.ReadMemoryFile(files[0], &spec); err != nil {
		return fmt.Errorf("read spec: %w", err)
	}
	e := &engine{
		keeper: k, id: spec.ID, name: spec.Name, role: spec.Role, address: spec.Address, hostname: spec.Hostname,
		dir: spec.PrivateDir, limit: spec.MemoryLimit, lasts: spec.TimeLimit, plain: spec.Plain, gpus: spec.GPUs, cores: spec.Cores,
		lacked: oom.Kills(),
	}
	if spec.Foreign && !spec.Plain {
		e.user = &[2]int{spec.UID, spec.GID}
	}
	if r.Cgroup != nil {
		e.group = cgroup.Open(*r.Cgroup)
		var err error
		if e.held, err = e.group.Hold(); err != nil {
			return err
		}
	}
	var net *os.File
	if r.HasNet {
		net = files[1]
	}
	if err := k.add(e, spec.Main); err != nil {
		e.letGo()
		return err
	}
	if err := e.launch(spec, files[0], net); err != nil {
		k.forget(e)
		e.letGo()
		return err
	}
	failpoint.Here("keeper: after init")
	go e.live()
	return nil
}

func (k *Keeper) add(e *engine, main bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending != nil {
		return errEnding
	}
	if k.engines[e.id] != nil || k.past[e.id] != nil {
		return fmt.Errorf("%w: %s", errConflict, e.id)
	}
	k.engines[e.id] = e
	if main {
		k.main = e.id
	}
	return nil
}

// forget takes back add: the engine was never there.
func (k *Keeper) forget(e *engine) {
	k.mu.Lock()
	delete(k.engines, e.id)
	if k.main == e.id {
		k.main = ""
	}
	k.mu.Unlock()
	k.endIfEmpty()
}

// launch makes the engine's folder, log and pipes and starts its init.
func (e *engine) launch(spec wire.EngineSpec, specFile, net *os.File) (err error) {
	defer func() {
		if err != nil {
			if e.log != nil {
				e.log.Close()
			}
			e.removeFolders()
		}
	}()
	if err := e.makeFolders(spec.TmpDir); err != nil {
		return fmt.Errorf("make private folder: %w", err)
	}
	failpoint.Here("keeper: before log")
	if e.log, err = e.keeper.console.Log(e.id); err != nil {
		return fmt.Errorf("open output log: %w", err)
	}
	first := event{Type: "engine", Engine: e.id, Name: e.name, Role: e.role, Address: spec.Address}
	if err := e.log.Append(console.Event, 0, time.Now(), first.json()); err != nil {
		return fmt.Errorf("write output log: %w", err)
	}
	if spec.Stdin {
		e.input = newInput()
	}
	failpoint.Here("keeper: before init")
	return e.startInit(specFile, net, spec.Terminal != nil)
}

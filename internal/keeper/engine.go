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
	uid, gid int
	user     *[2]int           // these, of a user who is not this process's; nil: this process's
	group    *cgroup.Group     // nil without limits
	held     *os.File          // while it is, no other server sweeps the group; closed when the group is removed
	memory   *cgroup.OOMEvents // nil without a memory limit
	process  *first            // the init, and what follows: set before live
	pumps    [2]*pump
	input    *input   // nil: its stdin is empty
	ahead    *ahead   // nil: it was started with its work
	zygote   *zygote  // it is one; nil: it is not
	parent   *os.File // where the zygote is asked that forks its interpreter, until its init is started; nil: none does

	mu      sync.Mutex
	control *wire.Conn         // nil until the init was started
	log     *console.EngineLog // nil while it waits for work; changed no more then
	before  int64              // nanoseconds of CPU that it had taken when its work came
	asked   *wire.Exit         // who asked for its end, if anybody did before it came, or before the memory limit was met
	screen  *terminal          // nil until the init made it
	early   bool               // that was before the init was started
	outOf   bool               // the kernel killed one of its processes at the memory limit
	over    bool               // its interpreter's end was reported: later requests to stop do not count
	killing *time.Timer
	ending  *time.Timer // strikes at the time limit; nil: it has none, or does not run yet
	killAt  time.Time

	lacked    int64     // oom.Kills at its start
	startedAt time.Time // guarded by keeper.mu; zero: its interpreter was not started
}

// pid of the init, in the host's process namespace.
func (e *engine) pid() int { return e.process.pid }

// start starts an engine as the server asked. All or nothing: after an error nothing of the engine is left.
func (k *Keeper) start(r wire.Request, files []*os.File) error {
	e, spec, err := k.read(r, files)
	if err != nil {
		return err
	}
	return k.begin(e, spec, files)
}

// read makes an engine of what the server sent. After an error the files are closed.
func (k *Keeper) read(r wire.Request, files []*os.File) (e *engine, spec wire.EngineSpec, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	want := 1
	if r.HasNet {
		want++
	}
	if len(files) != want {
		return nil, spec, fmt.Errorf("%d descriptors came with the request, %d were announced", len(files), want)
	}
	if err := wire.ReadMemoryFile(files[0], &spec); err != nil {
		return nil, spec, fmt.Errorf("read spec: %w", err)
	}
	e = &engine{
		keeper: k, id: spec.ID, name: spec.Name, role: spec.Role, address: spec.Address, hostname: spec.Hostname,
		dir: spec.PrivateDir, limit: spec.MemoryLimit, lasts: spec.TimeLimit, plain: spec.Plain, uid: spec.UID, gid: spec.GID, gpus: spec.GPUs, cores: spec.Cores,
		lacked: oom.Kills(),
	}
	if spec.Foreign && !spec.Plain {
		e.user = &[2]int{spec.UID, spec.GID}
	}
	if r.Cgroup != nil {
		e.group = cgroup.Open(*r.Cgroup)
		if e.held, err = e.group.Hold(); err != nil {
			return nil, spec, err
		}
	}
	return e, spec, nil
}

// begin enters an engine and starts its init. It closes the files: the spec, and the network if it has one.
func (k *Keeper) begin(e *engine, spec wire.EngineSpec, files []*os.File) error {
	defer closeAll(files)
	var net *os.File
	if len(files) > 1 {
		net = files[1]
	}
	add := func() error { return k.add(e, spec.Main) }
	if e.ahead != nil {
		add = func() error { return k.addWaiting(e) }
	}
	if err := add(); err != nil {
		e.letGo()
		return err
	}
	if err := e.launch(spec, files[0], net); err != nil {
		if e.zygote != nil {
			e.zygote.close()
		}
		k.forget(e)
		e.letGo()
		if e.ahead != nil {
			close(e.ahead.gone)
		}
		return err
	}
	failpoint.Here("keeper: after init")
	go e.live()
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func (k *Keeper) add(e *engine, main bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.freeLocked(e.id); err != nil {
		return err
	}
	k.engines[e.id] = e
	if main {
		k.main = e.id
	}
	return nil
}

// freeLocked is an error if no engine of this id can be entered.
func (k *Keeper) freeLocked(id string) error {
	switch {
	case k.ending != nil:
		return errEnding
	case k.engines[id] != nil || k.past[id] != nil || k.waiting[id] != nil:
		return fmt.Errorf("%w: %s", errConflict, id)
	}
	return nil
}

// forget takes back add: the engine was never there.
func (k *Keeper) forget(e *engine) {
	k.mu.Lock()
	delete(k.engines, e.id)
	delete(k.waiting, e.id)
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
	if e.ahead == nil {
		if err := e.openLog(); err != nil {
			return err
		}
	}
	if spec.Stdin {
		e.input = newInput()
	}
	failpoint.Here("keeper: before init")
	return e.startInit(specFile, net, spec.Terminal != nil)
}

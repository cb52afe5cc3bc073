package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/console"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/netns"
)

// engine is one engine that this keeper started.
type engine struct {
	keeper  *Keeper
	id      string
	name    string
	role    string
	dir     string // private folder
	limit   int64  // memory limit in bytes; 0: none
	plain   bool
	log     *console.EngineLog
	group   *cgroup.Group // nil without limits
	leaf    *os.File      // its folder of version 2, open while the init is started
	memory  *cgroup.OOMEvents // nil without a memory limit
	control *wire.Conn
	process *os.Process
	pid     int
	pumps   [2]*pump

	mu      sync.Mutex
	asked   *wire.Exit // who asked for its end, if anybody did before it came
	outOf   bool       // the kernel killed one of its processes at the memory limit
	over    bool       // its interpreter's end was reported: later requests to stop do not count
	killing *time.Timer

	exit *wire.Exit // guarded by keeper.mu; set once
}

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
	if r.HasStdin {
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
		keeper: k, id: spec.ID, name: spec.Name, role: spec.Role,
		dir: spec.PrivateDir, limit: spec.MemoryLimit, plain: spec.Plain,
	}
	if r.Cgroup != nil {
		e.group = cgroup.Open(*r.Cgroup)
	}
	var net, stdin *os.File
	if r.HasNet {
		net = files[1]
	}
	if r.HasStdin {
		stdin = files[len(files)-1]
	}
	if err := k.add(e, spec.Main); err != nil {
		return err
	}
	if err := e.launch(spec, files[0], net, stdin); err != nil {
		k.forget(e)
		return err
	}
	go e.live()
	return nil
}

func (k *Keeper) add(e *engine, main bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending != nil {
		return errors.New("the session is ending")
	}
	if k.engines[e.id] != nil {
		return fmt.Errorf("engine %s exists already", e.id)
	}
	k.engines[e.id] = e
	k.live++
	if main {
		k.main = e
	}
	return nil
}

func (k *Keeper) forget(e *engine) {
	k.mu.Lock()
	delete(k.engines, e.id)
	k.live--
	if k.main == e {
		k.main = nil
	}
	k.mu.Unlock()
	k.endIfEmpty()
}

// launch makes the engine's folder, log and pipes and starts its init.
func (e *engine) launch(spec wire.EngineSpec, specFile, net, stdin *os.File) (err error) {
	defer func() {
		if err != nil {
			if e.log != nil {
				e.log.Close()
			}
			os.RemoveAll(e.dir)
		}
	}()
	if err := makeTmp(e.dir, e.plain); err != nil {
		return fmt.Errorf("make private folder: %w", err)
	}
	if e.log, err = e.keeper.console.Log(e.id); err != nil {
		return fmt.Errorf("open output log: %w", err)
	}
	first := event{Type: "engine", Engine: e.id, Name: e.name, Role: e.role, Address: spec.Address}
	if err := e.log.Append(console.Event, 0, time.Now(), first.json()); err != nil {
		return fmt.Errorf("write output log: %w", err)
	}
	return e.startInit(specFile, net, stdin)
}

func makeTmp(dir string, plain bool) error {
	tmp := filepath.Join(dir, "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return err
	}
	if plain {
		return nil
	}
	return os.Chmod(tmp, 0o777|os.ModeSticky)
}

// startInit starts the init in the network namespace and cgroup that the server made, in fresh namespaces otherwise.
func (e *engine) startInit(spec, net, stdin *os.File) error {
	if stdin == nil {
		null, err := os.Open("/dev/null")
		if err != nil {
			return err
		}
		defer null.Close()
		stdin = null
	}
	outPump, out, err := newPump(e, console.Stdout)
	if err != nil {
		return err
	}
	defer out.Close()
	errPump, errOut, err := newPump(e, console.Stderr)
	if err != nil {
		outPump.close()
		return err
	}
	defer errOut.Close()
	control, peer, err := wire.Pair()
	if err != nil {
		outPump.close()
		errPump.close()
		return err
	}
	defer peer.Close()
	attr := &os.ProcAttr{Dir: "/", Env: []string{}, Files: []*os.File{stdin, out, errOut, spec, peer}, Sys: &syscall.SysProcAttr{}}
	if !e.plain {
		attr.Sys.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	}
	start := func() error {
		if err := e.joinGroup(attr.Sys); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
		defer e.closeLeaf()
		e.process, err = os.StartProcess("/proc/self/exe", []string{"muster-init"}, attr)
		if err != nil {
			return fmt.Errorf("start init: %w", err)
		}
		return nil
	}
	run := start
	if net != nil {
		run = func() error { return netns.Do(net, start) }
	}
	if err := run(); err != nil {
		outPump.close()
		errPump.close()
		control.Close()
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pid = e.process.Pid
	e.control = control.Small()
	e.pumps = [2]*pump{outPump, errPump}
	return nil
}

// joinGroup puts the calling thread, and so what it starts, into the engine's cgroup (v1), or says where the child is to be
// born (v2). A process is never moved: that stalls for milliseconds.
func (e *engine) joinGroup(attr *syscall.SysProcAttr) error {
	if e.group == nil {
		return nil
	}
	leaf, err := e.group.FD()
	if err != nil {
		return err
	}
	if leaf != nil {
		e.leaf = leaf
		attr.UseCgroupFD, attr.CgroupFD = true, int(leaf.Fd())
	}
	return e.group.JoinThread()
}

func (e *engine) closeLeaf() {
	if e.leaf != nil {
		e.leaf.Close()
		e.leaf = nil
	}
}

// signal sends a signal to the interpreter's process group.
func (e *engine) signal(number int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.control == nil || e.over {
		return errNotFound
	}
	return e.control.Send(wire.Order{Signal: number})
}

// stop ends the engine: SIGTERM, after grace SIGKILL. The first caller's reason counts.
func (e *engine) stop(grace time.Duration, reason, by string) {
	if e.gone() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked == nil && !e.over {
		e.asked = &wire.Exit{Reason: reason, By: by}
	}
	if e.control == nil { // still being started: live sees asked
		return
	}
	if grace <= 0 {
		e.kill()
		return
	}
	e.control.Send(wire.Order{Signal: int(unix.SIGTERM)})
	e.control.Send(wire.Order{Signal: int(unix.SIGCONT)}) // a stopped process sees SIGTERM when it goes on
	if e.killing == nil {
		e.killing = time.AfterFunc(grace, e.kill)
	}
}

// kill ends init and everything below it at once.
func (e *engine) kill() {
	if !e.plain {
		e.process.Kill() // the kernel kills the whole process namespace with it
		return
	}
	e.control.Close() // the init ends its descendants at this end of file
	unix.Kill(e.pid, unix.SIGCONT)
}

func (e *engine) gone() bool {
	e.keeper.mu.Lock()
	defer e.keeper.mu.Unlock()
	return e.exit != nil
}

// note appends an event record that the server made.
func (e *engine) note(event json.RawMessage) error {
	if err := e.log.Append(console.Event, 0, time.Now(), event); err != nil {
		return err
	}
	e.keeper.wrote()
	return nil
}

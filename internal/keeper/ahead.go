package keeper

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/console"
	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
)

// An engine can be started ahead of its work: everything is made but its log, and its interpreter waits. It is nobody's yet: no
// server but the one that asked hears of it, and with that server's connection, or with the session, it ends without a trace.
//
//	prepare ─► waiting ─► give ─► an engine like any
//	               └─ ended, dropped, its server gone, the session's end ─► discarded
//
// waiting holds those, guarded by mu.
type ahead struct {
	server *server
	ready  bool          // its interpreter waits
	over   bool          // it gets no work any more: it ends
	work   *os.File      // the FIFO that it reads; nil until it waits, and for a zygote
	folder *os.File      // with its files
	shared *os.File      // its /dev/shm; nil: it has none of its own
	size   int64         // bytes that fit into that
	spec   *os.File      // of its work, until its interpreter has taken that or its init was told; guarded by engine.mu
	lost   bool          // its interpreter ended without work, or its init did; guarded by engine.mu
	signal int           // what ended its interpreter, or its init with that; 0: it ended by itself
	gone   chan struct{} // closed when everything of it is gone; not if it became an engine
}

// prepare starts an engine ahead. All or nothing.
func (k *Keeper) prepare(by *server, r wire.Request, files []*os.File) error {
	e, spec, err := k.read(r, files)
	if err != nil {
		return err
	}
	e.ahead = &ahead{server: by, size: spec.ShmBytes, signal: killSignal, gone: make(chan struct{})}
	if spec.Zygote {
		e.zygote = &zygote{}
	}
	if r.Zygote != "" {
		if e.parent, err = k.parent(r.Zygote); err != nil {
			e.letGo()
			closeAll(files)
			return err
		}
		defer e.parent.Close()
	}
	return k.begin(e, spec, files)
}

// addWaiting makes an engine known that has no work yet.
func (k *Keeper) addWaiting(e *engine) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.freeLocked(e.id); err != nil {
		return err
	}
	if !k.servers[e.ahead.server] {
		return errors.New("the server that asked for it is gone")
	}
	k.waiting[e.id] = e
	return nil
}

// isReady tells the server that asked that the interpreter waits, which is handed its work by these.
func (k *Keeper) isReady(e *engine, apart bool, files []*os.File) {
	if len(files) >= wire.ReadyFiles {
		e.ahead.work, e.ahead.folder = files[0], files[1]
	}
	if len(files) > wire.ReadyFiles {
		e.ahead.shared = files[wire.ReadyFiles]
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waiting[e.id] == e {
		e.ahead.ready = true
		e.ahead.server.put(wire.Event{Kind: wire.EventReady, Engine: e.id, Apart: apart, At: time.Now()})
	}
}

// give makes an engine that waits one like any other. Who is too late is told that there is no such engine.
func (k *Keeper) give(r wire.Request, files []*os.File) error {
	e, err := k.claimFor(r, files)
	if err != nil {
		closeAll(files)
		return err
	}
	failpoint.Here("keeper: after claim")
	if e.ahead.shared != nil {
		if e.ahead.size != r.Give.ShmBytes {
			resize(e.ahead.shared, r.Give.ShmBytes) // an error: it is larger than it would have been, and what is in it counts as memory
		}
	}
	before, written := e.used(), e.writeFiles(*r.Give)
	e.mu.Lock()
	e.before, e.ahead.spec = before, files[0]
	if e.ahead.lost || !written || !e.handLocked(r.Give.Work) {
		e.tellLocked(e.ahead.work)
	}
	e.mu.Unlock()
	e.ahead.letGo()
	failpoint.Here("keeper: after give")
	return nil
}

// claimFor checks a request to give work, and claims the engine.
func (k *Keeper) claimFor(r wire.Request, files []*os.File) (*engine, error) {
	if len(files) != 1 {
		return nil, fmt.Errorf("%d descriptors came with the request, 1 was announced", len(files))
	}
	if r.Give == nil {
		return nil, errors.New("the request does not say what is given")
	}
	return k.claim(r.Engine, *r.Give)
}

// letGo closes what its work is handed over by.
func (a *ahead) letGo() {
	for _, f := range []*os.File{a.work, a.folder, a.shared} {
		if f != nil {
			f.Close()
		}
	}
}

// resize makes a file system in memory larger or smaller (fspick(2), Linux 5.2): by the file itself, for what the engine's paths lead
// to is the engine's word.
func resize(mounted *os.File, bytes int64) error {
	fs, err := unix.Fspick(int(mounted.Fd()), "", unix.FSPICK_EMPTY_PATH|unix.FSPICK_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "size", strconv.FormatInt(bytes, 10)); err != nil {
		return err
	}
	return unix.FsconfigReconfigure(fs)
}

// claim takes an engine out of those that wait. Its log is begun under the same lock: an engine has one, or waits on.
func (k *Keeper) claim(id string, work wire.Given) (*engine, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.waiting[id]
	if e == nil || !e.ahead.ready || e.ahead.over || e.zygote != nil {
		return nil, errNotFound
	}
	if k.ending != nil {
		return nil, errEnding
	}
	e.name, e.role, e.limit, e.lasts = work.Name, work.Role, work.MemoryLimit, work.TimeLimit
	if err := e.openLog(); err != nil {
		return nil, err
	}
	delete(k.waiting, id)
	k.engines[id] = e
	return e, nil
}

// waits reports whether an engine has no work.
func (k *Keeper) waits(e *engine) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.waiting[e.id] == e
}

// used is the CPU time, in nanoseconds, that the engine's processes have taken; 0 if nobody counts.
func (e *engine) used() int64 {
	if e.group == nil {
		return 0
	}
	return e.group.CPUNanos()
}

// neverGiven reports whether an engine that has ended had no work. It gets none any more, and counts until everything of it is gone.
func (e *engine) neverGiven() bool {
	e.keeper.mu.Lock()
	defer e.keeper.mu.Unlock()
	if e.keeper.waiting[e.id] != e {
		return false
	}
	e.ahead.over = true
	return true
}

// discard removes everything of an engine that ended without work.
func (e *engine) discard() {
	for _, p := range e.pumps {
		p.close()
	}
	e.ahead.letGo()
	if e.zygote != nil {
		e.zygote.close()
	}
	e.removeGroup()
	if err := e.removeFolders(); err != nil {
		e.keeper.notice(fmt.Sprintf("the folders of engine %s could not be removed: %v", e.id, err))
	}
	e.keeper.mu.Lock()
	delete(e.keeper.waiting, e.id)
	e.keeper.mu.Unlock()
	e.ahead.server.put(wire.Event{Kind: wire.EventDropped, Engine: e.id, Signal: e.ahead.signal, At: time.Now()})
	close(e.ahead.gone)
	e.keeper.endIfEmpty()
}

// drop ends an engine that waits. Harmless if there is none.
func (k *Keeper) drop(id string) {
	k.mu.Lock()
	e := k.waiting[id]
	if e != nil {
		e.ahead.over = true
	}
	k.mu.Unlock()
	if e != nil {
		e.killWaiting()
	}
}

// dropAll ends the engines that wait, of those servers for which it holds, and returns when they are gone.
func (k *Keeper) dropAll(of func(*server) bool) {
	k.mu.Lock()
	var all []*engine
	for _, e := range k.waiting {
		if of(e.ahead.server) {
			e.ahead.over = true
			all = append(all, e)
		}
	}
	k.mu.Unlock()
	for _, e := range all {
		e.killWaiting()
	}
	for _, e := range all {
		<-e.ahead.gone
	}
}

// killWaiting ends an engine that waits, or that is just being started.
func (e *engine) killWaiting() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.control == nil {
		e.asked = &wire.Exit{} // live sees it
		return
	}
	e.kill()
}

// openLog begins the engine's log.
func (e *engine) openLog() error {
	failpoint.Here("keeper: before log")
	log, err := e.keeper.console.Log(e.id)
	if err != nil {
		return fmt.Errorf("open output log: %w", err)
	}
	first := event{Type: "engine", Engine: e.id, Name: e.name, Role: e.role, Address: e.address}
	if err := log.Append(console.Event, 0, time.Now(), first.json()); err != nil {
		log.Close()
		return fmt.Errorf("write output log: %w", err)
	}
	e.mu.Lock()
	e.log = log
	e.mu.Unlock()
	return nil
}

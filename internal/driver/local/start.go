package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/netns"
)

// startTogether is how many engines of one call are made at the same time: enough to keep both the kernel's network lock and
// the keeper busy. More of them would only wait there.
const startTogether = 4

// maxProcesses bounds the processes and threads of an engine: far above what work needs, and a quarter of what the machine can
// have at most, so that one fork bomb is nobody else's.
func maxProcesses() int { return min(16384, cgroup.Numbers()/4) }

// attempt is one start and what is handed over in it.
type attempt struct {
	spec    driver.Spec
	wire    wire.EngineSpec
	request wire.Request
	inside  net.Listener // see driver.Inside; nil: none
	net     uint64       // the inode of its network namespace; 0: none of its own
	slot    *slot        // it is started ahead of its work; nil: it is not
	group   *cgroup.Group
}

// Start implements driver.Session.
func (s *session) Start(ctx context.Context, specs []driver.Spec) []error {
	errs := make([]error, len(specs))
	var wg sync.WaitGroup
	room := make(chan struct{}, startTogether)
	s.stirByStart(specs)
	for i, spec := range specs {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			errs[i] = s.start(ctx, spec)
		})
	}
	wg.Wait()
	return errs
}

// stirByStart notes that engines are started for which nobody waits.
func (s *session) stirByStart(specs []driver.Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, spec := range specs {
		if s.slots[spec.ID] == nil {
			n++
		}
	}
	if n > 0 {
		s.stirLocked(n)
	}
}

// start starts one engine, or gives its work to one that was started ahead. All or nothing.
func (s *session) start(ctx context.Context, spec driver.Spec) (err error) {
	if err := ctx.Err(); err != nil {
		return failedAt("start", err)
	}
	defer func() {
		if err != nil && ctx.Err() == nil && !errors.Is(err, errEnded) && s.hasEnded() {
			err = failedAt("start", errEnded) // whatever it met, that is why: what it was making is being removed
		}
	}()
	if slot := s.slotOf(spec.ID); slot != nil {
		if given, err := s.give(ctx, spec, slot); given {
			return err
		}
	} else if given, err := s.fork(ctx, spec); given {
		return err
	}
	a := &attempt{spec: spec, wire: s.engineSpec(spec), request: wire.Request{Op: wire.OpStart, Engine: string(spec.ID)}}
	a.wire.Work = nil
	return s.make(ctx, a)
}

// hasEnded reports whether the keeper is gone, and not only let go.
func (s *session) hasEnded() bool {
	select {
	case <-s.lost:
	default:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.detached
}

// make makes an engine's network and cgroup and hands both to the keeper. All or nothing.
func (s *session) make(ctx context.Context, a *attempt) (err error) {
	spec := a.spec
	if err := s.claim(spec.ID); err != nil {
		return failedAt("start", err)
	}
	defer s.unclaim(spec.ID)
	defer func() {
		if err != nil && a.inside != nil {
			a.inside.Close()
		}
	}()
	if !a.wire.Zygote {
		if err := s.addSSH(ctx, &a.wire); err != nil {
			return failedAt("ssh", err)
		}
	}
	files := []*os.File{nil} // the first is the spec: it is written when all is known
	if s.hub != nil && !a.wire.Zygote {
		ns, err := s.attach(a)
		if err != nil {
			return err
		}
		defer ns.Close()
		if a.net, err = inode(ns); err != nil {
			return failedAt("network", err)
		}
		failpoint.Here("driver: after network")
		a.request.HasNet = true
		files = append(files, ns)
	}
	if s.driver.tree != nil {
		group, groupErr := s.makeGroup(a)
		if groupErr != nil {
			return groupErr
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, group.Remove())
			}
		}()
		a.group = group
		failpoint.Here("driver: after cgroup")
		paths := group.Paths()
		a.request.Cgroup, a.wire.Cgroup = &paths, &paths
	}
	if files[0], err = s.specFile(a); err != nil {
		return err
	}
	defer files[0].Close()
	if err := s.step("keeper", a); err != nil {
		return err
	}
	return s.handOver(ctx, a, files)
}

func (s *session) specFile(a *attempt) (*os.File, error) {
	if err := s.step("spec", a); err != nil {
		return nil, err
	}
	f, err := wire.MemoryFile("engine spec", a.wire)
	if err != nil {
		return nil, failedAt("spec", err)
	}
	return f, nil
}

// handOver asks the keeper to start the engine. From here on the start is not given up: the answer comes soon, and without
// it nobody would know whose the cgroup is.
func (s *session) handOver(ctx context.Context, a *attempt, files []*os.File) error {
	id := a.spec.ID
	s.mu.Lock()
	if s.released {
		s.mu.Unlock()
		return failedAt("keeper", errEnded)
	}
	m := member{address: a.spec.Address, net: a.net, inside: a.inside}
	if a.slot != nil {
		m.kind, m.parent = a.slot.kind, a.slot.parent
	}
	if a.slot == nil {
		s.engines[id] = m
	} else {
		a.slot.id, a.slot.member, a.slot.group, a.slot.files, a.slot.spec = id, m, a.group, a.wire.Files, lasting(a.wire)
		a.slot.ssh = s.hasSSH(a.wire.Env)
		if a.group != nil {
			a.slot.limits = s.driver.limits(a.spec)
		}
		s.slots[id] = a.slot
	}
	if a.inside != nil {
		s.serving.Go(func() { s.spec.Inside.Serve(a.inside) })
	}
	s.mu.Unlock()
	failpoint.Here("driver: before handover")
	_, err := s.request(context.WithoutCancel(ctx), a.request, files...)
	failpoint.Here("driver: after handover")
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.engines[id]; !there && a.slot == nil && errors.Is(err, errEnded) {
		return nil // its end with the keeper was observed
	}
	delete(s.engines, id)
	delete(s.slots, id)
	return failedAt("keeper", err)
}

// claim takes an engine's id for one start.
func (s *session) claim(id engine.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.engines[id]; there || s.starting[id] || s.slots[id] != nil {
		return engine.Errorf(engine.Conflict, "engine %s exists already", id)
	}
	s.starting[id] = true
	return nil
}

func (s *session) unclaim(id engine.ID) {
	s.mu.Lock()
	delete(s.starting, id)
	s.mu.Unlock()
}

// step is where tests let a start fail.
func (s *session) step(name string, a *attempt) error {
	if s.driver.fail != nil {
		if err := s.driver.fail(name, a); err != nil {
			return failedAt(name, err)
		}
	}
	return nil
}

// attach makes the engine's network. A worker that is new may connect to a port of its master before it listens.
func (s *session) attach(a *attempt) (ns *os.File, err error) {
	spec := a.spec
	step := func(name string, do func() error) error {
		if err := s.step(name, a); err != nil {
			return err
		}
		if err := do(); err != nil {
			return failedAt(name, err)
		}
		return nil
	}
	if a.request.Zygote != "" { // where the fork can enter it
		r, err := s.request(context.Background(), wire.Request{Op: wire.OpNetwork})
		if err != nil {
			return nil, failedAt("network", err)
		}
		if len(r.files) != 1 {
			return nil, failedAt("network", errors.New("the keeper gave none"))
		}
		ns = r.files[0]
	}
	err = s.inNetwork(func() error {
		if a.slot == nil {
			if err := s.youngHere(a); err != nil {
				return err
			}
		}
		err := step("network", func() (err error) {
			if ns != nil {
				return s.hub.AttachTo(ns, spec.Address)
			}
			ns, err = s.hub.Attach(spec.Address)
			return err
		})
		if err != nil {
			return err
		}
		if s.spec.Inside != nil {
			if err := step("loopback", func() error { return a.listenInside(ns, s.spec.Inside.Port) }); err != nil {
				return err
			}
		}
		return step("name", func() error { return s.hub.Name(spec.Hostname, spec.Address) })
	})
	if err != nil && ns != nil {
		ns.Close()
	}
	return ns, err
}

// young makes an engine's connects to its master's ports wait for a while.
func (s *session) young(a *attempt) error {
	if s.hub == nil {
		return nil
	}
	return s.inNetwork(func() error { return s.youngHere(a) })
}

func (s *session) youngHere(a *attempt) error {
	if a.spec.Role != engine.RoleWorker || s.spec.Attached != nil { // the way to a process outside waits by itself
		return nil
	}
	if err := s.step("young", a); err != nil {
		return err
	}
	if err := s.hub.Young(a.spec.Master, []netip.Addr{a.spec.Address}); err != nil {
		return failedAt("young", err)
	}
	return nil
}

func (a *attempt) listenInside(ns *os.File, port int) error {
	l, err := netns.ListenTCP(ns, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port)))
	if err == nil {
		a.inside = l
	}
	return err
}

// makeGroup makes the engine's cgroup with its limits. They are written before anything is in it.
func (s *session) makeGroup(a *attempt) (*cgroup.Group, error) {
	spec, tree := a.spec, s.driver.tree
	var extra []string
	if len(spec.CPUSet) > 0 && tree.Has(cgroup.CPUSet) {
		extra = []string{cgroup.CPUSet}
	}
	if err := s.step("cgroup", a); err != nil {
		return nil, err
	}
	group, err := tree.New(groupName(s.spec.ID, spec.ID), extra...)
	if errors.Is(err, unix.EEXIST) { // a process that was killed had begun to start this engine: nothing is in it
		if old, openErr := tree.Open(groupName(s.spec.ID, spec.ID)); openErr == nil {
			old.Remove()
		}
		group, err = tree.New(groupName(s.spec.ID, spec.ID), extra...)
	}
	if err != nil {
		return nil, failedAt("cgroup", err)
	}
	if err = s.step("limits", a); err == nil {
		if err = group.Limit(s.driver.limits(spec)); err != nil {
			err = failedAt("limits", err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, group.Remove())
	}
	return group, nil
}

// limits are those of what the machine can limit; that it cannot limit the rest was said at the start.
func (d *Driver) limits(spec driver.Spec) (limits cgroup.Limits) {
	if d.tree.Has(cgroup.Memory) {
		limits.MemoryBytes = spec.Resources.MemoryBytes
	}
	if d.tree.Has(cgroup.CPU) {
		limits.CPUWeight = spec.Resources.CPU
		if spec.HardCPU {
			limits.CPUCap = spec.Resources.CPU
		}
	}
	if d.tree.Has(cgroup.Pids) {
		limits.Pids = maxProcesses()
	}
	if d.tree.Has(cgroup.CPUSet) {
		limits.CPUSet = spec.CPUSet
	}
	return limits
}

// failedAt tells at which step a start failed; the manager makes the exit of it.
func failedAt(step string, err error) error {
	return &driver.StartError{Step: step, Err: fmt.Errorf("%s: %w", step, err)}
}

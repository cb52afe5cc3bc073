package local

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
)

// startTogether is how many engines of one call are made at the same time: two keep both the kernel's network lock and the
// keeper busy.
const startTogether = 4

// defaultShmBytes is /dev/shm for engines without a memory limit.
const defaultShmBytes = 8 << 30

// Start implements driver.Session.
func (s *session) Start(ctx context.Context, specs []driver.Spec) []error {
	errs := make([]error, len(specs))
	if s.hub != nil {
		if err := s.young(specs); err != nil {
			for i := range errs {
				errs[i] = err
			}
			return errs
		}
	}
	var wg sync.WaitGroup
	room := make(chan struct{}, startTogether)
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

// young lets workers that were just launched connect to a port of their master before it listens.
func (s *session) young(specs []driver.Spec) error {
	workers := map[netip.Addr][]netip.Addr{}
	for _, spec := range specs {
		if spec.Role == engine.RoleWorker {
			workers[spec.Master] = append(workers[spec.Master], spec.Address)
		}
	}
	for master, addrs := range workers {
		if err := s.hub.Young(master, addrs); err != nil {
			return engine.Errorf(engine.Internal, "prepare the workers' network: %v", err)
		}
	}
	return nil
}

// start makes one engine's network and cgroup and hands both to the keeper. All or nothing.
func (s *session) start(ctx context.Context, spec driver.Spec) (err error) {
	if spec.Stdin != nil {
		defer spec.Stdin.Close()
	}
	request := wire.Request{Op: wire.OpStart, Engine: string(spec.ID), HasStdin: spec.Stdin != nil}
	wireSpec := s.engineSpec(spec)
	specFile, err := wire.MemoryFile("engine spec", wireSpec)
	if err != nil {
		return failedAt("spec", err)
	}
	defer specFile.Close()
	files := []*os.File{specFile}
	if s.hub != nil {
		ns, err := s.hub.Attach(spec.Address)
		if err != nil {
			return failedAt("network", err)
		}
		defer ns.Close()
		if err := s.hub.Name(spec.Hostname, spec.Address); err != nil {
			return failedAt("name", err)
		}
		request.HasNet = true
		files = append(files, ns)
	}
	if s.driver.tree != nil {
		group, err := s.makeGroup(spec)
		if err != nil {
			return failedAt("cgroup", err)
		}
		defer func() {
			if err != nil {
				group.Remove()
			}
		}()
		paths := group.Paths()
		request.Cgroup = &paths
	}
	if spec.Stdin != nil {
		files = append(files, spec.Stdin)
	}
	s.mu.Lock()
	s.started[spec.ID] = spec
	s.mu.Unlock()
	if _, err := s.request(ctx, request, files...); err != nil {
		s.mu.Lock()
		delete(s.started, spec.ID)
		s.mu.Unlock()
		return failedAt("keeper", err)
	}
	return nil
}

// makeGroup makes the engine's cgroup with its limits. They are written before anything is in it.
func (s *session) makeGroup(spec driver.Spec) (*cgroup.Group, error) {
	var extra []string
	if spec.HardCPU && len(spec.CPUSet) > 0 {
		extra = []string{cgroup.CPUSet}
	}
	group, err := s.driver.tree.New(groupName(s.spec.ID, spec.ID), extra...)
	if err != nil {
		return nil, err
	}
	limits := cgroup.Limits{CPUWeight: spec.Resources.CPU, MemoryBytes: spec.Resources.MemoryBytes}
	if spec.HardCPU {
		limits.CPUCap, limits.CPUSet = spec.Resources.CPU, spec.CPUSet
	}
	if err := group.Limit(limits); err != nil {
		return nil, errors.Join(err, group.Remove())
	}
	return group, nil
}

func (s *session) engineSpec(spec driver.Spec) wire.EngineSpec {
	w := wire.EngineSpec{
		ID: string(spec.ID), Name: spec.Name, Role: string(spec.Role), Main: spec.Role == engine.RoleSession,
		Argv: spec.Argv, Env: spec.Env, Files: spec.Files, Dir: spec.Dir, Hostname: spec.Hostname,
		Address: spec.Address.String(), UID: spec.UID, GID: spec.GID, Groups: spec.Groups,
		Plain: s.driver.rung == Plain, PrivateDir: s.engineDir(spec.ID),
		Visible: append([]string{spec.Dir}, spec.Visible...), Hidden: s.hiddenDirs(),
		ShmBytes: defaultShmBytes, MemoryLimit: spec.Resources.MemoryBytes,
	}
	if spec.Resources.MemoryBytes > 0 {
		w.ShmBytes = spec.Resources.MemoryBytes / 2
	}
	if s.hub != nil {
		w.Gateway = s.hub.Gateway().String()
	}
	for _, g := range spec.GPUs {
		w.DeviceNodes = append(w.DeviceNodes, g.Nodes...)
	}
	if len(spec.GPUs) > 0 {
		w.DeviceNodes = append(w.DeviceNodes, sharedGPUNodes()...)
	}
	return w
}

// failedAt tells at which step a start failed; the manager makes the exit of it.
func failedAt(step string, err error) error {
	return &driver.StartError{Step: step, Err: fmt.Errorf("%s: %w", step, err)}
}

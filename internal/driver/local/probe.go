package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"muster/engine"
	"muster/internal/keeper/wire"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/netns"
)

// What a probe may use: much more than wrappers and R's installation need, and little for the machine.
const (
	probeMemory    = 512 << 20
	probeProcesses = 1024
	probeOutput    = 1 << 20 // bytes of each stream that are kept
)

// probeEndsIn is how long an ended probe may hold its output open, and a given up one the server.
const probeEndsIn = time.Second

// Probe implements driver.Driver: an init, as of an engine, of which this process is the keeper. Its folder and cgroup look
// like those of a session, so that Sweep finds what is left of them if this process is killed; the probe ends with it.
func (d *Driver) Probe(ctx context.Context, p engine.Probe) (stdout, stderr []byte, err error) {
	name, id := p.Argv[0], engine.NewID()
	dir := d.sessionDir(id)
	private := filepath.Join(dir, "engines", string(id))
	if err := os.MkdirAll(filepath.Join(private, "tmp"), 0o700); err != nil {
		return nil, nil, notRun(name, "make a private folder", err)
	}
	defer os.RemoveAll(dir)
	lock, err := newLock(dir)
	if err != nil {
		return nil, nil, notRun(name, "lock the private folder", err)
	}
	defer lock.Close()
	as := p.As
	if as == nil {
		groups, err := os.Getgroups()
		if err != nil {
			return nil, nil, notRun(name, "find its groups", err)
		}
		as = &engine.Account{User: engine.User{UID: os.Getuid()}, GID: os.Getgid(), Groups: groups}
	} else if err := os.Chmod(filepath.Join(private, "tmp"), 0o777|os.ModeSticky); err != nil {
		return nil, nil, notRun(name, "give its user a private folder", err)
	}
	spec, err := wire.MemoryFile("probe spec", wire.EngineSpec{
		ID: string(id), Argv: p.Argv, Env: p.Env, Dir: p.Dir, Hostname: "probe", Address: "127.0.0.1",
		UID: as.UID, GID: as.GID, Groups: as.Groups, Foreign: p.As != nil, Plain: d.rung == Plain, PrivateDir: private,
		Visible: append([]string{p.Dir}, p.Visible...), Shared: p.Shared, Hidden: d.hiddenDirs(), ReadOnly: d.config.ReadOnly, Writable: p.Writable,
		ShmBytes: probeMemory / 2,
	})
	if err != nil {
		return nil, nil, notRun(name, "describe it", err)
	}
	defer spec.Close()
	if d.rung == Plain {
		return d.runProbe(ctx, name, spec, nil)
	}
	group, err := d.probeGroup(id)
	if err != nil {
		return nil, nil, notRun(name, "make its cgroup", err)
	}
	defer func() {
		if removeErr := group.Remove(); err == nil && removeErr != nil {
			err = notRun(name, "remove its cgroup", removeErr)
		}
	}()
	return d.runProbe(ctx, name, spec, group)
}

// notRun is for what goes wrong before a probe runs, or after: that is not its fault, and is told as it is.
func notRun(name, step string, err error) error {
	return engine.Errorf(engine.Unavailable, "%s cannot be run: %s: %w", name, step, err)
}

func (d *Driver) probeGroup(id engine.ID) (*cgroup.Group, error) {
	group, err := d.tree.New(groupName(id, id))
	if err != nil {
		return nil, err
	}
	var limits cgroup.Limits
	if d.tree.Has(cgroup.Memory) {
		limits.MemoryBytes = probeMemory
	}
	if d.tree.Has(cgroup.Pids) {
		limits.Pids = probeProcesses
	}
	if err := group.Limit(limits); err != nil {
		return nil, errors.Join(err, group.Remove())
	}
	return group, nil
}

// runProbe starts the init and waits for its end. The end of its control connection ends it with all that it started.
func (d *Driver) runProbe(ctx context.Context, name string, spec *os.File, group *cgroup.Group) (stdout, stderr []byte, err error) {
	conn, peer, err := wire.Pair()
	if err != nil {
		return nil, nil, notRun(name, "connect to it", err)
	}
	defer conn.Close()
	defer peer.Close()
	var out, errOut kept
	cmd := exec.CommandContext(ctx, d.config.Keeper)
	cmd.Args, cmd.Env, cmd.Dir = []string{"muster-init"}, []string{}, "/"
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.ExtraFiles = []*os.File{spec, peer} // wire.InitSpecFD, wire.InitControlFD
	cmd.SysProcAttr = d.process()
	cmd.Cancel, cmd.WaitDelay = conn.Close, probeEndsIn
	start := cmd.Start
	if group != nil {
		start = func() error { return startIsolated(cmd, group) }
	}
	if err := start(); err != nil {
		return nil, nil, notRun(name, "start it", err)
	}
	peer.Close()
	end := outcome(conn, name)
	conn.Close() // an init that is alone waits for that
	waited := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case end != nil:
		err = end
	case errors.Is(waited, exec.ErrWaitDelay):
		err = errors.New("somebody holds its output open")
	}
	return out.b.Bytes(), errOut.b.Bytes(), err
}

// startIsolated starts the init in namespaces of its own, the network one empty, and in the group.
func startIsolated(cmd *exec.Cmd, group *cgroup.Group) error {
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	leaf, err := group.FD()
	if err != nil {
		return err
	}
	if leaf != nil {
		defer leaf.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(leaf.Fd())
	}
	ns, err := netns.New()
	if err != nil {
		return err
	}
	defer ns.Close()
	return netns.Do(ns, func() error {
		if err := group.JoinThread(); err != nil {
			return err
		}
		return cmd.Start()
	})
}

// outcome reads what the init reports until it has ended, or is alone, and makes an error of it if the probe did not succeed. One that
// could not be run is an *engine.Error: for people as it is.
func outcome(conn *wire.Conn, name string) error {
	err := errors.New("it was killed from outside")
	for {
		var r wire.Report
		if _, receiveErr := conn.Receive(&r); receiveErr != nil {
			return err
		}
		switch {
		case r.Failed != nil:
			err = engine.Errorf(engine.Unavailable, "%s cannot be run: %s: %s", name, r.Failed.Step, r.Failed.Message)
		case r.Exited != nil && r.Exited.Signal != 0:
			err = fmt.Errorf("it was ended by signal %d (%s)", r.Exited.Signal, syscall.Signal(r.Exited.Signal))
		case r.Exited != nil && r.Exited.Code != 0:
			err = fmt.Errorf("it ended with exit code %d", r.Exited.Code)
		case r.Exited != nil:
			err = nil
		}
		if r.Exited != nil && r.Exited.Alone {
			return err
		}
	}
}

// kept keeps the beginning of what is written to it.
type kept struct{ b bytes.Buffer }

func (k *kept) Write(p []byte) (int, error) {
	k.b.Write(p[:min(len(p), probeOutput-k.b.Len())])
	return len(p), nil
}

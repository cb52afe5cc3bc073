package manager

import (
	"context"
	"maps"
	"os"
	"path/filepath"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/kernel"
)

// The kinds of sessions. An attached one has no engine of its own: its process lives outside, is described as if it were an
// engine that runs, takes no room, and ends when it likes, which is the session's end.
const (
	kindScript   = "script"
	kindTerminal = "terminal" // it begins with a terminal
	kindAttached = "attached"
)

func kindOf(req api.CreateSession) string {
	switch {
	case req.Kind != "":
		return req.Kind
	case req.TTY != nil:
		return kindTerminal
	}
	return kindScript
}

// checkAttached checks the request of a process that is to be a session.
func checkAttached(req *api.CreateSession) error {
	switch {
	case req.OwnerPID <= 0:
		return invalid("owner_pid must be the id of the process to attach, not %d", req.OwnerPID)
	case req.Script != "" || req.Code != "" || len(req.Args) > 0 || req.Stdin || req.TTY != nil:
		return invalid("an attached session runs no code of its own: leave script, code, args, tty and stdin out")
	case req.CPU != 0 || req.Memory != 0 || req.GPUs != 0 || len(req.Env) > 0:
		return invalid("an attached session's process is as it is: leave cpu, memory, nvidia_gpu and env out")
	}
	if err := checkProject(req.Project); err != nil {
		return err
	}
	if err := checkInterpreter(req.Interpreter); err != nil {
		return err
	}
	if err := checkEnv("base_env", req.BaseEnv); err != nil {
		return err
	}
	const cores = 1 // any that is valid
	return checkCommon(readable(req.Name), req.Kernel, cores, 0, "", "", nil)
}

// checkInterpreter checks what the owner says that workers of its language run on; "" lets it be searched.
func checkInterpreter(path string) error {
	if path == "" {
		return nil
	}
	if !filepath.IsAbs(path) {
		return invalid("the interpreter %q is no absolute path", path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return invalid("the interpreter cannot be used: %v", err)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return invalid("the interpreter %s is no program that can be run", path)
	}
	return nil
}

// prepareAttached is the part of newSession for a process that runs already: it has all of the machine and asks for nothing.
func (m *Manager) prepareAttached(ctx context.Context, s *session, req api.CreateSession) error {
	b := s.main.batch
	b.cpu, s.interpreter, b.work = m.cfg.Capacity.CPU, req.Interpreter, &work{}
	s.main.ticket.want = amount{}
	s.origin = &origin{base: baseOf(s.behalf, req.BaseEnv)}
	s.origin.search = m.searchEnvironment(s, b.work, s.origin)
	r := kernel.Request{
		Kernel: s.kernelOf(req.Kernel, "", engine.Python3), Project: s.project, SearchEnv: s.origin.search, Trusted: true,
		Own: s.settings.Kernels, For: s.behalf,
	}
	if s.interpreter != "" {
		r.Interpreter = map[engine.Kernel]string{r.Kernel: s.interpreter}
	}
	c, err := m.cfg.Kernels.Prepare(ctx, r) // nothing to run: it is about the kernel's name, and what is shared
	if err != nil {
		return err
	}
	b.kernel, s.shared = c.Kernel, c.Shared
	return nil
}

// attached is what the driver is told of the session's process; nil if the session has an engine of its own.
func (s *session) attached(req api.CreateSession) *driver.Attached {
	if s.kind != kindAttached {
		return nil
	}
	return &driver.Attached{Name: s.name, PID: req.OwnerPID, UID: s.m.accountOf(s).UID}
}

// startAttached enters the session: its process runs already.
func (m *Manager) startAttached(s *session) error {
	if err := m.enter(s); err != nil {
		return err
	}
	s.change(func(*effects) {
		s.main.becomeLocked(engine.Starting, m.now())
		s.main.becomeLocked(engine.Running, m.now())
		s.warmSoonLocked()
	})
	go s.run() // counted by enter
	return nil
}

// ownEnv is what an attached process has to set for itself to be what an engine of its session is: who and where it is, and
// where the API. Its other variables are its own.
func (m *Manager) ownEnv(s *session) map[string]string {
	env := m.environment(s, s.main, &work{}, &origin{})
	maps.DeleteFunc(env, func(k, _ string) bool { return !ours(k) })
	return env
}

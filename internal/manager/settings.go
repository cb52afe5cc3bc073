package manager

import (
	"context"
	"path/filepath"
	"strings"

	"muster/api"
	"muster/engine"
	"muster/internal/project"
)

// settingsOf reads the settings of the project for which a session is asked, and gives the request what they say for whatever it
// leaves open. A folder that cannot be a project has none: checkSession says what is wrong with it.
func (m *Manager) settingsOf(req *api.CreateSession) (project.Settings, error) {
	if !filepath.IsAbs(req.Project) {
		return project.Settings{}, nil
	}
	set, _, err := project.Read(req.Project)
	if err != nil {
		return set, err
	}
	if caps := m.cfg.Driver.Capabilities(); set.Limits.HardCPU && !caps.CPUCap {
		return set, engine.Errorf(engine.Invalid, "%s asks for limits.hard_cpu, and CPU cannot be capped by the %s driver on this machine",
			filepath.Join(req.Project, project.FileName), caps.Name).WithHint("take that line out: CPU is then a share")
	}
	if set.HomeAlias && inHome(req.Project) {
		return set, engine.Errorf(engine.Invalid, "%s asks for home_alias, and the project itself lies in %s, which would hide it",
			filepath.Join(req.Project, project.FileName), project.Home).WithHint("take that line out, or move the project")
	}
	if kindOf(*req) != kindAttached { // its process is as it is
		fill(&req.CPU, &req.Memory, &req.GPUs, set.Session)
	}
	return set, nil
}

// inHome reports whether a folder lies below the one that the home alias covers.
func inHome(dir string) bool {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return strings.HasPrefix(filepath.Clean(dir), project.Home+"/")
}

// fill sets what is 0, which is not said, to what the project's settings say.
func fill(cpu, memory *float64, gpus *int, size project.Size) {
	if *cpu == 0 {
		*cpu = size.CPU
	}
	if *memory == 0 {
		*memory = size.Memory
	}
	if *gpus == 0 {
		*gpus = size.GPUs
	}
}

// script is a script's name as it is looked for: one below the folder under which scripts of the original know their project
// is in the project.
func (s *session) script(name string) string {
	if !s.settings.HomeAlias || !filepath.IsAbs(name) {
		return name
	}
	rest, err := filepath.Rel(project.Home, name)
	if err != nil || !filepath.IsLocal(rest) {
		return name
	}
	return rest
}

// alias is the second path at which the session's engines see the project; "": none.
func (s *session) alias() string {
	if !s.settings.HomeAlias || !s.m.cfg.Driver.Capabilities().Isolation {
		return ""
	}
	return project.Home
}

// warn says which of the project's settings cannot hold on this machine.
func (s *session) warn(ctx context.Context) {
	if s.settings.HomeAlias && s.alias() == "" {
		s.note(ctx, api.Event{Type: "notice", Message: "the home alias of " + project.FileName + " needs isolated engines, and here they are plain processes: " +
			project.Home + " does not show the project"})
	}
}

// bounds are the most that a project's engines may have together, 0 for no limit.
type bounds struct {
	workers int
	amount
}

func boundsOf(l project.Limits) bounds {
	return bounds{l.Workers, amount{memory: bytesOf(l.Memory), cpu: coreUnits(l.CPU), gpus: l.GPUs}}
}

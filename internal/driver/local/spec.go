package local

import (
	"bytes"
	"path/filepath"
	"strings"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/keeper/wire"
	"muster/internal/linux/sandbox"
)

// minShmBytes is more than the 64 MB that the original had, and containers have. What is in it counts as the engine's memory.
const minShmBytes = 128e6

// defaultShmBytes is /dev/shm for engines without a memory limit.
const defaultShmBytes = 8 << 30

// engineSpec is what keeper and init need to know of an engine.
func (s *session) engineSpec(spec driver.Spec) wire.EngineSpec {
	w := wire.EngineSpec{
		ID: string(spec.ID), Name: spec.Name, Role: string(spec.Role), Main: spec.Role == engine.RoleSession,
		Argv: s.argv(spec), Env: spec.Env, Files: spec.Files, Dir: spec.Dir, Alias: spec.Alias, Hostname: spec.Hostname,
		Address: spec.Address.String(), UID: spec.UID, GID: spec.GID, Groups: spec.Groups, Foreign: spec.Foreign,
		Plain: s.driver.rung == Plain, PrivateDir: s.engineDir(spec.ID),
		Visible: append([]string{spec.Dir}, spec.Visible...), Shared: spec.Shared, Hidden: s.driver.hiddenDirs(), ReadOnly: s.driver.config.ReadOnly,
		ShmBytes: defaultShmBytes, MemoryLimit: spec.Resources.MemoryBytes, TimeLimit: spec.TimeLimit,
		Stdin: spec.Stdin,
	}
	w.Work = s.work(spec)
	if spec.Resources.MemoryBytes > 0 {
		w.ShmBytes = max(spec.Resources.MemoryBytes/2, minShmBytes)
	}
	if s.driver.rung == Plain {
		w.TmpDir = plainTmp(spec.ID)
	}
	if s.hub != nil {
		w.Gateway = s.hub.Gateway().String()
	}
	if spec.Terminal != nil {
		w.Terminal = &wire.TerminalSize{Rows: spec.Terminal.Rows, Cols: spec.Terminal.Cols}
	}
	w.Cores = spec.CPUSet
	for _, g := range spec.GPUs {
		w.GPUs = append(w.GPUs, g.Index)
		w.DeviceNodes = append(w.DeviceNodes, g.Nodes...)
	}
	if len(spec.GPUs) > 0 {
		w.DeviceNodes = append(w.DeviceNodes, sharedGPUNodes()...)
	}
	return w
}

// argv is the command line with the engine's own folder in it.
func (s *session) argv(spec driver.Spec) []string {
	if spec.Private == "" {
		return spec.Argv
	}
	out := make([]string, len(spec.Argv))
	for i, a := range spec.Argv {
		out[i] = strings.ReplaceAll(a, spec.Private, s.folder(spec))
	}
	return out
}

// work is what an interpreter that waits reads, with the engine's own folder in it.
func (s *session) work(spec driver.Spec) *wire.Work {
	if spec.Work == nil {
		return nil
	}
	w := &wire.Work{Bytes: spec.Work.Bytes, File: spec.Work.File}
	if spec.Private != "" {
		w.Bytes = bytes.ReplaceAll(w.Bytes, []byte(spec.Private), []byte(s.folder(spec)))
		w.File = strings.ReplaceAll(w.File, spec.Private, s.folder(spec))
	}
	return w
}

// folder is the engine's own.
func (s *session) folder(spec driver.Spec) string {
	if s.driver.rung == Plain {
		return filepath.Join(s.engineDir(spec.ID), wire.PlainFilesName)
	}
	return sandbox.PrivateDir
}

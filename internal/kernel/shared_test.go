package kernel

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"muster/engine"
)

// What is shared is settled by a session's first request: links that are turned later, and what wrappers say later, add nothing.
func TestSharedIsSettledOnce(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	for _, d := range []string{"project", "clients", "secret/bin", "env/bin", "shims/bin"} {
		must(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	link := func(name, target string) string {
		path := filepath.Join(dir, name)
		os.Remove(path)
		must(t, os.Symlink(filepath.Join(dir, target), path))
		return path
	}
	project, env, clients := link("p", "project"), link("e", "env"), link("c", "clients")
	real := filepath.Join(fakeBinary(t, "python3.99"), "python3.99")
	must(t, os.Symlink(real, filepath.Join(dir, "env/bin/python3")))
	shim(t, filepath.Join(dir, "shims/bin"), "Rscript", "")
	var probes []engine.Probe
	tab := NewTable(Config{
		Visible: []string{clients},
		Run: func(_ context.Context, p engine.Probe) (stdout, stderr []byte, err error) {
			probes = append(probes, p)
			return nil, nil, nil
		},
		RLibrary: func(ctx context.Context, run engine.RunProbe, _ *engine.Behalf, _, rscript string) (string, error) {
			_, _, err := run(ctx, engine.Probe{Argv: []string{rscript}})
			return "/library", err
		},
	})
	first := Request{
		Kernel: engine.Python3, Code: "1", Project: project, Trusted: true,
		SearchEnv: map[string]string{"PATH": env + "/bin:" + dir + "/shims/bin"},
	}
	c, err := tab.Prepare(context.Background(), first)
	must(t, err)
	realPrefix, err := filepath.EvalSymlinks(engine.Installation(real))
	must(t, err)
	for _, want := range []string{dir + "/project", dir + "/env", dir + "/clients", dir + "/shims", realPrefix} {
		if !slices.Contains(c.Shared, want) {
			t.Errorf("%s is not shared: %q", want, c.Shared)
		}
	}
	link("p", "secret")
	link("e", "secret")
	link("c", "secret")
	later, err := tab.Prepare(context.Background(), Request{
		Kernel: engine.R, Code: "1", Project: project, SearchEnv: first.SearchEnv, Shared: c.Shared,
	})
	must(t, err)
	if !slices.Equal(later.Shared, c.Shared) || len(probes) != 1 || !slices.Equal(probes[0].Shared, c.Shared) {
		t.Errorf("later %q, probes %+v; first %q", later.Shared, probes, c.Shared)
	}
	if slices.Contains(later.Shared, dir+"/secret") {
		t.Errorf("what links lead to now is shared: %q", later.Shared)
	}
}

// A process that becomes a session says what its workers run on, and a project may have kernels of its own.
func TestSharedOfAttached(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	real := filepath.Join(fakeBinary(t, "python3.99"), "python3.99")
	bin := fakeBinary(t, "mine")
	c, err := table(t).Prepare(context.Background(), Request{
		Kernel: engine.Python3, Project: dir, Trusted: true, Interpreter: map[engine.Kernel]string{engine.Python3: real},
		Own: []Own{{Kernel: "mine", Commands: []string{"mine"}}}, SearchEnv: map[string]string{"PATH": bin},
	})
	must(t, err)
	prefix, err := filepath.EvalSymlinks(engine.Installation(real))
	must(t, err)
	own, err := filepath.EvalSymlinks(engine.Installation(filepath.Join(bin, "mine")))
	must(t, err)
	for _, want := range []string{dir, prefix, own} {
		if !slices.Contains(c.Shared, want) {
			t.Errorf("%s is not shared: %q", want, c.Shared)
		}
	}
}

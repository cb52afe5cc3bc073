package manager_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/api"
	"muster/engine"
)

func TestBadSessions(t *testing.T) {
	b := newBench(t)
	file := filepath.Join(b.project, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(*api.CreateSession)
		kind   engine.Kind
		want   string
	}{
		{func(r *api.CreateSession) { r.Project = "" }, engine.Invalid, "no project folder is given"},
		{func(r *api.CreateSession) { r.Project = "a/b" }, engine.Invalid, `the project folder "a/b" is no absolute path`},
		{func(r *api.CreateSession) { r.Project = "/no/where" }, engine.Invalid, "the project folder /no/where does not exist"},
		{func(r *api.CreateSession) { r.Project = file }, engine.Invalid, "the project " + file + " is no folder"},
		{func(r *api.CreateSession) { r.Kernel = "cobol" }, engine.Invalid, `unknown kernel "cobol"`},
		{func(r *api.CreateSession) { r.Script = "missing.py" }, engine.Invalid, `script "missing.py" does not exist`},
		{func(r *api.CreateSession) { r.Kernel = "r" }, engine.Unavailable, "no interpreter for kernel r"},
		{func(r *api.CreateSession) { r.CPU = -1 }, engine.Invalid, "cpu must be a number of cores above 0, not -1"},
		{func(r *api.CreateSession) { r.Memory = -1 }, engine.Invalid, "memory must be a number of gigabytes above 0, not -1"},
		{func(r *api.CreateSession) { r.Memory = 64 }, engine.NoCapacity, "the session asks for 64 GB, this machine has 24 GB"},
		{func(r *api.CreateSession) { r.GPUs = 1 }, engine.NoCapacity, "the session asks for 1 GPU, this machine has 0"},
		{func(r *api.CreateSession) { r.OwnerPID = -1 }, engine.Invalid, "owner_pid must be the id of a process, not -1"},
		{func(r *api.CreateSession) { r.Args = []string{"a\x00"} }, engine.Invalid, `the argument "a\x00" has a NUL byte`},
		{func(r *api.CreateSession) { r.BaseEnv = map[string]string{"A": "\x00"} }, engine.Invalid, "base_env: the value of A has a NUL byte"},
	} {
		req := api.CreateSession{Code: "hang", Project: b.project}
		c.change(&req)
		_, err := b.CreateSession(t.Context(), req)
		if err == nil || err.Error() != "create session: "+c.want || engine.KindOf(err) != c.kind {
			t.Errorf("error %q of kind %s, want %q of kind %s", err, engine.KindOf(err), "create session: "+c.want, c.kind)
		}
	}
	if n := b.driver.World().Count()["places"]; n != 0 {
		t.Errorf("%d places left", n)
	}
	b.sessionOf(api.CreateSession{Code: "hang", Memory: 20})
	_, err := b.CreateSession(t.Context(), api.CreateSession{Code: "hang", Project: b.project, Memory: 8})
	if want := "create session: the session asks for 8 GB memory: 4 GB of 24 GB is free"; err == nil || err.Error() != want || engine.KindOf(err) != engine.Unavailable {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestNotThere(t *testing.T) {
	b := newBench(t)
	no := engine.NewID()
	ctx := context.Background()
	_, e1 := b.Session(no)
	e2 := b.EndSession(ctx, no, "x")
	e3 := b.Interrupt(ctx, no)
	_, e4 := b.Stdin(no)
	_, _, e5 := b.Launch(ctx, no, worker(1, ""))
	_, e6 := b.Workers(no)
	_, e7 := b.Await(ctx, no, api.Await{}, nil)
	_, e8 := b.Stop(ctx, no, api.Stop{}, "x")
	_, _, _, e9 := b.Console(no)
	for i, err := range []error{e1, e2, e3, e4, e5, e6, e7, e8, e9} {
		if engine.KindOf(err) != engine.NotFound || !strings.Contains(err.Error(), string(no)) {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
}

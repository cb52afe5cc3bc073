package manager_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"muster/api"
	"muster/engine"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
)

func TestBadSessions(t *testing.T) {
	b := newBench(t, func(_ *manager.Config, f *fake.Options) {
		f.Claim = func(c *driver.Capabilities) { c.Isolation = true }
	})
	tmpLink := filepath.Join(b.project, "link")
	if err := os.Symlink("/tmp", tmpLink); err != nil {
		t.Fatal(err)
	}
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
		{func(r *api.CreateSession) { r.Project = "/tmp" }, engine.Invalid, "the project folder /tmp cannot be shared: every engine has its own /tmp"},
		{func(r *api.CreateSession) { r.Project = "/dev/shm/" }, engine.Invalid, "the project folder /dev/shm/ cannot be shared: every engine has its own /dev/shm"},
		{func(r *api.CreateSession) { r.Project = tmpLink }, engine.Invalid, "the project folder " + tmpLink + " cannot be shared: every engine has its own /tmp"},
		{func(r *api.CreateSession) { r.Project = "/proc" }, engine.Invalid, "the project folder /proc lies in /proc, which is the system's: it holds no files of a project"},
		{func(r *api.CreateSession) { r.Project = "/sys/kernel" }, engine.Invalid, "the project folder /sys/kernel lies in /sys, which is the system's: it holds no files of a project"},
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
		{func(r *api.CreateSession) { r.Args = []string{strings.Repeat("x", 200_000)} }, engine.Invalid,
			`the argument "` + strings.Repeat("x", 60) + `… (200000 bytes)" has 200 kB, the system's limit is 131.07 kB`},
		{func(r *api.CreateSession) { r.Args = slices.Repeat([]string{strings.Repeat("x", 100_000)}, 16) }, engine.Invalid, inAll},
		{func(r *api.CreateSession) { r.BaseEnv, r.Env = many("A", 9), many("B", 9) }, engine.Invalid, inAll},
		{func(r *api.CreateSession) { r.Args, r.Env = slices.Repeat([]string{""}, 150_000), many("B", 9) }, engine.Invalid, inAll},
	} {
		req := api.CreateSession{Code: "hang", Project: b.project}
		c.change(&req)
		_, err := b.CreateSession(t.Context(), req)
		if err == nil || !matches(err.Error(), "create session: "+c.want) || engine.KindOf(err) != c.kind {
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

// inAll stands for the message about all of an engine's arguments and variables.
const inAll = "the engine's environment and arguments have * MB in all, at most 1.5 MB are allowed"

// matches compares; one * stands for anything.
func matches(got, want string) bool {
	before, after, star := strings.Cut(want, "*")
	if !star {
		return got == want
	}
	return strings.HasPrefix(got, before) && strings.HasSuffix(got, after)
}

// many makes n variables of 100 kB.
func many(prefix string, n int) map[string]string {
	env := map[string]string{}
	for i := range n {
		env[prefix+strconv.Itoa(i)] = strings.Repeat("x", 100_000)
	}
	return env
}

// A launch's variables count together with the session's.
func TestEnvironmentOfALaunchInAll(t *testing.T) {
	b := newBench(t)
	id := b.sessionOf(api.CreateSession{Code: "hang", BaseEnv: many("A", 9)})
	req := worker(1, "hang")
	req.Env = many("B", 9)
	if w := b.launch(id, req); !matches(w[0].Message, inAll+" (write large values to a file in the project)") {
		t.Errorf("%q", w[0].Message)
	}
	req.Env = many("B", 4)
	if w := b.launch(id, req); w[0].Message != "" {
		t.Errorf("%q", w[0].Message)
	}
}

func TestNotThere(t *testing.T) {
	b := newBench(t)
	no := engine.NewID()
	ctx := context.Background()
	_, e1 := b.Session(no)
	e2 := b.EndSession(ctx, no, "x")
	e3 := b.Interrupt(ctx, no)
	_, e4 := b.WriteStdin(ctx, no, 0, nil, false)
	_, _, e5 := b.Launch(ctx, no, worker(1, ""))
	_, e6 := b.Workers(no, "")
	_, e7 := b.Await(ctx, no, api.Await{}, nil)
	_, e8 := b.Stop(ctx, no, api.Stop{}, "x")
	_, _, _, e9 := b.Console(no)
	for i, err := range []error{e1, e2, e3, e4, e5, e6, e7, e8, e9} {
		if engine.KindOf(err) != engine.NotFound || !strings.Contains(err.Error(), string(no)) {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
}

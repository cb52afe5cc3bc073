package manager_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"muster/api"
	"muster/engine"
	"muster/internal/driver/fake"
	"muster/internal/kernel"
	"muster/internal/manager"
	"muster/internal/quota"
)

var (
	alice = engine.User{Name: "alice", UID: 20001}
	bob   = engine.User{Name: "bob", UID: 20002}
)

// shared makes the server one of several users; looked counts how often files were looked at on somebody's behalf.
func shared(looked map[string]int) option {
	return func(c *manager.Config, _ *fake.Options) {
		c.Behalf = func(_ context.Context, u engine.User) (*engine.Behalf, error) {
			return &engine.Behalf{
				Account: engine.Account{User: u, GID: u.UID, Groups: []int{u.UID, 7}, Home: "/home/" + u.Name, Shell: "/bin/zsh"},
				Look:    func(files func()) error { looked[u.Name]++; files(); return nil },
			}, nil
		}
	}
}

func (b *bench) sessionFor(u engine.User, req api.CreateSession) engine.ID {
	b.t.Helper()
	req.Project = b.project
	s, err := b.CreateSessionFor(b.t.(*testing.T).Context(), u, req)
	if err != nil {
		b.t.Fatal(err)
	}
	return engine.ID(s.ID)
}

// Each user has sessions of his own, whose engines are his, and whose files are looked at with his rights.
func TestUsersApart(t *testing.T) {
	looked := map[string]int{}
	var asked kernel.Request
	b := newBench(t, shared(looked), func(c *manager.Config, _ *fake.Options) { c.Kernels = scripts{asked: &asked} })
	env := map[string]string{"HOME": "/root", "USER": "root", "SHELL": "/bin/sh", "LANG": "C"}
	hers := b.sessionFor(alice, api.CreateSession{Code: "env HOME\nenv USER\nenv SHELL\nhang", BaseEnv: env})
	if looked["alice"] == 0 || asked.For == nil || asked.For.Account.Name != "alice" {
		t.Errorf("looked at %v, for %+v", looked, asked.For)
	}
	if asked.Env["HOME"] != "/home/alice" || asked.Env["USER"] != "alice" || asked.Env["SHELL"] != "/bin/zsh" || asked.Env["LANG"] != "C" {
		t.Errorf("HOME=%s USER=%s SHELL=%s LANG=%s", asked.Env["HOME"], asked.Env["USER"], asked.Env["SHELL"], asked.Env["LANG"])
	}
	his := b.sessionFor(bob, api.CreateSession{Code: "hang"})
	own := b.session()
	for _, c := range []struct {
		user engine.User
		want engine.ID
	}{{alice, hers}, {bob, his}, {engine.User{}, own}} {
		if list := b.SessionsOf(c.user); len(list) != 1 || list[0].ID != string(c.want) || list[0].User != c.user.Name {
			t.Errorf("%s has %+v", c.user.Name, list)
		}
		if u, ok := b.UserOf(c.want); !ok || u != c.user {
			t.Errorf("%s is of %+v", c.want, u)
		}
		if _, _, err := b.EngineOf(c.user, string(c.want)); err != nil {
			t.Errorf("%s: %v", c.user.Name, err)
		}
		if f, ok := b.Find(c.want); !ok || f.User != c.user {
			t.Errorf("%+v", f)
		}
	}
	if _, _, err := b.EngineOf(bob, string(hers)); engine.KindOf(err) != engine.NotFound {
		t.Errorf("another's engine: %v", err)
	}
	if all := b.Sessions(); len(all) != 3 {
		t.Errorf("%d sessions", len(all))
	}
	if _, ok := b.UserOf("aaaaaaaaaaaaaaaa"); ok {
		t.Error("an unknown session is somebody's")
	}
	before := looked["alice"]
	b.launch(hers, worker(1, "exit 0"))
	if asked.For == nil || asked.For.Account.UID != 20001 || looked["alice"] < before {
		t.Errorf("a launch is for %+v", asked.For)
	}
	d, _, _ := b.EngineOf(alice, string(hers))
	if d.Owner.Name != "alice" || d.Creator.Name != "alice" {
		t.Errorf("owner %s, creator %s", d.Owner.Name, d.Creator.Name)
	}
}

// A server of one user makes no sessions for others.
func TestNoOtherUsers(t *testing.T) {
	b := newBench(t)
	if _, err := b.CreateSessionFor(t.Context(), alice, api.CreateSession{Project: b.project, Code: "hang"}); engine.KindOf(err) != engine.Internal {
		t.Errorf("%v", err)
	}
}

// Who is over his quota waits and says for what; others pass; what can never be is refused at once.
func TestQuotas(t *testing.T) {
	b := newBench(t, shared(map[string]int{}), func(c *manager.Config, _ *fake.Options) {
		c.Quotas = quota.Quotas{User: quota.Limits{Memory: 4, Workers: 3}, Session: quota.Limits{CPU: 2}, Users: map[string]quota.Limits{"bob": {}}}
	})
	hers, his := b.sessionFor(alice, api.CreateSession{Code: "hang"}), b.sessionFor(bob, api.CreateSession{Code: "hang"})
	size := func(n int, cpu, memory float64) api.LaunchWorkers {
		return api.LaunchWorkers{N: n, CPU: cpu, Memory: memory, Code: "hang"}
	}
	for _, c := range []struct {
		req  api.LaunchWorkers
		says string
	}{
		{size(1, 1, 5), "asks for 5 GB of memory, user alice may have 4 GB in all"},
		{size(1, 3, 1), "asks for 3 cores, the session may have 2 in all"},
	} {
		if ws := b.launch(hers, c.req); ws[0].ID != "" || !strings.Contains(ws[0].Message, c.says) {
			t.Errorf("%+v: %q, want %q", c.req, ws[0].Message, c.says)
		}
	}
	first := b.launch(hers, size(2, 0.5, 1.5))
	b.awaitRunning(hers, first[0].ID, first[1].ID)
	waiting := b.launch(hers, size(1, 0.5, 2))
	behind := b.launch(hers, size(1, 0.5, 0.5)) // fits, and does not overtake
	if w := b.engine(waiting[0].ID); text(w.K8s.Message) != "waits for other engines of user alice to end: asks for 2 GB of memory, and 3 GB of the quota of 4 GB are in use" {
		t.Errorf("%q", text(w.K8s.Message))
	}
	if w := b.engine(behind[0].ID); w.Status != "scheduling" {
		t.Errorf("%s", w.Status)
	}
	free := b.launch(his, size(4, 0.1, 2))
	b.awaitRunning(his, free[3].ID)
	b.stop(hers, first[0].ID)
	b.awaitRunning(hers, waiting[0].ID, behind[0].ID)
	// A session's own CPU is not counted, but it is a weight.
	if _, err := b.CreateSessionFor(t.Context(), alice, api.CreateSession{Project: b.project, Code: "hang", CPU: 1000}); err == nil ||
		!strings.Contains(err.Error(), "the session asks for 1000 cores, the session may have 2 in all") {
		t.Errorf("%v", err)
	}
	// A session does not wait: it is told.
	for memory, want := range map[float64]string{
		5: "the session asks for 5 GB of memory, user alice may have 4 GB in all",
		2: "the session has to wait for other engines of user alice to end: asks for 2 GB of memory",
	} {
		_, err := b.CreateSessionFor(t.Context(), alice, api.CreateSession{Project: b.project, Code: "hang", Memory: memory})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%g GB: %v, want %s", memory, err, want)
		}
	}
}

// What users leave is told apart, so that one's settings remove no console of another's.
func TestConsolesOfUsersAreApart(t *testing.T) {
	b := newBench(t, shared(map[string]int{}), func(c *manager.Config, _ *fake.Options) { c.Ephemeral = false })
	hers, his := b.sessionFor(alice, api.CreateSession{Code: "hang"}), b.sessionFor(bob, api.CreateSession{Code: "hang"})
	marks := map[string]bool{}
	for _, id := range []engine.ID{hers, his, b.session()} {
		found, err := filepath.Glob(filepath.Join(b.state, "sessions", string(id), "project"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		mark, err := os.ReadFile(found[0])
		if err != nil {
			t.Fatal(err)
		}
		marks[string(mark)] = true
	}
	if len(marks) != 3 {
		t.Errorf("%v", marks)
	}
	for _, id := range []engine.ID{hers, his} {
		if s, err := b.Session(id); err != nil || s.Folder != "" {
			t.Errorf("%+v %v", s, err)
		}
	}
	if err := b.EndAll(t.Context(), "test"); err != nil {
		t.Error(err)
	}
	os.RemoveAll(filepath.Join(b.state, "sessions"))
}

// crowd lets nobody prepare a session before everybody has asked for one.
type crowd struct {
	scripts
	come func()
}

func (c crowd) Prepare(ctx context.Context, r kernel.Request) (kernel.Command, error) {
	c.come()
	return c.scripts.Prepare(ctx, r)
}

// A user has no more sessions than one may, also of those that are asked for at once.
func TestSessionsOfAUserAtOnce(t *testing.T) {
	const asked, most = 230, 200
	var all sync.WaitGroup
	all.Add(asked)
	b := newBench(t, shared(map[string]int{}), func(c *manager.Config, _ *fake.Options) {
		c.Kernels = crowd{come: func() { all.Done(); all.Wait() }}
		behalf := c.Behalf
		var one sync.Mutex // of the map of that
		c.Behalf = func(ctx context.Context, u engine.User) (*engine.Behalf, error) {
			on, err := behalf(ctx, u)
			look := on.Look
			on.Look = func(files func()) error { one.Lock(); defer one.Unlock(); return look(files) }
			return on, err
		}
	})
	var refused atomic.Int32
	var asking sync.WaitGroup
	for range asked {
		asking.Go(func() {
			_, err := b.CreateSessionFor(t.Context(), alice, api.CreateSession{Project: b.project, Code: "hang"})
			if engine.KindOf(err) == engine.NoCapacity && strings.Contains(err.Error(), "200 sessions") {
				refused.Add(1)
				all.Done()
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	if list := b.SessionsOf(alice); len(list) != most || int(refused.Load()) != asked-most {
		t.Errorf("%d sessions, %d refused", len(list), refused.Load())
	}
	if _, err := b.CreateSessionFor(t.Context(), bob, api.CreateSession{Kind: "x"}); engine.KindOf(err) == engine.NoCapacity {
		t.Error(err)
	}
}

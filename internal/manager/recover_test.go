package manager_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
	"muster/internal/project"
	"muster/internal/store"
)

// lives is a manager whose sessions outlive it: kill and restart are a server's.
type lives struct {
	*bench
	t      *testing.T
	config manager.Config
	fake   fake.Options
	wrap   func(driver.Driver) driver.Driver // nil: the driver is as it is
}

func newLives(t *testing.T, opts ...option) *lives {
	t.Helper()
	l := &lives{t: t, fake: fake.Options{World: fake.NewWorld()}, config: manager.Config{
		Kernels: scripts{}, Capacity: manager.Capacity{MemoryBytes: 3e9, CPU: 4}, StateDir: filepath.Join(t.TempDir(), "state"),
		OwnerToken: "owner", User: "ada", Home: "/home/ada", Boot: "first boot",
	}}
	for _, o := range opts {
		o(&l.config, &l.fake)
	}
	l.bench = &bench{t: t, project: t.TempDir()}
	l.start()
	t.Cleanup(func() {
		l.EndAll(context.Background(), "the test")
		l.kill()
		for what, n := range l.fake.World.Count() {
			if n != 0 {
				t.Errorf("left: %d %s", n, what)
			}
		}
	})
	return l
}

// start makes a manager over what is there, and takes that up.
func (l *lives) start() manager.Recovered {
	l.t.Helper()
	records, err := store.Open(makeDir(l.t, l.config.StateDir))
	if err != nil {
		l.t.Fatal(err)
	}
	l.driver = fake.New(l.fake)
	c := l.config
	c.Driver, c.Records = l.driver, records
	if l.wrap != nil {
		c.Driver = l.wrap(l.driver)
	}
	if l.Manager, err = manager.New(c); err != nil {
		l.t.Fatal(err)
	}
	l.config.Records = records
	found, err := l.Recover(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return found
}

// kill makes the manager deaf and dumb at once, as a kill does: it is told nothing more and can record nothing more.
func (l *lives) kill() {
	l.t.Helper()
	l.driver.Close()
	if err := l.config.Records.Close(); err != nil {
		l.t.Error(err)
	}
	if err := l.Close(context.Background()); err != nil {
		l.t.Error(err)
	}
}

func (l *lives) restart() manager.Recovered {
	l.t.Helper()
	l.kill()
	return l.start()
}

func TestSessionsAreAdopted(t *testing.T) {
	l := newLives(t)
	id := l.sessionOf(api.CreateSession{Code: "hang", BaseEnv: map[string]string{"SECRET": "canary-of-base"}})
	session, err := l.Session(id)
	if err != nil {
		t.Fatal(err)
	}
	over := l.launch(id, worker(1, "print before\nexit 3"))[0]
	l.awaitEnd(id, over.ID)
	req := worker(3, "print here\nhang")
	req.Env = map[string]string{"TOKEN": "canary-of-env"}
	ws := l.launch(id, req)
	waits := l.launch(id, api.LaunchWorkers{N: 2, CPU: 1, Memory: 2, Name: "large", Code: "print $TOKEN $SECRET\nexit 0", Env: req.Env})
	l.awaitRunning(id, ws[0].ID, ws[1].ID, ws[2].ID)
	l.stop(id, waits[1].ID)
	keyed := worker(1, "exit 0")
	keyed.Key = "the same launch"
	first := l.launch(id, keyed)[0]
	l.kill()
	canaries(t, l.config.StateDir, "canary-of-base", "canary-of-env")
	// While nobody looks one ends.
	place, _ := l.driver.Place(id)
	if err := place.Stop(t.Context(), engine.ID(ws[0].ID), 0, engine.ReasonStopped, "somebody"); err != nil {
		t.Fatal(err)
	}
	found := l.start()
	if found.Adopted != 1 || len(found.Lost)+len(found.Orphans) != 0 {
		t.Fatalf("%+v", found)
	}
	again, err := l.Session(id)
	if err != nil || again.Name != session.Name || again.Workers != 7 || again.Ended || again.Engine.Status != "running" ||
		!again.CreatedAt.Equal(session.CreatedAt) || again.Engine.IPAddress != session.Engine.IPAddress {
		t.Errorf("%+v, %v; it was %+v", again, err, session)
	}
	if w := l.awaitEnd(id, ws[0].ID).Failures[0]; w.Reason != string(engine.ReasonStopped) || w.Evidence == nil || w.Evidence.By != "somebody" {
		t.Errorf("ended meanwhile: %+v", w)
	}
	if w := l.engine(over.ID); w.ExitCode == nil || *w.ExitCode != 3 || w.IPAddress != over.IPAddress {
		t.Errorf("ended before: %+v", w)
	}
	if w := l.engine(waits[1].ID); w.Status != "stopped" {
		t.Errorf("stopped before it began: %+v", w)
	}
	if w := l.engine(waits[0].ID); w.Status != "scheduling" || !strings.Contains(text(w.K8s.Message), "waits") {
		t.Errorf("waits: %+v", w)
	}
	l.stop(id, ws[1].ID, ws[2].ID) // now there is room
	if a := l.awaitEnd(id, waits[0].ID); len(a.Workers) != 1 {
		t.Fatalf("%+v", a)
	}
	if got := l.output(id, waits[0].ID, console.Stdout); got != "canary-of-env canary-of-base\n" {
		t.Errorf("what waited printed %q", got)
	}
	if again := l.launch(id, keyed); len(again) != 1 || again[0].ID != first.ID {
		t.Errorf("asked again: %+v", again)
	}
	next := l.launch(id, worker(1, "exit 0"))[0]
	if slices.ContainsFunc(append(ws, over), func(w api.Worker) bool { return w.IPAddress == next.IPAddress }) {
		t.Logf("address %s is given again", next.IPAddress)
	}
	l.awaitEnd(id, next.ID)
	if n := len(l.messages(id, "notice")); n == 0 {
		t.Error("the console does not say that the server was restarted")
	}
}

// A session that ends while no server is there has its ends all the same, from its console.
func TestSessionsThatEndedMeanwhile(t *testing.T) {
	l := newLives(t)
	id := l.session()
	ws := l.launch(id, worker(2, "hang"))
	waits := l.launch(id, worker(2, "hang"))
	l.awaitRunning(id, ws[0].ID, ws[1].ID)
	l.kill()
	place, _ := l.driver.Place(id)
	if err := place.End(t.Context(), 0, "somebody"); err != nil {
		t.Fatal(err)
	}
	if found := l.start(); found.Adopted != 0 || len(found.Lost) != 0 {
		t.Fatalf("%+v", found)
	}
	s, err := l.Session(id)
	if err != nil || !s.Ended || s.Engine.Reason != string(engine.ReasonStopped) {
		t.Errorf("%+v, %v", s, err)
	}
	for _, w := range append(ws, waits...) {
		if got := l.engine(w.ID); got.Status != "stopped" || got.Reason != string(engine.ReasonSessionEnded) || got.FinishedAt == nil {
			t.Errorf("%+v", got)
		}
	}
	if got := l.engine(ws[0].ID); got.RunningAt == nil || got.Evidence == nil || got.Evidence.By != "somebody" {
		t.Errorf("%+v", got)
	}
	// And once more: now it is recorded.
	l.restart()
	if got := l.engine(ws[0].ID); got.Status != "stopped" || got.RunningAt == nil {
		t.Errorf("%+v", got)
	}
	if _, _, err := l.Launch(t.Context(), id, worker(1, "hang")); engine.KindOf(err) != engine.Conflict {
		t.Error(err)
	}
	if err := l.EndSession(t.Context(), id, "owner"); err != nil {
		t.Error(err)
	}
}

// endsFirst tells of a place that is recovered how the session's own engine ended before it tells anything else, as a keeper may.
type endsFirst struct{ driver.Driver }

func (d endsFirst) Recover(ctx context.Context, spec driver.SessionSpec, h driver.Handle) (driver.Session, error) {
	observe := spec.Observe
	var mu sync.Mutex
	var later []driver.Observation
	held := true
	spec.Observe = func(o driver.Observation) {
		mu.Lock()
		defer mu.Unlock()
		if held && (o.Kind != driver.Exited || o.Engine != h.Session) {
			later = append(later, o)
			return
		}
		observe(o)
	}
	place, err := d.Driver.Recover(ctx, spec, h)
	mu.Lock()
	defer mu.Unlock()
	held = false
	for _, o := range later {
		observe(o)
	}
	return place, err
}

// A server that comes while a session is ending learns how its workers end: that its own engine has ended already does not mean that
// they never began.
func TestSessionsThatAreEnding(t *testing.T) {
	l := newLives(t)
	l.wrap = func(d driver.Driver) driver.Driver { return endsFirst{d} }
	id := l.sessionOf(api.CreateSession{Code: "hang"})
	deaf := l.launch(id, worker(2, "ignore-term\nhang"))
	waits := l.launch(id, api.LaunchWorkers{N: 2, CPU: 1, Memory: 2, Code: "hang"})
	l.awaitRunning(id, deaf[0].ID, deaf[1].ID)
	l.kill()
	place, _ := l.driver.Place(id)
	ended := make(chan error, 1)
	go func() { ended <- place.End(t.Context(), time.Second, "somebody") }()
	if err := place.Stop(t.Context(), id, 0, engine.ReasonStopped, "somebody"); err != nil {
		t.Fatal(err)
	}
	l.start()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	l.ended(id)
	for _, w := range deaf {
		if got := l.engine(w.ID); got.Reason != string(engine.ReasonSessionEnded) || got.ExitCode == nil || *got.ExitCode != 137 {
			t.Errorf("it was running: %+v", got)
		}
	}
	for _, w := range waits {
		if got := l.engine(w.ID); got.Status != "stopped" || got.RunningAt != nil {
			t.Errorf("it was waiting: %+v", got)
		}
	}
}

// endsMeanwhile lets a place end just when it was recovered.
type endsMeanwhile struct{ driver.Driver }

func (d endsMeanwhile) Recover(ctx context.Context, spec driver.SessionSpec, h driver.Handle) (driver.Session, error) {
	place, err := d.Driver.Recover(ctx, spec, h)
	if err != nil {
		return nil, err
	}
	return gonePlace{place}, place.End(ctx, 0, "somebody")
}

type gonePlace struct{ driver.Session }

func (gonePlace) Keep(context.Context, []byte) ([]byte, error) {
	return nil, engine.Errorf(engine.Unavailable, "the session has ended")
}

// A session that ends while it is taken up keeps the server from nothing, and it is known how it ended.
func TestSessionsThatEndAtThatMoment(t *testing.T) {
	l := newLives(t)
	l.wrap = func(d driver.Driver) driver.Driver { return endsMeanwhile{d} }
	id := l.session()
	ws := l.launch(id, worker(2, "hang"))
	l.awaitRunning(id, ids(ws)...)
	if found := l.restart(); found.Adopted != 0 || len(found.Lost) != 0 {
		t.Errorf("%+v", found)
	}
	l.wrap = nil
	for range 2 { // the second time from the records
		for _, w := range ws {
			if got := l.engine(w.ID); got.Reason != string(engine.ReasonSessionEnded) || got.RunningAt == nil || got.Evidence == nil || got.Evidence.By != "somebody" {
				t.Errorf("%+v", got)
			}
		}
		l.restart()
	}
}

// A server that lets go while it starts workers leaves those to the next one which it has not started: they have not failed.
func TestLettingGoWhileStarting(t *testing.T) {
	var slow atomic.Bool
	slow.Store(true)
	began := make(chan struct{}, 100)
	l := newLives(t, func(_ *manager.Config, f *fake.Options) {
		f.Delay = func(step string, spec driver.Spec) time.Duration {
			if step != fake.StepAccept || !slow.Load() || spec.Role == engine.RoleSession {
				return 0
			}
			began <- struct{}{}
			return time.Hour
		}
	})
	id := l.session()
	ws := l.launch(id, worker(2, "print once\nexit 4"))
	<-began
	if err := l.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	slow.Store(false)
	l.restart()
	for _, w := range l.awaitEnd(id, ids(ws)...).Failures {
		if w.ExitCode == nil || *w.ExitCode != 4 || l.output(id, w.ID, console.Stdout) != "once\n" {
			t.Errorf("%+v", w)
		}
	}
}

func TestLostSessions(t *testing.T) {
	for boot, want := range map[string]engine.Reason{"first boot": engine.ReasonKeeperLost, "second boot": engine.ReasonNodeLost} {
		l := newLives(t)
		id := l.session()
		w := l.launch(id, worker(1, "print here\nhang"))[0]
		over := l.launch(id, worker(1, "exit 4"))[0]
		l.awaitEnd(id, over.ID)
		l.awaitRunning(id, w.ID)
		l.kill()
		l.fake.World.Vanish(id)
		l.config.Boot = boot
		found := l.start()
		if len(found.Lost) != 1 || !strings.Contains(found.Lost[0], string(id)) || !strings.Contains(found.Lost[0], "was lost") {
			t.Fatalf("%+v", found)
		}
		if got := l.engine(w.ID); got.Reason != string(want) || got.Status != "failed" {
			t.Errorf("%+v, want %s", got, want)
		}
		if got := l.engine(over.ID); got.ExitCode == nil || *got.ExitCode != 4 {
			t.Errorf("%+v", got)
		}
		if got := l.output(id, w.ID, console.Stdout); got != "here\n" {
			t.Errorf("output %q", got)
		}
		if s, err := l.Session(id); err != nil || !s.Ended || s.Live != 0 {
			t.Errorf("%+v, %v", s, err)
		}
	}
}

// Attempts go on after a restart, until they are used up; a chain that was stopped stays so; what ended can be started again.
func TestRetriesSurvive(t *testing.T) {
	l := newLives(t)
	id := l.session()
	req := worker(1, "exit 7")
	req.Retries, req.Group, req.Env = 3, "chain", map[string]string{"A": "from the launch"}
	chain := l.launch(id, req)[0]
	req.Retries = 1000
	stopped := l.launch(id, req)[0]
	long := worker(1, "hang")
	long.TimeLimit = 3600
	l.launch(id, long)
	over := l.launch(id, api.LaunchWorkers{N: 1, CPU: 1, Memory: 1, Env: req.Env, Code: "print $A\nexit 0"})[0]
	l.awaitEnd(id, over.ID)
	for l.engine(chain.ID).Status != "failed" || l.engine(stopped.ID).Status != "failed" {
		time.Sleep(time.Millisecond) // the fake's program is that short
	}
	l.stop(id, stopped.ID)
	l.restart()
	if w := l.awaitEnd(id, chain.ID).Failures[0]; w.Attempt != 4 || w.RetryOf != chain.ID || w.Group != "chain" || w.ExitCode == nil || *w.ExitCode != 7 {
		t.Errorf("%+v", w)
	}
	if w := l.awaitEnd(id, stopped.ID).Failures[0]; w.Attempt == 1001 {
		t.Errorf("%+v", w)
	}
	attempts := 0
	for _, w := range l.Workers(t, id) {
		if w.RetryOf == stopped.ID {
			attempts++
		}
	}
	reply, release, err := l.Restart(t.Context(), id, api.Restart{IDs: []string{over.ID}}, "session")
	if err != nil || reply.Workers[0].ID == "" {
		t.Fatalf("%+v, %v", reply, err)
	}
	release()
	again := reply.Workers[0].ID
	l.awaitEnd(id, again)
	if got := l.output(id, again, console.Stdout); got != "from the launch\n" {
		t.Errorf("started again it printed %q", got)
	}
	l.restart()
	if w := l.engine(again); w.RestartOf != over.ID || w.Status != "succeeded" {
		t.Errorf("%+v", w)
	}
	now := 0
	for _, w := range l.Workers(t, id) {
		if w.RetryOf == stopped.ID {
			now++
		}
	}
	if now != attempts {
		t.Errorf("%d attempts of what was stopped, then %d", attempts, now)
	}
}

// Workers lists a session's workers.
func (l *lives) Workers(t *testing.T, id engine.ID) []api.Worker {
	t.Helper()
	list, err := l.Manager.Workers(id, "")
	if err != nil {
		t.Fatal(err)
	}
	return list.Workers
}

func TestOrphansAreEnded(t *testing.T) {
	l := newLives(t)
	dir := makeDir(t, l.config.StateDir)
	own, other := engine.NewID(), engine.NewID()
	for id, ephemeral := range map[engine.ID]bool{own: false, other: true} {
		s, err := l.driver.Open(t.Context(), driver.SessionSpec{
			ID: id, ConsoleDir: filepath.Join(dir, "sessions", string(id), "console"), Ephemeral: ephemeral, Observe: func(driver.Observation) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		if ephemeral {
			defer s.End(context.Background(), 0, "the test")
		}
	}
	found := l.restart()
	if len(found.Orphans) != 1 || !strings.Contains(found.Orphans[0], string(own)) {
		t.Errorf("%+v", found)
	}
	if _, there := l.driver.Place(other); !there {
		t.Error("another server's session was ended")
	}
	if _, there := l.driver.Place(own); there {
		t.Error("the orphan lives")
	}
}

// Salvaged records may lack what a worker that waits was to run: it ends so, and nothing else does.
func TestWorkersWithoutTheirWork(t *testing.T) {
	l := newLives(t)
	id := l.session()
	runs := l.launch(id, worker(1, "hang"))[0]
	waits := l.launch(id, api.LaunchWorkers{N: 1, CPU: 1, Memory: 3, Code: "hang", Retries: 2})[0]
	l.awaitRunning(id, runs.ID)
	l.kill()
	db, err := sql.Open("sqlite", filepath.Join(l.config.StateDir, store.FileName))
	if err == nil {
		_, err = db.Exec("UPDATE batches SET secret = NULL")
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if found := l.start(); found.Adopted != 1 {
		t.Fatalf("%+v", found)
	}
	if w := l.awaitEnd(id, waits.ID).Failures[0]; w.Reason != string(engine.ReasonLaunchFailed) || w.Attempt != 1 {
		t.Errorf("%+v", w)
	}
	if w := l.engine(runs.ID); w.Status != "running" {
		t.Errorf("%+v", w)
	}
}

// What cannot be recorded does not begin.
func TestLaunchWithoutRecord(t *testing.T) {
	l := newLives(t)
	id := l.session()
	before := l.fake.World.Count()
	l.config.Records.Close()
	reply, _, err := l.Launch(t.Context(), id, worker(2, "hang"))
	if err != nil || len(reply.Workers) != 2 || reply.Workers[0].ID != "" || !strings.Contains(reply.Workers[1].Message, "cannot be recorded") {
		t.Errorf("%+v, %v", reply, err)
	}
	if _, err := l.CreateSession(t.Context(), api.CreateSession{Project: l.project, Code: "hang"}); err == nil {
		t.Error("created")
	}
	if after := l.fake.World.Count(); after["engines"] != before["engines"] || after["addresses"] != before["addresses"] || after["places"] != before["places"] {
		t.Errorf("%v, before %v", after, before)
	}
	l.restart()
	if all := l.Sessions(); len(all) != 1 || all[0].Workers != 0 {
		t.Errorf("%+v", all)
	}
}

func makeDir(t testing.TB, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// canaries fails if a secret is in any file below a folder.
func canaries(t *testing.T, dir string, secrets ...string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		for _, s := range secrets {
			if bytes.Contains(content, []byte(s)) {
				t.Errorf("%s holds a secret", path)
			}
		}
		return err
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files, %v", files, err)
	}
}

// What the server keeps is bounded over all projects and restarts, and never costs a session that lives its output.
func TestOldConsolesOfAllProjects(t *testing.T) {
	now := time.Now()
	l := newLives(t, func(c *manager.Config, _ *fake.Options) {
		c.Logs = project.Logs{Days: 2}
		c.Now = func() time.Time { return now }
	})
	old, lives := l.session(), l.sessionOf(api.CreateSession{Code: "hang", Project: t.TempDir()})
	if err := l.EndSession(t.Context(), old, "owner"); err != nil {
		t.Fatal(err)
	}
	there := func(id engine.ID) bool {
		_, err := os.Stat(filepath.Join(l.config.StateDir, "sessions", string(id), "console"))
		return err == nil
	}
	if l.restart(); !there(old) {
		t.Error("a console of today is gone")
	}
	now = now.Add(72 * time.Hour)
	l.restart()
	if _, err := l.Session(old); there(old) || engine.KindOf(err) != engine.NotFound {
		t.Errorf("a console of three days ago is there: %v", err)
	}
	if s, err := l.Session(lives); err != nil || s.Ended || !there(lives) {
		t.Errorf("the session that lives: %+v, %v", s, err)
	}
	now = now.Add(72 * time.Hour)
	next := l.session()
	if err := l.EndSession(t.Context(), next, "owner"); err != nil {
		t.Fatal(err)
	}
	if !there(lives) || !there(next) {
		t.Error("the console of a session that lives, or has just ended, is gone")
	}
}

// What a session left that was never marked, as its server was killed while it was created, is nobody's project's; the server's own
// limits see it.
func TestOldConsolesWithoutAMark(t *testing.T) {
	now := time.Now()
	l := newLives(t, func(c *manager.Config, _ *fake.Options) {
		c.Logs = project.Logs{Size: 0.00001}
		c.Now = func() time.Time { return now }
	})
	sessions := filepath.Join(l.config.StateDir, "sessions")
	left := func(names ...string) engine.ID {
		id := engine.NewID()
		for _, name := range names {
			dir := makeDir(t, filepath.Join(sessions, string(id), name))
			if err := os.WriteFile(filepath.Join(dir, "log"), make([]byte, 100_000), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return id
	}
	old, keepers := left("console"), left("console", "engines")
	place := engine.NewID()
	p, err := l.driver.Open(t.Context(), driver.SessionSpec{
		ID: place, ConsoleDir: filepath.Join(sessions, string(place), "console"), Ephemeral: true, Observe: func(driver.Observation) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.End(context.Background(), 0, "the test")
	there := func(id engine.ID) bool {
		_, err := os.Stat(filepath.Join(sessions, string(id)))
		return err == nil
	}
	if l.restart(); !there(old) {
		t.Error("a folder that may just be being made is gone")
	}
	now = now.Add(2 * time.Minute)
	if l.restart(); there(old) || !there(keepers) || !there(place) {
		t.Errorf("what is old is there: %v; what a keeper may have: %v; what lives: %v", there(old), there(keepers), there(place))
	}
}

// Whose web addresses are others than those that people have kept is said.
func TestWebAddressesThatMoved(t *testing.T) {
	l := newLives(t)
	l.config.Web = "localhost:39309"
	l.restart()
	l.session()
	if found := l.restart(); found.Adopted != 1 || len(found.Moved) != 0 {
		t.Errorf("nothing moved: %+v", found)
	}
	for _, now := range []string{"localhost:20202", ""} {
		l.config.Web = now
		if found := l.restart(); len(found.Moved) != 1 || !strings.Contains(found.Moved[0], "http://localhost:39309") || !strings.Contains(found.Moved[0], now) {
			t.Errorf("%q: %+v", now, found)
		}
	}
}

// blind finds no place, as when no descriptor is free to ask with.
type blind struct{ driver.Driver }

func (blind) List(context.Context) ([]driver.Handle, error) { return nil, nil }

// What a session prints is not removed while it lives, whatever the driver finds at the moment.
func TestConsolesOfLivingSessionsStay(t *testing.T) {
	now := time.Now()
	l := newLives(t, func(c *manager.Config, _ *fake.Options) {
		c.Logs = project.Logs{Days: 1}
		c.Now = func() time.Time { return now }
	})
	l.wrap = func(d driver.Driver) driver.Driver { return blind{d} }
	lives := l.session()
	now = now.Add(72 * time.Hour)
	l.restart()
	over := l.session()
	if err := l.EndSession(t.Context(), over, "owner"); err != nil {
		t.Fatal(err)
	}
	l.restart()
	if _, err := os.Stat(filepath.Join(l.config.StateDir, "sessions", string(lives), "console")); err != nil {
		t.Error(err)
	}
	if s, err := l.Session(lives); err != nil || s.Ended {
		t.Errorf("%+v, %v", s, err)
	}
}

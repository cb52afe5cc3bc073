package manager_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
	"muster/internal/driver/fake"
	"muster/internal/manager"
)

func TestSessionLife(t *testing.T) {
	b := newBench(t)
	s, err := b.CreateSession(t.Context(), api.CreateSession{Code: "print hello\nexit 7", Project: b.project, Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	id := engine.ID(s.ID)
	if s.Token == "" || s.Name != "mine" || s.Project != b.project || s.Engine.ID != s.ID || s.Engine.MasterID != s.ID {
		t.Errorf("created: %+v", s)
	}
	b.ended(id)
	got, err := b.Session(id)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Ended || got.Token != "" || got.Engine.Status != "failed" || got.Engine.ExitCode == nil || *got.Engine.ExitCode != 7 || got.Engine.Reason != "exit code" {
		t.Errorf("ended: %+v", got)
	}
	if out := b.output(id, "", console.Stdout); out != "hello\n" {
		t.Errorf("console %q", out)
	}
	if _, _, err := b.Launch(t.Context(), id, worker(1, "hang")); engine.KindOf(err) != engine.Conflict || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("launch in an ended session: %v", err)
	}
	if err := b.EndSession(t.Context(), id, "owner"); err != nil {
		t.Errorf("end of an ended session: %v", err)
	}
}

func TestTokens(t *testing.T) {
	b := newBench(t)
	one, _ := b.CreateSession(t.Context(), api.CreateSession{Code: "hang", Project: b.project})
	two, _ := b.CreateSession(t.Context(), api.CreateSession{Code: "hang", Project: b.project})
	if len(one.Token) < 40 || one.Token == two.Token || strings.ContainsFunc(one.Token, func(r rune) bool {
		return !strings.ContainsRune("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", r)
	}) {
		t.Errorf("tokens %q and %q", one.Token, two.Token)
	}
	for token, want := range map[string]engine.Identity{
		"owner": {Owner: true}, one.Token: {Session: engine.ID(one.ID)}, two.Token: {Session: engine.ID(two.ID)},
	} {
		if got, ok := b.Authenticate(token); !ok || got != want {
			t.Errorf("token of %+v belongs to %+v, %v", want, got, ok)
		}
	}
	for _, token := range []string{"", "Owner", one.Token[1:], one.Token + "x"} {
		if got, ok := b.Authenticate(token); ok {
			t.Errorf("token %q belongs to %+v", token, got)
		}
	}
	if err := b.EndSession(t.Context(), engine.ID(one.ID), "owner"); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(t.Context()); err != nil { // waits for what is done after a session's end
		t.Fatal(err)
	}
	if _, ok := b.Authenticate(one.Token); ok {
		t.Error("the token of an ended session still opens")
	}
}

func TestEndSessionTakesWorkersAlong(t *testing.T) {
	b := newBench(t, capacity(manager.Capacity{MemoryBytes: 3e9, CPU: 4}))
	id := b.session()
	ws := b.launch(id, worker(5, "ignore-term\nhang"))
	b.awaitRunning(id, ws[0].ID, ws[1].ID, ws[2].ID)
	if err := b.EndSession(t.Context(), id, "owner"); err != nil {
		t.Fatal(err)
	}
	b.ended(id)
	all, _ := b.Workers(id, "")
	for _, w := range all.Workers {
		if w.Status != "stopped" || w.Reason != "session ended" {
			t.Errorf("worker: %s, reason %q", w.Status, w.Reason)
		}
	}
	s, _ := b.Session(id)
	if !s.Ended || s.Live != 0 || s.Workers != 5 || s.Engine.Status != "stopped" || s.Engine.Evidence.By != "owner" {
		t.Errorf("session %+v", s)
	}
	// All of the room came back: a worker as large as the machine is admitted at once.
	next := b.session()
	if w := b.launch(next, api.LaunchWorkers{N: 1, CPU: 1, Memory: 3, Code: "exit 0"}); w[0].K8s.Reason != nil {
		t.Errorf("waits for %s", text(w[0].K8s.Message))
	}
	if a := b.awaitEnd(next); len(a.Workers) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestOwnerProcessEnds(t *testing.T) {
	b := newBench(t)
	owner := exec.Command("sleep", "1000")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	id := b.sessionOf(api.CreateSession{Code: "hang", OwnerPID: owner.Process.Pid})
	ws := b.launch(id, worker(1, "hang"))
	b.awaitRunning(id, ws[0].ID)
	owner.Process.Kill()
	owner.Wait()
	b.ended(id)
	if w := b.engine(ws[0].ID); w.Reason != "session ended" {
		t.Errorf("worker %+v", w)
	}
	_, err := b.CreateSession(t.Context(), api.CreateSession{Code: "hang", Project: b.project, OwnerPID: owner.Process.Pid})
	if engine.KindOf(err) != engine.Invalid || !strings.Contains(err.Error(), "there is no such process") {
		t.Errorf("owner that is gone: %v", err)
	}
}

// A failing step of a session's creation takes the former ones back; the bench's cleanup counts.
func TestCreateIsAllOrNothing(t *testing.T) {
	for _, step := range []string{fake.StepOpen, fake.StepListen, fake.StepReserve, fake.StepAccept} {
		t.Run(step, func(t *testing.T) {
			var repaired atomic.Bool
			b := newBench(t, capacity(manager.Capacity{MemoryBytes: 1e9, CPU: 1}), func(_ *manager.Config, f *fake.Options) {
				f.Fail = func(at string, _ driver.Spec) error {
					if !repaired.Load() && at == step {
						return errors.New("injected")
					}
					return nil
				}
			})
			req := api.CreateSession{Code: "hang", Project: b.project, Memory: 1, Stdin: true}
			if _, err := b.CreateSession(t.Context(), req); err == nil || err.Error() != "create session: injected" {
				t.Errorf("error %v", err)
			}
			if n := b.driver.World().Count(); n["places"] != 0 || n["listeners"] != 0 {
				t.Errorf("left: %v", n)
			}
			if all := b.Sessions(); len(all) != 0 {
				t.Errorf("sessions %+v", all)
			}
			repaired.Store(true)
			b.sessionOf(req) // its room is free again
		})
	}
}

func TestAPIInTheHub(t *testing.T) {
	served := make(chan netip.AddrPort, 1)
	b := newBench(t, func(c *manager.Config, _ *fake.Options) {
		c.APIPort = 9000
		c.Serve = func(_ engine.ID, l net.Listener) {
			served <- l.Addr().(*net.TCPAddr).AddrPort()
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, "the API\n")
				c.Close()
			}
		}
	})
	id := b.session()
	at := <-served
	c, err := b.driver.Dial(t.Context(), id, at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if line, _ := bufio.NewReader(c).ReadString('\n'); line != "the API\n" {
		t.Errorf("read %q", line)
	}
	ws := b.launch(id, worker(1, "env MUSTER_URL\nenv CDSW_API_URL\nenv SEEN_INTERPRETER"))
	b.awaitEnd(id)
	want := "http://" + at.String() + "\nhttp://" + at.String() + "/api/v1\n/usr/bin/fake\n"
	if got := b.output(id, ws[0].ID, console.Stdout); got != want || at.Port() != 9000 {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestStdinAndInterrupt(t *testing.T) {
	b := newBench(t)
	id := b.sessionOf(api.CreateSession{Code: "trap 2 interrupted\ncat\nprint over\nhang", Stdin: true})
	if at, err := b.WriteStdin(t.Context(), id, 0, []byte("typed\n"), true); err != nil || at != (api.Stdin{Written: 6, Closed: true}) {
		t.Errorf("%+v, %v", at, err)
	}
	if at, err := b.WriteStdin(t.Context(), id, 6, []byte("more"), false); err != nil || at != (api.Stdin{Written: 6, Closed: true}) {
		t.Errorf("after the end: %+v, %v", at, err)
	}
	if _, err := b.WriteStdin(t.Context(), id, 7, []byte("more"), false); engine.KindOf(err) != engine.Conflict {
		t.Errorf("with a byte missing: %v", err)
	}
	_, bell, _, _ := b.Console(id)
	for {
		rung := bell.Chan()
		if strings.Contains(b.output(id, "", console.Stdout), "typed\nover\n") {
			break
		}
		<-rung
	}
	if err := b.Interrupt(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.ended(id)
	if w := b.engine(string(id)); w.Status != "succeeded" || !strings.HasSuffix(b.output(id, "", console.Stdout), "interrupted\n") {
		t.Errorf("interrupted: %+v", w)
	}
	plain := b.session()
	if _, err := b.WriteStdin(t.Context(), id, -1, nil, false); engine.KindOf(err) != engine.Conflict || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("of a script that has ended: %v", err)
	}
	if _, err := b.WriteStdin(t.Context(), plain, -1, nil, false); engine.KindOf(err) != engine.Conflict || !strings.Contains(err.Error(), "without stdin") {
		t.Errorf("not asked for: %v", err)
	}
}

func TestEngineByPrefix(t *testing.T) {
	b := newBench(t)
	id := b.session()
	ws := b.launch(id, worker(60, "hang"))
	w, session, err := b.Engine("", ws[3].ID)
	if err != nil || w.ID != ws[3].ID || session != id {
		t.Errorf("%v %v %v", w.ID, session, err)
	}
	if w, _, err := b.Engine("", ws[3].ID[:12]); err != nil || w.ID != ws[3].ID {
		t.Errorf("by prefix: %v %v", w.ID, err)
	}
	if w, _, err := b.Engine("", string(id)); err != nil || w.MasterID != string(id) || w.Workers != 60 {
		t.Errorf("the session's own: %+v %v", w, err)
	}
	first := map[string]int{} // 61 ids begin with 26 letters: one of them is shared
	for _, w := range ws {
		first[w.ID[:1]]++
	}
	for letter, n := range first {
		if n > 1 {
			if _, _, err := b.Engine("", letter); engine.KindOf(err) != engine.Conflict || !strings.Contains(err.Error(), "is the beginning of") {
				t.Errorf("ambiguous: %v", err)
			}
		}
	}
	if _, _, err := b.Engine(b.session(), ws[3].ID); engine.KindOf(err) != engine.NotFound {
		t.Errorf("from another session: %v", err)
	}
	if _, session, err := b.Engine(id, ws[3].ID); err != nil || session != id {
		t.Errorf("from its own session: %v", err)
	}
	for _, no := range []string{"", "zzzzzzzzzzzz", "-"} {
		if _, _, err := b.Engine("", no); engine.KindOf(err) != engine.NotFound {
			t.Errorf("%q: %v", no, err)
		}
	}
}

func TestCloseLeavesSessionsOfAServer(t *testing.T) {
	world := fake.NewWorld()
	d := fake.New(fake.Options{World: world})
	defer d.Close()
	m, err := manager.New(manager.Config{
		Driver: d, Kernels: scripts{}, Capacity: manager.Capacity{MemoryBytes: 1e9, CPU: 1}, StateDir: t.TempDir(), OwnerToken: "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.CreateSession(t.Context(), api.CreateSession{Code: "hang", Project: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := world.Count()["engines"]; n != 1 {
		t.Errorf("%d engines live after the server's end, want 1", n)
	}
	if _, err := m.CreateSession(t.Context(), api.CreateSession{Code: "hang", Project: t.TempDir()}); engine.KindOf(err) != engine.Unavailable {
		t.Errorf("a closed manager created a session: %v", err)
	}
	if err := m.EndSession(t.Context(), engine.ID(s.ID), "test"); err != nil {
		t.Fatal(err)
	}
}

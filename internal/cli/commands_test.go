package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

func p[T any](v T) *T { return &v }

// populated is a world with a session that has two workers, and one that has ended.
func populated(t *testing.T) *world {
	w := newWorld(t)
	w.list = []api.Session{
		{ID: "bbbbbbbbbbbbbbbb", Kind: "script", Ended: true, CreatedAt: time.Unix(2, 0), Engine: api.Worker{
			ID: "bbbbbbbbbbbbbbbb", MasterID: "bbbbbbbbbbbbbbbb", Name: "old.py", Status: "succeeded", CPU: 1, CreatedAt: p("2024-05-04T07:00:00.000Z"), Reason: "succeeded"}},
		{ID: sessionA, Name: "train", Kind: "script", CreatedAt: time.Unix(1, 0), Engine: api.Worker{
			ID: sessionA, MasterID: sessionA, Status: "running", CPU: 1, IPAddress: "100.100.0.2", CreatedAt: p("2024-05-06T07:00:00.000Z")}},
	}
	w.workers = []api.Worker{ // newest first
		{ID: worker2, Name: "Untitled\x1b[31m Worker", Status: "scheduling", CPU: 0.5, Memory: 2, IPAddress: "unknown", MasterID: sessionA,
			CreatedAt: p("2024-05-06T07:09:57.000Z"), K8s: api.K8s{Message: p("waits for 2 GB of memory, 1 GB is free")}},
		{ID: worker1, Name: "crawl", Status: "failed", CPU: 0.25, Memory: 0.5, IPAddress: "100.100.0.3", MasterID: sessionA,
			CreatedAt: p("2024-05-06T07:08:00.000Z"), Reason: "exit code", ExitCode: p(3)},
	}
	return w
}

func TestPs(t *testing.T) {
	w := populated(t)
	w.run("ps")
	live := w.out.String()
	w.out.Reset()
	w.run("ps", "-a")
	golden(t, "ps.txt", live+"\n"+w.out.String())

	w.out.Reset()
	var list []sessionAndWorkers
	if code := w.run("ps", "-a", "--json"); code != 0 || json.Unmarshal([]byte(w.out.String()), &list) != nil || len(list) != 2 || len(list[0].Workers) != 2 {
		t.Errorf("%d %s", code, w.out.String())
	}
	w.list = nil
	w.expect(0, "ID  NAME  KIND  STATUS  CPU  MEMORY  IP  AGE  REASON\n", "", "ps")
	w.expect(0, "[]\n", "", "ps", "--json")
}

// inEngine makes a world look as from within one of its engines.
func (w *world) inEngine() *world {
	w.env = []string{"CDSW_ENGINE_ID=" + worker1, "MUSTER_URL=" + w.address + "/muster/v1", "CDSW_API_KEY=session"}
	return w
}

func TestPsInAnEngine(t *testing.T) {
	w := populated(t).inEngine()
	if code := w.run("ps", "-a"); code != 0 || !strings.Contains(w.out.String(), worker1) || strings.Contains(w.out.String(), "bbbb") {
		t.Errorf("%d %s %s", code, w.out.String(), w.err.String())
	}
}

func TestLogs(t *testing.T) {
	w := populated(t)
	close(w.done)
	w.print(worker1, console.Event, encode(api.Event{Type: "engine", Engine: worker1, Name: "crawl"}))
	w.print(sessionA, console.Stdout, "of the session\n")
	w.print(worker1, console.Stdout, "out\x00\xff")
	w.print(worker1, console.Stderr, "err")
	for _, session := range []string{sessionA, "aaaa"} {
		w.expect(0, "of the session\n[crawl] out\x00\xff\n", "[crawl] err\n", "logs", session)
	}
	w.expect(0, "out\x00\xff", "err", "logs", "w1")
	w.expect(0, "out\x00\xff", "err", "logs", "-f", worker1)
	w.expect(0, "", "err", "logs", "--stream", "stderr", "w1")
	w.expect(0, "of the session\n[crawl] out\x00\xff\n", "", "logs", "--stream", "stdout", "-f", sessionA)
	w.expect(1, "", "muster: there is no session or worker \"zz\"\n  try: muster ps -a\n", "logs", "zz")

	w.out.Reset()
	w.run("logs", "--json", "w1")
	if lines := strings.Split(strings.TrimSpace(w.out.String()), "\n"); len(lines) != 3 || !strings.Contains(lines[2], `"text":"err"`) {
		t.Errorf("%q", lines)
	}
	w.inEngine().expect(0, "of the session\n[crawl] out\x00\xff\n", "[crawl] err\n", "logs")
}

func TestStop(t *testing.T) {
	w := populated(t)
	w.expect(1, worker2+"\n"+worker1+"\nbbbbbbbbbbbbbbbb\n", "muster: there is no session or worker \"zz\"\n  try: muster ps -a\n",
		"stop", "w2", "zz", "bbbb", "w1", worker2)
	w.expect(0, worker2+"\n"+worker1+"\n", "", "stop", "--all", "--session", "aaaa")
	w.expect(0, sessionA+"\n", "", "stop", "--all")
	w.inEngine().expect(0, worker2+"\n"+worker1+"\n", "", "stop", "--all")
	want := []string{"stop [" + worker2 + " " + worker1 + "] all=false in " + sessionA, "end bbbbbbbbbbbbbbbb", "stop [] all=true in " + sessionA,
		"end " + sessionA, "stop [] all=true in " + sessionA}
	if fmt.Sprint(w.calls) != fmt.Sprint(want) {
		t.Errorf("%q\nwant %q", w.calls, want)
	}
}

// With --json every id has an answer, and the exit code is as without.
func TestStopJSON(t *testing.T) {
	w := populated(t)
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"stop --json w2 zz bbbb", `[{"id":"zz","status":404},{"id":"` + worker2 + `","status":204},{"id":"bbbbbbbbbbbbbbbb","status":204}]`, 1},
		{"stop --json --all", `[{"id":"` + sessionA + `","status":204}]`, 0},
		{"stop --json zz", `[{"id":"zz","status":404}]`, 1},
	} {
		w.out.Reset()
		var got []api.StopResult
		code := w.run(strings.Fields(c.args)...)
		if err := json.Unmarshal([]byte(w.out.String()), &got); err != nil || code != c.code || encode(got) != c.want {
			t.Errorf("%s: %d %v %s\nwant %s", c.args, code, err, w.out.String(), c.want)
		}
	}
	w.list = nil
	w.expect(0, "[]\n", "", "stop", "--json", "--all")
}

func TestLaunch(t *testing.T) {
	w := populated(t)
	var got api.LaunchWorkers
	w.launch = func(req api.LaunchWorkers) (api.Workers, error) {
		got = req
		return api.Workers{Workers: []api.Worker{{ID: worker1}, {Message: "no room"}, {Message: "no room"}}}, nil
	}
	w.expect(1, worker1+"\n", "muster: 2 of 3 workers refused: no room\n",
		"launch", "--session", "aaaa", "-n", "3", "--cpu", "0.5", "--memory", "2", "--env", "A=1", "--name", "x", "work.py")
	if want := `{"n":3,"name":"x","script":"work.py","cpu":0.5,"memory":2,"env":{"A":"1"},"or_else":true}`; encode(got) != want {
		t.Errorf("%s\nwant %s", encode(got), want)
	}
	w.launch = func(req api.LaunchWorkers) (api.Workers, error) {
		got = req
		return api.Workers{Workers: []api.Worker{{ID: worker1}}}, nil
	}
	w.inEngine()
	w.out.Reset()
	if code := w.run("launch", "--json", "-c", "print(1)"); code != 0 {
		t.Error(code)
	}
	var reply api.Workers
	if err := json.Unmarshal([]byte(w.out.String()), &reply); err != nil || len(reply.Workers) != 1 || reply.Workers[0].ID != worker1 {
		t.Errorf("%v %q", err, w.out.String())
	}
	w.expect(0, worker1+"\n", "", "launch", "-c", "print(1)")
	if want := `{"n":1,"code":"print(1)","cpu":0,"memory":0,"env":{},"or_else":true}`; encode(got) != want && encode(got) != strings.Replace(want, `,"env":{}`, "", 1) {
		t.Errorf("%s\nwant %s", encode(got), want)
	}
	w.expect(2, "", "muster: --cpu is 0: it must be more than 0\n  try: muster launch --help\n", "launch", "--cpu", "0", "-c", "1")
	w = populated(t)
	w.expect(1, "", "muster: w1 is a worker, not a session\n", "launch", "--session", "w1", "x.py")
}

func TestAwait(t *testing.T) {
	w := populated(t)
	var got api.Await
	w.await = func(_ context.Context, req api.Await, _ func(api.AwaitProgress)) (api.Awaited, error) {
		got = req
		return api.Awaited{Workers: w.workers[:1], Failures: w.workers[1:]}, nil
	}
	w.expect(1, "1 of 2 workers succeeded\n", "ID                NAME   STATUS  REASON\n"+worker1+"  crawl  failed  exit code 3\n",
		"await", "w1", "w2", "--timeout", "90s")
	if encode(got) != `{"ids":["`+worker1+`","`+worker2+`"],"wait_for_completion":true,"timeout_seconds":90}` {
		t.Error(encode(got))
	}
	w.await = func(_ context.Context, req api.Await, _ func(api.AwaitProgress)) (api.Awaited, error) {
		got = req
		return api.Awaited{Workers: w.workers}, nil
	}
	w.expect(0, "2 of 2 workers running\n", "", "await", "--running", "--timeout", "0", "--session", "aaaa")
	if encode(got) != `{"all":true,"wait_for_completion":false}` {
		t.Error(encode(got))
	}
	w.expect(1, "", "muster: aaaa is a session, and only workers are awaited\n  try: muster await --session aaaa\n", "await", "aaaa")
	w.inEngine().expect(0, "2 of 2 workers succeeded\n", "", "await")
}

// On a terminal a line tells how far it is, and goes again; elsewhere there is none.
func TestAwaitProgress(t *testing.T) {
	for _, tty := range []bool{true, false} {
		w := populated(t)
		w.tty = tty
		w.await = func(_ context.Context, _ api.Await, progress func(api.AwaitProgress)) (api.Awaited, error) {
			progress(api.AwaitProgress{Done: 1, Of: 2, Waiting: "no room"})
			if tty {
				w.err.await(t, "1 of 2")
			}
			return api.Awaited{}, nil
		}
		want := ""
		if tty {
			want = "\rawaiting workers: 1 of 2, waiting: no room\x1b[K\r\x1b[K"
		}
		if w.run("await", "--session", sessionA); w.err.String() != want && !(tty && strings.HasSuffix(w.err.String(), want)) {
			t.Errorf("terminal %v: %q, want %q", tty, w.err.String(), want)
		}
	}
}

func TestSignalEndsACommand(t *testing.T) {
	w := populated(t)
	waiting := make(chan struct{})
	w.await = func(ctx context.Context, _ api.Await, _ func(api.AwaitProgress)) (api.Awaited, error) {
		close(waiting)
		<-ctx.Done()
		return api.Awaited{}, ctx.Err()
	}
	go func() { <-waiting; w.signals <- syscall.SIGTERM }()
	w.expect(143, "", "", "await", "--session", sessionA)
}

func TestVersion(t *testing.T) {
	w := newWorld(t)
	if code := w.run("version"); code != 0 || !strings.HasPrefix(w.out.String(), "muster 1.2.3 (API 1)\nserver 1.2.3 (API 1, driver fake, since ") {
		t.Errorf("%d %q", code, w.out.String())
	}
	dir := w.t.TempDir()
	w.env = []string{"MUSTER_RUNTIME_DIR=" + dir}
	w.expect(0, "muster 1.2.3 (API 1)\nserver: none (no server answers at unix://"+dir+"/server.sock)\n", "", "version")
	w.expect(3, "", "muster: no server answers at unix:///nowhere\n  try: start one with: muster up\n", "version", "--server", "/nowhere")
}

func TestDoctor(t *testing.T) {
	w := newWorld(t)
	report := Report{Rows: []Row{{What: "root", OK: true, Detail: "uid 0"}, {What: "R", Detail: "not found", Fix: "apt install r-base-core"}}}
	w.deps.Doctor = func(context.Context) Report { return report }
	w.run("doctor")
	golden(t, "doctor.txt", w.out.String())
	w.out.Reset()
	if code := w.run("doctor", "--json"); code != 1 || !strings.Contains(w.out.String(), `"fix": "apt install r-base-core"`) {
		t.Errorf("%d %s", code, w.out.String())
	}
	report.Rows = report.Rows[:1]
	if code := w.run("doctor"); code != 0 {
		t.Error(code)
	}
}

func TestCompletion(t *testing.T) {
	w := populated(t)
	for _, c := range []struct{ args, offers string }{
		{"stop ", "aaaaaaaaaaaaaaaa\tscript train, running, 10m\nw2aaaaaaaaaaaaaa\tworker Untitled [31m Worker, scheduling, 3s\n:4\n"},
		{"logs ", "aaaaaaaaaaaaaaaa\tscript train, running, 10m\nw1aaaaaaaaaaaaaa\tworker crawl, failed, 2m\n" +
			"w2aaaaaaaaaaaaaa\tworker Untitled [31m Worker, scheduling, 3s\nbbbbbbbbbbbbbbbb\tscript old.py, succeeded, 2d\n:4\n"},
		{"open ", "aaaaaaaaaaaaaaaa\tscript train, running, 10m\nw2aaaaaaaaaaaaaa\tworker Untitled [31m Worker, scheduling, 3s\n:4\n"},
		{"open x ", ":4\n"},
		{"run --kernel ", "python3\nr\nscala\npython2\n:4\n"},
		{"launch --kernel ", "python3\nr\nscala\npython2\n:4\n"},
		{"up --rung ", "auto\nroot\nrootless\nplain\n:4\n"},
		{"logs --stream ", "stdout\nstderr\nevent\n:4\n"},
		{"await w2aaaaaaaaaaaaaa ", ":4\n"},
		{"restart ", "w1aaaaaaaaaaaaaa\tworker crawl, failed, 2m\nw2aaaaaaaaaaaaaa\tworker Untitled [31m Worker, scheduling, 3s\n:4\n"},
		{"logs x ", ":4\n"},
	} {
		w.out.Reset()
		args := strings.Split(c.args, " ")
		if code := w.run(append([]string{"__complete"}, args...)...); code != 0 || w.out.String() != c.offers {
			t.Errorf("%s: %d %q\nwant %q", c.args, code, w.out.String(), c.offers)
		}
	}
	w.out.Reset()
	if code := w.run("completion", "bash"); code != 0 || !strings.Contains(w.out.String(), "__start_muster") {
		t.Errorf("completion bash: %d", code)
	}
}

func TestUp(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "run")
	w.env = []string{"MUSTER_RUNTIME_DIR=" + dir}
	var got UpOptions
	w.deps.Serve = func(ctx context.Context, o UpOptions) error {
		o.Ready(o.Listen, "localhost:20202")
		got = o
		<-ctx.Done()
		return nil
	}
	go func() { w.err.await(t, "answers"); w.signals <- syscall.SIGTERM }()
	w.expect(0, "", "muster: the server answers at unix://"+dir+"/server.sock, and browsers find engines below http://localhost:20202\n",
		"up", "--memory-capacity", "1.5", "--network", "10.9.0.0/16", "--hard-cpu", "--state-dir", "/s", "--rung", "plain", "--gpus", "[]")
	if got.TokenFile != dir+"/token" || got.MemoryCapacityBytes != 1_500_000_000 || got.Network != "10.9.0.0/16" || !got.HardCPU ||
		got.StateDir != "/s" || got.Rung != "plain" || got.GPUs != "[]" {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
	w.deps.Serve = func(_ context.Context, o UpOptions) error { got = o; return errors.New("address in use") }
	w.expect(1, "", "muster: address in use\n", "up", "--listen", "127.0.0.1:70")
	if got.Listen != "tcp://127.0.0.1:70" || got.TokenFile != dir+"/token.70" {
		t.Errorf("%+v", got)
	}
	runtime := t.TempDir() + "/run"
	w.env = append(w.env, "MUSTER_RUNTIME_DIR="+runtime)
	for _, bad := range []string{"7070", "unix://x", "host:", "127.0.0.1:99999", "127.0.0.1:http", "127.0.0.1:0", "127.0.0.1:-1"} {
		if code := w.run("up", "--listen", bad); code != 2 {
			t.Errorf("--listen %s ends with %d", bad, code)
		}
	}
	if _, err := os.Stat(runtime); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is wrong left a folder: %v", err)
	}
	w.deps.Serve = func(context.Context, UpOptions) error {
		return engine.Errorf(engine.Invalid, "there is no such rung").WithHint("another")
	}
	w.expect(2, "", "muster: there is no such rung\n  try: another\n", "up", "--rung", "x")
	if code := w.run("up", "--memory-capacity", "nan"); code != 2 {
		t.Errorf("ends with %d", code)
	}
}

func TestSecondUp(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	w.env = []string{"MUSTER_RUNTIME_DIR=" + dir}
	l, err := net.Listen("unix", filepath.Join(dir, "server.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.deps.Serve = func(context.Context, UpOptions) error { t.Error("served"); return nil }
	w.expect(1, "", fmt.Sprintf("muster: a server already runs (pid %d, socket %s/server.sock)\n"+
		"  try: use it, take over from it with: muster up --replace, end it with: kill %d, or start another with --listen unix:///another/path\n", os.Getpid(), dir, os.Getpid()), "up")
}

// A folder that somebody else could have prepared is not trusted.
func TestRuntimeDirOfOthers(t *testing.T) {
	w := newWorld(t)
	w.deps.Serve = func(context.Context, UpOptions) error { return nil }
	dir := filepath.Join(t.TempDir(), "run")
	os.Mkdir(dir, 0o700)
	os.Chmod(dir, 0o777)
	w.env = []string{"MUSTER_RUNTIME_DIR=" + dir}
	for _, cmd := range []string{"up", "ps"} {
		w.expect(1, "", "muster: "+dir+", the folder for the server's socket, may be written to by others (mode 0777)\n"+
			"  try: choose a folder of your own, mode 0700 (MUSTER_RUNTIME_DIR or --listen)\n", cmd)
	}
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(t.TempDir(), link)
	w.env = []string{"MUSTER_RUNTIME_DIR=" + link}
	w.expect(1, "", "muster: "+link+", the folder for the server's socket, is no folder\n"+
		"  try: choose a folder of your own, mode 0700 (MUSTER_RUNTIME_DIR or --listen)\n", "up")
}

// A relative folder would be another one for a command that is run elsewhere.
func TestRelativeRuntimeDir(t *testing.T) {
	w := newWorld(t)
	w.env = append(w.env, "MUSTER_RUNTIME_DIR=run")
	w.deps.Serve = func(context.Context, UpOptions) error { t.Error("served"); return nil }
	for _, args := range [][]string{{"up"}, {"ps"}, {"run", "x.py"}, {"up", "--listen", "127.0.0.1:70"}} {
		w.expect(1, "", "muster: MUSTER_RUNTIME_DIR is \"run\": it must be an absolute path, which means the same from everywhere\n", args...)
	}
}

// The real working directory, which somebody deleted.
func TestDeletedWorkingDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	os.Remove(dir)
	var err syncBuffer
	code := Main(t.Context(), []string{"run", "x.py"}, Streams{Out: &err, Err: &err}, Deps{Environ: []string{}, Signals: make(chan os.Signal)})
	want := "muster: the folder that you are in is not there any more: somebody deleted it\n  try: go to another one with cd\n"
	if code != 1 || err.String() != want {
		t.Errorf("%d %q", code, err.String())
	}
}

func TestRuntimeDir(t *testing.T) {
	env := map[string]string{}
	get := func(k string) string { return env[k] }
	last := fmt.Sprintf("/tmp/muster-%d", os.Geteuid())
	if os.Geteuid() == 0 {
		last = "/run/muster"
	}
	for _, c := range []struct{ key, value, want string }{{"", "", last}, {"XDG_RUNTIME_DIR", "/x", "/x/muster"}, {"MUSTER_RUNTIME_DIR", "/m", "/m"}} {
		env[c.key] = c.value
		if got := RuntimeDir(get); got != c.want {
			t.Errorf("%v: %s, want %s", env, got, c.want)
		}
	}
}

func TestUnauthorized(t *testing.T) {
	w := newWorld(t)
	w.env[1] = "MUSTER_TOKEN=wrong"
	w.expect(1, "", "muster: the token is not known to this server\n"+
		"  try: it may have expired or been revoked (a session's ends with the session): unset MUSTER_TOKEN on the server's machine; "+
		"for elsewhere muster token create makes another there\n", "ps")
	w.env[1] = "MUSTER_TOKEN="
	w.expect(1, "", "muster: the request has no token\n"+
		"  try: set MUSTER_TOKEN to one of yours (muster token create, on the server's machine), or to the owner's (in the server's "+
		"runtime folder, such as /run/muster); other programs send \"Authorization: Bearer TOKEN\"\n", "ps")
	w.env[1] = "MUSTER_TOKEN=secret\n"
	w.expect(1, "", "muster: MUSTER_TOKEN has a character that no token has: '\\n', after 6 others\n"+
		"  try: set it to the token alone, as muster token create printed it\n", "ps")
}

// A path that no socket can have is told with its limit and what to set, before anything is made or asked.
func TestTooLongForASocket(t *testing.T) {
	w := newWorld(t)
	dir := "/nowhere/" + strings.Repeat("x", 200)
	says := fmt.Sprintf("muster: the path of the server's socket, %s/server.sock, has 221 bytes, and the system allows 107\n"+
		"  try: set MUSTER_RUNTIME_DIR to a folder with a shorter path\n", dir)
	w.env = []string{"MUSTER_RUNTIME_DIR=" + dir}
	w.deps.Serve = func(context.Context, UpOptions) error { t.Error("served"); return nil }
	w.expect(1, "", says, "up")
	w.expect(1, "", says, "ps")
	if err := CheckSocket("/" + strings.Repeat("x", 106)); err != nil {
		t.Error(err)
	}
}

// The token of a server that listens elsewhere lies in the runtime folder all the same: engines may see what is elsewhere.
func TestTokenFileOfSocketElsewhere(t *testing.T) {
	w := populated(t)
	runtime, elsewhere := filepath.Join(t.TempDir(), "run"), filepath.Dir(strings.TrimPrefix(w.socket, "unix://"))
	os.Chmod(elsewhere, 0o700)
	w.env = []string{"MUSTER_RUNTIME_DIR=" + runtime}
	var tokens []string
	w.deps.Serve = func(_ context.Context, o UpOptions) error { tokens = append(tokens, o.TokenFile); return nil }
	link := filepath.Join(t.TempDir(), "link")
	os.Symlink(elsewhere, link)
	for _, socket := range []string{elsewhere + "/other", "unix://" + elsewhere + "/s2", runtime + "/server.sock", runtime + "/./server.sock"} {
		w.expect(0, "", "", "up", "--listen", socket)
	}
	if len(tokens) != 4 || tokens[0] == tokens[1] || tokens[2] != runtime+"/token" || tokens[3] != tokens[2] {
		t.Fatalf("tokens are in %q", tokens)
	}
	for _, file := range tokens {
		if filepath.Dir(file) != runtime {
			t.Errorf("the token is in %s", file)
		}
	}
	os.WriteFile(tokenFile(w.socket, runtime), []byte("owner\n"), 0o600)
	for _, name := range []string{w.socket, "unix://" + link + "/s", link + "//s"} {
		w.env = []string{"MUSTER_RUNTIME_DIR=" + runtime}
		if code := w.run("ps", "--server", name); code != 0 {
			t.Errorf("--server %s: %d %s", name, code, w.err.String())
		}
		w.env = append(w.env, "MUSTER_HOST="+name)
		if code := w.run("ps"); code != 0 {
			t.Errorf("MUSTER_HOST=%s: %d %s", name, code, w.err.String())
		}
	}
}

// A token that lies here is for a server here: another machine's may listen at the same port.
func TestTokenStaysHere(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	os.WriteFile(filepath.Join(dir, "token.7443"), []byte("owner\n"), 0o600)
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]string{}
	for _, address := range addresses {
		if n, ok := address.(*net.IPNet); ok {
			own["http://"+net.JoinHostPort(n.IP.String(), "7443")] = "owner"
		}
	}
	for host, want := range map[string]string{
		"127.0.0.1:7443": "owner", "http://localhost:7443": "owner", "https://[::1]:7443": "owner", "tcp://0.0.0.0:7443": "owner", ":7443": "owner",
		"https://gpu-box:7443": "", "http://192.0.2.1:7443": "", "http://localhost.example:7443": "", "http://127.0.0.1.example:7443": "",
	} {
		own[host] = want
	}
	for host, want := range own {
		a := &app{deps: Deps{Environ: []string{"MUSTER_RUNTIME_DIR=" + dir, "MUSTER_HOST=" + host}}}
		if p, err := a.find(); err != nil || p.token != want {
			t.Errorf("%s is told the token %q, not %q (%v)", host, p.token, want, err)
		}
	}
}

// A server that was killed leaves its token: another user who takes its port is not sent that.
func TestTokenIsNotForWhoTookThePort(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("capability root: another user's program is needed")
	}
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	stranger := exec.Command("/usr/bin/python3", "-c", "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()")
	stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := stranger.StdoutPipe()
	if err == nil {
		err = stranger.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Wait()
	defer stranger.Process.Kill()
	var port string
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "token."+port), []byte("owner\n"), 0o600)
	environ := []string{"MUSTER_RUNTIME_DIR=" + dir, "MUSTER_HOST=127.0.0.1:" + port}
	a := &app{deps: Deps{Environ: environ}}
	if p, err := a.find(); engine.KindOf(err) != engine.Unauthorized || !strings.Contains(err.Error(), "user 65534 listens on port "+port) {
		t.Errorf("told %q, %v", p.token, err)
	}
	a = &app{deps: Deps{Environ: append(environ, "MUSTER_TOKEN=meant")}}
	if p, err := a.find(); err != nil || p.token != "meant" {
		t.Errorf("told %q, %v", p.token, err)
	}
}

// The token of a server at a port lies under the port.
func TestTokenFile(t *testing.T) {
	w := populated(t)
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	port := w.address[strings.LastIndexByte(w.address, ':')+1:]
	os.WriteFile(filepath.Join(dir, "token."+port), []byte("owner\n"), 0o600)
	w.env = []string{"MUSTER_RUNTIME_DIR=" + dir, "MUSTER_HOST=127.0.0.1:" + port}
	if code := w.run("ps"); code != 0 {
		t.Errorf("%d %s", code, w.err.String())
	}
}

// Who only wants a server to be there is content with another's.
func TestSecondUpUntilIdle(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	w.env = []string{"MUSTER_RUNTIME_DIR=" + dir}
	var got UpOptions
	w.deps.Serve = func(_ context.Context, o UpOptions) error { got = o; return ServerRuns("there", "use it") }
	w.expect(0, "", "muster: a server already runs (there)\n", "up", "--until-idle", "10s")
	if got.UntilIdle != 10*time.Second {
		t.Errorf("%+v", got)
	}
	w.expect(1, "", "muster: a server already runs (there)\n  try: use it\n", "up")
	w.deps.Serve = func(context.Context, UpOptions) error { return errors.New("broken") }
	w.expect(1, "", "muster: broken\n", "up", "--until-idle", "10s")
	l, err := net.Listen("unix", filepath.Join(dir, "server.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.expect(0, "", fmt.Sprintf("muster: a server already runs (pid %d, socket %s/server.sock)\n", os.Getpid(), dir), "up", "--until-idle", "10s")
	for _, bad := range []string{"0", "-1s", "soon"} {
		if code := w.run("up", "--until-idle", bad); code != 2 {
			t.Errorf("--until-idle %s ends with %d", bad, code)
		}
	}
}

// What workers may be asked beyond the original's arguments.
func TestTerms(t *testing.T) {
	w := populated(t)
	var got api.LaunchWorkers
	w.launch = func(req api.LaunchWorkers) (api.Workers, error) {
		got = req
		return api.Workers{Workers: []api.Worker{{ID: worker1}}}, nil
	}
	w.expect(0, worker1+"\n", "", "launch", "--session", "aaaa", "--retries", "2", "--time-limit", "1m30s", "--group", "fits", "fit.py")
	if got.Retries != 2 || got.TimeLimit != 90 || got.Group != "fits" {
		t.Errorf("%+v", got)
	}
	const usage = "muster: --retries and --time-limit must not be negative\n  try: muster launch --help\n"
	w.expect(2, "", usage, "launch", "--session", "aaaa", "--retries", "-1", "fit.py")
	w.expect(2, "", usage, "launch", "--session", "aaaa", "--time-limit", "-1s", "fit.py")
}

func TestRestart(t *testing.T) {
	w := populated(t)
	w.launch = func(req api.LaunchWorkers) (api.Workers, error) {
		return api.Workers{Workers: []api.Worker{{ID: "new1"}, {Message: "it is forgotten"}}[:req.N]}, nil
	}
	w.expect(0, "new1\n", "", "restart", "w1")
	w.expect(1, "new1\n", "muster: 1 of 2 workers refused: it is forgotten\n", "restart", "w2", worker1, "w1")
	w.expect(1, "", "muster: aaaa is a session, and only workers are restarted\n  try: muster run starts its script again\n", "restart", "w1", "aaaa")
	w.expect(1, "", "muster: there is no session or worker \"zz\"\n  try: muster ps -a\n", "restart", "w1", "zz")
	w.expect(2, "", "muster: restart needs the id of a worker\n  try: muster restart --help\n", "restart")
	want := []string{"restart [" + worker1 + "] in " + sessionA, "restart [" + worker2 + " " + worker1 + "] in " + sessionA}
	if fmt.Sprint(w.calls) != fmt.Sprint(want) {
		t.Errorf("%q\nwant %q", w.calls, want)
	}
}

func TestGroups(t *testing.T) {
	w := populated(t)
	w.workers[0].Group = "fits"
	w.out.Reset()
	w.run("ps", "--group", "fits")
	if out := w.out.String(); !strings.Contains(out, w.workers[0].ID) || strings.Contains(out, w.workers[1].ID) {
		t.Errorf("ps shows\n%s", out)
	}
	var awaited api.Await
	w.await = func(_ context.Context, req api.Await, _ func(api.AwaitProgress)) (api.Awaited, error) {
		awaited = req
		return api.Awaited{Workers: []api.Worker{{ID: worker1}}}, nil
	}
	w.expect(0, "1 of 1 workers succeeded\n", "", "await", "--session", "aaaa", "--group", "fits")
	if awaited.Group != "fits" || awaited.All || len(awaited.IDs) != 0 {
		t.Errorf("%+v", awaited)
	}
	w.expect(2, "", "muster: await takes ids or --group, and was given both\n  try: muster await --help\n", "await", "--group", "fits", "w1")
	w.expect(0, w.workers[0].ID+"\n", "", "stop", "--all", "--session", "aaaa", "--group", "fits")
	w.inEngine().expect(0, w.workers[0].ID+"\n", "", "stop", "--all", "--group", "fits")
	w.expect(2, "", "muster: --group goes with --all\n  try: muster stop --help\n", "stop", "--group", "fits", "w1")
}

func TestTail(t *testing.T) {
	w := populated(t)
	close(w.done)
	w.print(worker1, console.Stdout, "one\ntwo\n")
	w.print(worker1, console.Stderr, "three\n")
	w.expect(0, "two\n", "three\n", "logs", "--tail", "2", "w1")
	w.expect(0, "two\n", "", "logs", "-f", "--stream", "stdout", "--tail", "1", "w1")
	w.expect(1, "", "muster: --tail is for the log of one worker, and "+sessionA+" is a session\n", "logs", "--tail", "1", sessionA)
	w.expect(2, "", "muster: --tail is -1: it must not be negative\n  try: muster logs --help\n", "logs", "--tail", "-1", "w1")
}

// A worker that was tried again says so where it says how it ended.
func TestReasonOfRetried(t *testing.T) {
	message := "ended with exit code 3"
	w := api.Worker{K8s: api.K8s{Message: &message}, RetriedAs: "c4nrrt7q0wmarcvx"}
	if got := reason(w); got != "ended with exit code 3; tried again as c4nrrt7q" {
		t.Error(got)
	}
}

// A log that was damaged is shown up to there, a session's console but for that; both are failures of no server.
func TestLogsThatAreDamaged(t *testing.T) {
	w := populated(t)
	close(w.done)
	for i := range 3 {
		w.print(worker1, console.Stdout, fmt.Sprintf("line %d\n", i))
	}
	w.print(worker2, console.Stdout, "other\n")
	path := filepath.Join(w.dir, worker1+".log")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte("line 1"))] ^= 0xff
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	told := fmt.Sprintf("muster: console file %s is damaged at byte 31: the record's checksum is wrong", path)
	w.expect(1, "line 0\n", told+"; the session's console (muster logs SESSION) shows what else of it can be read\n", "logs", "w1")
	w.expect(1, "[w1aaaaaa] line 0\n[w1aaaaaa] line 2\n[w2aaaaaa] other\n", told+"\n"+
		"muster: the console of session "+sessionA+" is not whole: it was told above what is missing\n", "logs", sessionA)
	for _, id := range []string{"w1", sessionA} {
		w.err.Reset()
		if code := w.run("logs", "--json", id); code != 1 || !strings.HasPrefix(w.err.String(), told) {
			t.Errorf("--json %s: %d %s", id, code, w.err.String())
		}
	}
	w.expect(0, "other\n", "", "logs", "w2")
	if err := os.Truncate(path, 40); err != nil {
		t.Fatal(err)
	}
	told = fmt.Sprintf("muster: the log of %s ends at byte 40, 53 bytes are missing: %s\n", worker1, path)
	w.expect(1, "line 0\n", told, "logs", "w1")
	w.expect(1, "[w1aaaaaa] line 0\n[w2aaaaaa] other\n", told+
		"muster: the console of session "+sessionA+" is not whole: it was told above what is missing\n", "logs", sessionA)
}

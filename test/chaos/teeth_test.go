package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The checker finds what it is there to find: in copies of good things one is made bad at a time.

const (
	sid = "s234567890123456"
	eid = "e234567890123456"
)

func line(name, stream string, n int) string {
	text := fmt.Sprintf("%s:%s:%d:xxx", name, stream, n)
	return fmt.Sprintf("~%s:%08x~\n", text, crc32.ChecksumIEEE([]byte(text)))
}

// makeConsole writes a console as the format says, of these records of one engine.
func makeConsole(t *testing.T, records ...record) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var log, order []byte
	le := binary.LittleEndian
	for _, r := range records {
		at := len(log)
		rec := make([]byte, recordHead, recordHead+len(r.payload))
		le.PutUint32(rec[4:], uint32(len(r.payload)))
		for number, name := range streams {
			if name == r.stream {
				rec[16] = number
			}
		}
		rec[18] = 1
		le.PutUint32(rec[20:], crc32.Checksum(rec[4:20], crc32c))
		rec = append(rec, r.payload...)
		le.PutUint32(rec, crc32.Checksum(rec[4:], crc32c))
		log = append(log, rec...)
		entry := make([]byte, 16, entryBytes)
		copy(entry, eid)
		entry = le.AppendUint32(le.AppendUint64(entry, uint64(at)), uint32(len(rec)))
		order = append(order, le.AppendUint32(entry, crc32.Checksum(entry, crc32c))...)
	}
	for name, b := range map[string][]byte{eid + ".log": log, "order": order} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func out(text string) record { return record{engine: eid, stream: "stdout", payload: []byte(text)} }

func event(text string) record { return record{engine: eid, stream: "event", payload: []byte(text)} }

// good is an engine that printed three lines, in pieces.
func good() []record {
	l := line(eid, "o", 0) + line(eid, "o", 1) + line(eid, "o", 2)
	return []record{
		event(`{"type":"engine"}`), out(l[:5]), out(l[5:30]), out(l[30:]), event(`{"type":"exit","reason":"exit code","code":3}`),
	}
}

func TestCheckerReadsGoodConsole(t *testing.T) {
	logs, err := readSession(makeConsole(t, good()...), false, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	l := logs[eid]
	if err := l.out.end(3, false); err != nil || l.out.lines != 3 || !l.exit.same(ending{Reason: "exit code", Code: 3}) {
		t.Errorf("%v, %+v", err, l)
	}
}

// Whole records that say something wrong: what a mistake in the keeper, not on the disk, would leave.
func TestCheckerFindsLostAndDoubledBytes(t *testing.T) {
	text := line(eid, "o", 0) + line(eid, "o", 1) + line(eid, "o", 2)
	for what, c := range map[string]struct{ printed, want string }{
		"a byte less":             {text[:40] + text[41:], "has not its checksum"},
		"a byte twice":            {text[:40] + text[39:], "has not its checksum"},
		"a line less":             {line(eid, "o", 0) + line(eid, "o", 2), "lines 1 to 1 are missing"},
		"a line twice":            {line(eid, "o", 0) + line(eid, "o", 1) + line(eid, "o", 1) + line(eid, "o", 2), "line 1 stands there twice"},
		"the last line less":      {line(eid, "o", 0) + line(eid, "o", 1), "the last ones are missing"},
		"a newline less":          {strings.Replace(text, "\n", "", 1), "has not its checksum"},
		"a newline more":          {strings.Replace(text, "\n", "\n\n", 1), "no line of ours"},
		"more than it printed":    {text + line(eid, "o", 3) + line(eid, "o", 4), "of which only 3 were printed"},
		"another engine's line":   {text + line(sid, "o", 3), "a line of " + sid},
		"a line of its stderr":    {text + line(eid, "e", 3), "stream e"},
		"the same from the start": {text + text, "line 0 stands there twice"},
	} {
		logs, err := readSession(makeConsole(t, event(`{"type":"engine"}`), out(c.printed)), false, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if err := logs[eid].out.end(3, false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// Each byte of the files counts: whichever is lost or doubled, the checker says so.
func TestCheckerFindsDamagedFiles(t *testing.T) {
	for _, name := range []string{eid + ".log", "order"} {
		whole, err := os.ReadFile(filepath.Join(makeConsole(t, good()...), name))
		if err != nil {
			t.Fatal(err)
		}
		for at := range whole {
			for what, bad := range map[string][]byte{
				"lost":    append(bytes.Clone(whole[:at]), whole[at+1:]...),
				"doubled": append(bytes.Clone(whole[:at+1]), whole[at:]...),
				"changed": append(append(bytes.Clone(whole[:at]), whole[at]^0x20), whole[at+1:]...),
			} {
				dir := makeConsole(t, good()...)
				if err := os.WriteFile(filepath.Join(dir, name), bad, 0o600); err != nil {
					t.Fatal(err)
				}
				if _, err := readSession(dir, false, io.Discard); err == nil && !bytes.Equal(bad, whole) {
					t.Fatalf("byte %d of %s was %s, and nothing is said of it", at, name, what)
				}
			}
		}
	}
}

func TestCheckerComparesFollowers(t *testing.T) {
	var disk bytes.Buffer
	if _, err := readSession(makeConsole(t, good()...), false, &disk); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	os.WriteFile(path, disk.Bytes(), 0o600)
	b := disk.Bytes()
	for what, c := range map[string]struct {
		tape []byte
		same bool
	}{
		"the same": {b, true}, "a byte less": {append(bytes.Clone(b[:60]), b[61:]...), false},
		"a byte twice": {append(bytes.Clone(b[:60]), b[59:]...), false}, "an earlier end": {b[:len(b)/2], false},
		"more at the end": {append(bytes.Clone(b), b[len(b)-40:]...), false},
	} {
		followed := filepath.Join(t.TempDir(), "followed")
		os.WriteFile(followed, c.tape, 0o600)
		if err := sameTape(followed, path); (err == nil) != c.same {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestCheckerFindsWrongEnds(t *testing.T) {
	chatty, deaf := plan{Code: 3, Kind: "chatty"}, plan{Kind: "deaf"}
	began, ended := notes{starts: 1, out: 5}, notes{starts: 1, out: 5, ended: true}
	killed, stopped, keeper := cause{fault: causeKilled}, cause{fault: causeStopped}, cause{fault: causeKeeper}
	long := cause{fault: causeKilled, gone: time.Unix(1, 0)}
	for _, c := range []struct {
		what          string
		p             plan
		n             notes
		done, session cause
		told          ending
		right         bool
	}{
		{"its own end", chatty, ended, cause{}, cause{}, ending{Reason: "exit code", Code: 3}, true},
		{"another code", chatty, ended, cause{}, cause{}, ending{Reason: "exit code", Code: 4}, false},
		{"succeeded instead", chatty, ended, cause{}, cause{}, ending{Reason: "succeeded"}, false},
		{"an end it did not come to", chatty, began, cause{}, cause{}, ending{Reason: "exit code", Code: 3}, false},
		{"killed", chatty, began, killed, cause{}, ending{Reason: "signal", Code: 137}, true},
		{"killed, told as stopped", chatty, began, killed, cause{}, ending{Reason: "stopped", Code: 137}, false},
		{"killed, nothing was done", chatty, began, cause{}, cause{}, ending{Reason: "signal", Code: 137}, false},
		{"stopped", chatty, began, stopped, cause{}, ending{Reason: "stopped", Code: 143}, true},
		{"deaf and ended by SIGTERM", deaf, began, stopped, cause{}, ending{Reason: "stopped", Code: 143}, false},
		{"keeper killed", chatty, began, cause{}, keeper, ending{Reason: "keeper lost", Code: 137}, true},
		{"keeper lost, it was not killed", chatty, began, killed, cause{}, ending{Reason: "keeper lost", Code: 137}, false},
		{"killed long before its keeper", chatty, began, long, cause{fault: causeKeeper, at: time.Unix(2, 0)}, ending{Reason: "keeper lost", Code: 137}, false},
		{"never began", chatty, notes{}, cause{}, cause{fault: causeHolder}, ending{Reason: "session ended", Code: noCode}, true},
	} {
		may := expect(c.p, c.n, false, c.done, c.session)
		if fits(c.told, may) != c.right {
			t.Errorf("%s: %v, expected was %s", c.what, c.told, describe(may))
		}
	}
}

// Of a session that came to its own end all is there: what every worker printed, that nobody launched more of them, and what was shown.
func TestCheckerFindsWhatIsMissing(t *testing.T) {
	l := line(eid, "o", 0) + line(eid, "o", 1)
	whole := []record{event(`{"type":"engine"}`), out(l), event(`{"type":"exit","reason":"exit code","code":3}`)}
	for what, c := range map[string]struct {
		records []record
		shown   string
		told    []string
		want    string
	}{
		"nothing":               {whole, l, []string{eid}, ""},
		"all that it printed":   {nil, "", []string{eid}, "the last ones are missing"},
		"the end of its log":    {whole[:2], l, []string{eid}, "does not say how it ended"},
		"a line that was shown": {whole, line(eid, "o", 0), []string{eid}, "showed 1 lines"},
		"who launched it":       {whole, l, []string{eid, "w234567890123456"}, "nobody launched it"},
	} {
		w := &world{root: t.TempDir(), o: options{log: io.Discard}}
		w.state, w.project, w.tape = filepath.Join(w.root, "state"), filepath.Join(w.root, "project"), filepath.Join(w.root, "tape")
		console := filepath.Join(w.state, "sessions", sid, "console")
		files := map[string]string{
			filepath.Join(w.project, "said", "s"):  `{"what": "launched", "plan": "p", "n": 1, "ids": ["` + eid + `"]}` + "\n",
			filepath.Join(w.project, "notes", eid): "soox", filepath.Join(w.project, "notes", sid): "sx",
			filepath.Join(w.tape, "s.out"): c.shown, filepath.Join(w.tape, "s.err"): "",
		}
		made := makeConsole(t, c.records...)
		for _, name := range []string{eid + ".log", "order"} {
			b, err := os.ReadFile(filepath.Join(made, name))
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > 0 || name == "order" {
				files[filepath.Join(console, name)] = string(b)
			}
		}
		for name, text := range files {
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		followed, err := os.Create(w.tapeOf(sid))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readSession(console, false, followed); err != nil {
			t.Fatal(err)
		}
		followed.Close()
		x := &session{
			name: "s", kind: kindRun, id: sid, plans: map[string]plan{"p": {Kind: "chatty", Code: 3}},
			causes: map[string]cause{"": {fault: causeOwn}}, follow: &follower{done: make(chan struct{})},
		}
		close(x.follow.done)
		ends := map[string]ending{eid: {Reason: "exit code", Code: 3}, sid: {Reason: "succeeded"}}
		ch := &chaos{world: w, workersOf: map[string][]string{sid: c.told}, ends: map[string]int{}}
		ch.verify(x, ends, ends)
		got := strings.Join(slices.DeleteFunc(ch.violations, func(v string) bool {
			return strings.Contains(v, sid+": its console does not say") // the session's own engine has no log here
		}), "\n")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("missing is %s: %q, want %q", what, got, c.want)
		}
	}
}

// A process that says of itself that it is an engine's, and whose session has no keeper, is found: in the run when it stays, and at
// the end at once. So is what else may be left.
func TestCheckerFindsWhatIsLeft(t *testing.T) {
	w := &world{root: t.TempDir(), o: options{log: io.Discard}}
	w.state, w.project = filepath.Join(w.root, "state"), filepath.Join(w.root, "project")
	if err := os.MkdirAll(filepath.Join(w.state, "sessions", sid, "console"), 0o700); err != nil {
		t.Fatal(err)
	}
	network, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	c := &chaos{world: w, crew: &crew{w: w}, ownNetwork: network, networks: map[string]bool{}, engines: map[string]bool{eid: true}}
	if left := c.left(); len(left) != 0 {
		t.Fatalf("before: %v", left)
	}
	planted := exec.Command("sleep", "1000")
	planted.Env = []string{"A=1", "PWD=" + w.project, "CDSW_ENGINE_ID=" + eid, "CDSW_MASTER_ID=" + sid}
	if err := planted.Start(); err != nil {
		t.Fatal(err)
	}
	defer planted.Wait()
	defer planted.Process.Kill()
	since := map[string]time.Time{}
	found := func() bool { return len(c.processes()) == 1 } // when it has its own environment
	if !until(found) {
		t.Fatalf("the planted process is not seen: %v", c.processes())
	}
	if told := c.orphans(c.processes(), since, time.Now()); len(told) != 0 {
		t.Errorf("told at once, it may be about to end: %v", told)
	}
	told := c.orphans(c.processes(), since, time.Now().Add(2*deadline))
	if len(told) != 1 || !strings.Contains(told[0], eid) {
		t.Errorf("the orphan: %v", told)
	}
	for _, name := range []string{"sessions/" + sid + "/lock", "sessions/" + sid + "/keeper.sock"} {
		os.WriteFile(filepath.Join(w.state, name), nil, 0o600)
	}
	tmp := filepath.Join("/tmp", "muster-"+eid)
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(tmp)
	if left := c.left(); len(left) != 4 {
		t.Errorf("a process and three files were planted, found: %v", left)
	}
}

func TestCheckerFindsDamagedRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "muster.db")
	const schema = `import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("CREATE TABLE sessions (id TEXT PRIMARY KEY, ended INTEGER)")
db.execute("CREATE TABLE ends (engine TEXT, record TEXT)")
db.execute("CREATE INDEX by_engine ON ends (engine)")
for i in range(500):
    db.execute("INSERT INTO ends VALUES (?, ?)", (f"e{i}", '{"exit": {"reason": "signal", "code": 137, "at": "2026-01-01T00:00:00Z"}}'))
db.execute("INSERT INTO sessions VALUES ('a', 0)")
db.commit()`
	if said, err := exec.Command("python3", "-c", schema, path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	r, err := readDatabase(path)
	if err != nil || r.whole() != nil || len(r.Ends) != 500 || r.Ends["e7"].Code != 137 || r.Live != 1 {
		t.Fatalf("%v, %v, %d ends, %d live", err, r.whole(), len(r.Ends), r.Live)
	}
	b, _ := os.ReadFile(path)
	copy(b[4096:], bytes.Repeat([]byte{0x5a}, 600)) // the second page
	os.WriteFile(path, b, 0o600)
	if r, err := readDatabase(path); err == nil && r.whole() == nil {
		t.Error("damaged records are taken for whole")
	}
}

func TestClientsLinesAreNone(t *testing.T) {
	said := line(sid, "e", 0) + "muster: the server does not answer; waiting for it\n" + line(sid, "e", 1)
	for client, wrong := range map[bool]bool{true: false, false: true} {
		c := counter{name: sid, stream: "e", client: client}
		c.add([]byte(said))
		if err := c.end(2, false); (err != nil) != wrong {
			t.Errorf("client %v: %v", client, err)
		}
	}
}

func TestShownLines(t *testing.T) {
	good := "[a-1 e2345] " + line(eid, "o", 0) + "muster: the server is back\n" + line(sid, "o", 0) + "[a-1 e2345] " + line(eid, "o", 1) + "~torn"
	if n, err := readShown(strings.NewReader(good), map[string]int{}); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for what, bad := range map[string]string{
		"a line less":  line(eid, "o", 0) + line(eid, "o", 2),
		"a line twice": line(eid, "o", 0) + line(eid, "o", 0),
		"a byte less":  strings.Replace(line(eid, "o", 0), "x", "", 1),
	} {
		if _, err := readShown(strings.NewReader(bad), map[string]int{}); err == nil {
			t.Errorf("%s: nothing is said of it", what)
		}
	}
}

func TestTrendsAreSeen(t *testing.T) {
	for what, c := range map[string]struct {
		each  float64 // kB of the server's memory that a launch leaves
		wrong bool
	}{"as much as is kept": {4, false}, "a leak": {60, true}} {
		var out bytes.Buffer
		c1 := &chaos{world: &world{o: options{log: &out}}}
		var half []sample
		for i := range 20 {
			launches := i * 100
			noise := float64(i%3) * 2
			half = append(half, sample{
				at: time.Duration(i) * time.Minute, launches: launches,
				values: map[string]float64{"server memory": 40 + noise + float64(launches)*c.each/1e3},
			})
		}
		c1.trends(half)
		if (len(c1.violations) > 0) != c.wrong {
			t.Errorf("%s: %v", what, c1.violations)
		}
	}
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ending is how an engine ended, as one of the sources tells it.
type ending struct {
	Reason string    `json:"reason"`
	Code   int       `json:"code"`
	At     time.Time `json:"at"` // as the records say it
}

// noCode is that of an engine that never ran.
const noCode = -1

// same reports whether two sources tell of the same ending.
func (e ending) same(other ending) bool {
	return e.Reason == other.Reason && (e.Code == other.Code || e.Code == noCode || other.Code == noCode)
}

// engineLog is what the console on disk says of one engine.
type engineLog struct {
	out, errs counter
	exit      *ending
	began     bool
}

func newEngineLog(engine, own string) *engineLog {
	return &engineLog{out: counter{name: engine, stream: "o"}, errs: counter{name: engine, stream: "e", client: engine == own}}
}

// readSession reads a session's console, and writes it in the form of a follower's tape if there is somewhere to.
// The session's own engine is the one that has its id.
func readSession(dir string, torn bool, tape io.Writer) (map[string]*engineLog, error) {
	own := filepath.Base(filepath.Dir(dir))
	logs := map[string]*engineLog{}
	err := readConsole(dir, torn, func(r record) error {
		l := logs[r.engine]
		if l == nil {
			l = newEngineLog(r.engine, own)
			logs[r.engine] = l
		}
		switch r.stream {
		case "stdout":
			l.out.add(r.payload)
		case "stderr":
			l.errs.add(r.payload)
		case "event":
			var e struct {
				Type, Reason string
				Code         *int
			}
			if err := json.Unmarshal(r.payload, &e); err != nil {
				return fmt.Errorf("an event of %s is no JSON: %w", r.engine, err)
			}
			l.began = l.began || e.Type == "engine"
			if e.Type == "exit" && e.Code != nil {
				if l.exit != nil {
					return fmt.Errorf("engine %s ends twice", r.engine)
				}
				l.exit = &ending{Reason: e.Reason, Code: *e.Code}
			}
		}
		return writeTape(tape, r)
	})
	return logs, err
}

// sameTape compares what a follower saw with what is on disk. What was followed may end earlier where the follower was told of the
// end of the session before its console could be finished.
func sameTape(followed, disk string) error {
	a, err := os.Open(followed)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer b.Close()
	ra, rb := bufio.NewReader(a), bufio.NewReader(b)
	for n := 0; ; n++ {
		x, errA := ra.ReadBytes('\n')
		y, errB := rb.ReadBytes('\n')
		if errA == io.EOF && errB == io.EOF && bytes.Equal(x, y) {
			return nil
		}
		if !bytes.Equal(x, y) || errA != nil || errB != nil {
			return fmt.Errorf("line %d: it followed %.100q, on disk is %.100q", n, x, y)
		}
	}
}

// notes is what a process noted of itself.
type notes struct {
	starts, out, errs int
	ended             bool
}

func (w *world) notesOf(name string) (n notes) {
	b, _ := os.ReadFile(filepath.Join(w.project, "notes", name)) // none: it never began
	return notes{bytes.Count(b, []byte("s")), bytes.Count(b, []byte("o")), bytes.Count(b, []byte("e")), bytes.HasSuffix(b, []byte("x"))}
}

// expect says how an engine may have ended, by what was done to it and to its session. For each: a reason, and codes.
func expect(p plan, n notes, own bool, done, session cause) map[string][]int {
	may := map[string][]int{}
	killed := []int{137, 143}
	if p.Kind == "deaf" {
		killed = []int{137}
	}
	if n.starts == 0 {
		killed = nil // it had not begun: any code
	}
	if n.ended {
		if may["exit code"] = []int{p.Code}; p.Code == 0 {
			may = map[string][]int{"succeeded": {0}}
		}
		if killed != nil {
			killed = append(killed, p.Code) // asked to end, it came to its own end before that
		}
	}
	switch done.fault {
	case causeKilled:
		may["signal"] = []int{137}
	case causeStopped:
		may["stopped"] = killed
	}
	if !done.gone.IsZero() && done.gone.Before(session.at) {
		return may // what was done to the session came too late
	}
	switch session.fault {
	case causeKeeper:
		may["keeper lost"] = []int{137}
		if n.starts == 0 {
			may["session ended"], may["launch failed"] = nil, nil
		}
	case causeSession:
		if own {
			may["signal"] = []int{137}
			break
		}
		may["session ended"] = killed
	case causeStop:
		may["session ended"] = killed
		if own {
			may["stopped"] = killed
		}
	case causeHolder:
		may["session ended"] = killed
	case causeOwn:
		if !own {
			may["session ended"], may["stopped"] = killed, killed
		}
	}
	return may
}

// fits reports whether an ending is one of those that may be.
func fits(e ending, may map[string][]int) bool {
	codes, ok := may[e.Reason]
	if !ok || codes == nil {
		return ok
	}
	for _, c := range codes {
		if c == e.Code {
			return true
		}
	}
	return false
}

func describe(may map[string][]int) string {
	var all []string
	for reason, codes := range may {
		all = append(all, fmt.Sprintf("%s %v", reason, codes))
	}
	return strings.Join(all, ", or ")
}

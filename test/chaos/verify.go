package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// verify checks one session when everything has ended: its console, its followers, and what the API and the records say of the ends.
func (c *chaos) verify(x *session, api, records map[string]ending) {
	if x.id == "" {
		return // it was refused
	}
	dir := filepath.Join(c.state, "sessions", x.id, "console")
	torn := x.causes[""].fault == causeKeeper
	disk := filepath.Join(c.tape, x.id+".disk")
	logs, err := c.readTo(dir, torn, disk)
	if err != nil {
		c.violate("console of session %s (%s): %v", x.name, x.id, err)
		return
	}
	if err := x.follow.settle(); err != nil {
		c.violate("follower of session %s: %v", x.name, err)
	} else if err := sameTape(c.tapeOf(x.id), disk); err != nil {
		c.violate("follower of session %s, resumed %d times: %v", x.name, x.follow.connections-1, err)
	}
	c.resumed += x.follow.connections - 1
	workers := c.launched(x)
	for _, id := range c.workersOf[x.id] {
		if _, known := workers[id]; !known && x.causes[""].fault == causeOwn { // its script has lived to tell of all
			c.violate("session %s: the server tells of worker %s, and nobody launched it", x.name, id)
		}
	}
	for _, id := range append(slices.Collect(maps.Keys(workers)), x.id) {
		if logs[id] == nil { // what never began has printed nothing
			logs[id] = newEngineLog(id, x.id)
		}
	}
	for id, l := range logs {
		if _, known := workers[id]; !known && id != x.id && l.began {
			c.violate("session %s: engine %s is in its console, and nobody launched it", x.name, id)
		}
		c.verifyOutput(x, id, l, records[id].At)
	}
	for id, p := range workers {
		c.verifyEnd(x, id, p, logs[id], api, records)
	}
	if x.kind != kindAttached {
		c.verifyEnd(x, x.id, plan{Kind: "session", Code: x.code}, logs[x.id], api, records)
	}
	c.verifyShown(x, logs)
}

func (c *chaos) readTo(dir string, torn bool, path string) (map[string]*engineLog, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := bufio.NewWriter(f)
	logs, err := readSession(dir, torn, out)
	if err == nil {
		err = out.Flush()
	}
	return logs, err
}

// launched returns the workers that the session's script was told of, or should have been.
func (c *chaos) launched(x *session) map[string]plan {
	all := map[string]plan{}
	for _, v := range c.hears(x.name) {
		switch v.What {
		case "launched":
			c.launches += len(v.IDs)
			if len(v.IDs) != v.N {
				c.violate("session %s: plan %s was launched %d times, %d were asked for", x.name, v.Plan, len(v.IDs), v.N)
			}
			for _, id := range v.IDs {
				all[id] = x.plans[v.Plan]
			}
		case "refused":
			c.refused++
		case "error":
			if over := x.causes[""]; over.fault == "" || over.fault == causeOwn {
				c.violate("session %s: a call failed: %s", x.name, v.Text)
			}
		}
	}
	return all
}

// verifyOutput checks the lines of one engine.
func (c *chaos) verifyOutput(x *session, id string, l *engineLog, at time.Time) {
	n := c.notesOf(id)
	if n.starts > 1 {
		c.violate("session %s: engine %s began %d times", x.name, id, n.starts)
	}
	// What a killed keeper had not read of the pipe is lost with it; so is what the disk had no room for at the end.
	unread := x.causes[""].fault == causeKeeper || c.wasFull(at)
	for stream, s := range map[string]struct {
		counter *counter
		noted   int
	}{"stdout": {&l.out, n.out}, "stderr": {&l.errs, n.errs}} {
		c.lines += s.counter.lines
		if id == x.id && x.kind == kindAttached {
			continue // it prints to its own terminal
		}
		if err := s.counter.end(s.noted, unread); err != nil {
			c.violate("session %s (%s), engine %s, %s: %v", x.name, x.causes[""].fault, id, stream, err)
		}
	}
}

// verifyEnd compares how an engine ended by all who tell of it with what was done to it.
func (c *chaos) verifyEnd(x *session, id string, p plan, l *engineLog, api, records map[string]ending) {
	told, known := api[id]
	if !known {
		c.violate("session %s: the server does not know of engine %s any more", x.name, id)
		return
	}
	n := c.notesOf(id)
	done := x.causes[id]
	may := expect(p, n, id == x.id, done, x.causes[""])
	if id == x.id && x.causes[""].fault == causeOwn && !n.ended {
		c.violate("session %s did not come to its end", x.name)
	}
	if !fits(told, may) && !c.lostInFull(told, records[id].At) {
		c.violate("session %s, engine %s (%s): it ended as %q with %d, and it was to be %s; done to it: %q, to its session: %q",
			x.name, id, p.Kind, told.Reason, told.Code, describe(may), done.fault, x.causes[""].fault)
	}
	if r, ok := records[id]; !ok || !r.same(told) {
		c.violate("session %s, engine %s: the records say %v (there: %v), the API says %v", x.name, id, r, ok, told)
	}
	if l.exit != nil && !l.exit.same(told) {
		c.violate("session %s, engine %s: the console says %v, the API says %v", x.name, id, *l.exit, told)
	}
	if (l.began || n.starts > 0) && l.exit == nil && told.Reason != "keeper lost" && !c.wasFull(records[id].At) {
		c.violate("session %s, engine %s: its console does not say how it ended", x.name, id)
	}
	c.ends[told.Reason]++
}

// lostInFull reports whether an end is one that a full disk leads to: the engine could not be started, or its end could be written
// nowhere, because the session was over before there was room.
func (c *chaos) lostInFull(told ending, at time.Time) bool {
	return (told.Reason == "keeper lost" || told.Reason == "launch failed") && c.wasFull(at)
}

// verifyShown checks what the command, or the process, showed of the session: each line of an engine once and in its order, and all
// of them where a command came to its own end.
func (c *chaos) verifyShown(x *session, logs map[string]*engineLog) {
	next := map[string]int{}
	for _, name := range []string{".out", ".err"} {
		f, err := os.Open(filepath.Join(c.tape, x.name+name))
		if err != nil {
			c.violate("%v", err)
			return
		}
		shown, err := readShown(f, next)
		f.Close()
		if err != nil {
			c.violate("what session %s (%s, %s) showed on its %s: %v", x.name, x.kind, x.causes[""].fault, name[1:], err)
		}
		c.shown += shown
	}
	if x.kind == kindAttached || x.causes[""].fault != causeOwn {
		return
	}
	for id, l := range logs {
		for stream, lines := range map[string]int{"o": l.out.lines, "e": l.errs.lines} {
			if n := next[id+stream]; n != lines {
				c.violate("session %s (%s) showed %d lines of engine %s, stream %s, of which %d are in its log", x.name, x.kind, n, id, stream, lines)
			}
		}
	}
}

// readShown looks for lines of ours in what people see, which stand behind labels. next are the numbers of those to come.
func readShown(in io.Reader, next map[string]int) (lines int, err error) {
	r := bufio.NewReader(in)
	for {
		text, readErr := r.ReadBytes('\n')
		if readErr != nil {
			return lines, nil // what comes last may be torn
		}
		line, ok := cutLabel(text[:len(text)-1])
		if !ok {
			continue
		}
		name, stream, n, err := parseLine(line)
		if err != nil {
			return lines, err
		}
		if key := name + stream; n != next[key] {
			return lines, fmt.Errorf("line %d of %s, stream %s, where %d was to come", n, name, stream, next[key])
		} else {
			next[key]++
		}
		lines++
	}
}

// cutLabel finds where a line of ours begins.
func cutLabel(line []byte) ([]byte, bool) {
	for i, b := range line {
		if b == '~' {
			return line[i:], true
		}
	}
	return nil, false
}

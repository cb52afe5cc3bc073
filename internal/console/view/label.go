package view

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"muster/internal/console"
)

// noName is the name of workers that were given none.
const noName = "Untitled Worker"

// event is what this package reads of an event record (api.Event).
type event struct {
	Type    string `json:"type"`
	Engine  string `json:"engine"`
	Name    string `json:"name"`
	Message string `json:"message"`
	Status  string `json:"status"`
}

func (l *Labeler) event(r console.Record) {
	var e event
	if json.Unmarshal(r.Payload, &e) != nil {
		return // of a newer version, perhaps
	}
	if e.Engine == "" {
		e.Engine = r.Engine
	}
	switch e.Type {
	case "engine":
		l.rename(e.Engine, e.Name)
		return
	case "exit":
		l.finish(l.engine(e.Engine))
		if e.Status != "failed" && e.Status != "timedout" {
			return
		}
	case "notice", "refused", "waiting", "retry", "damaged":
	default:
		return
	}
	if e.Message == "" {
		return
	}
	if of := l.engine(e.Engine); e.Type == "exit" && !of.session {
		e.Message = "worker " + of.name + " " + e.Message
	}
	l.note(e.Message)
}

// finish shows what an engine printed last: nothing will follow. The session's own half line is left as it is.
func (l *Labeler) finish(e *engine) {
	for i := range e.lines {
		ln := &e.lines[i]
		if len(ln.held) > 0 {
			l.release(ln, nil)
		}
		if !e.session && ln.to.last.open == ln {
			l.separate(ln.to)
		}
	}
}

// engine returns what is known of an engine; one that is new gets a label.
func (l *Labeler) engine(id string) *engine {
	e := l.engines[id]
	if e == nil {
		e = &engine{session: id == l.opts.Session}
		e.lines[0] = line{of: e, to: &l.out}
		e.lines[1] = line{of: e, to: &l.err}
		if !e.session {
			e.number = l.workers
			l.workers++
			l.name(e, printable(short(id)))
		}
		l.engines[id] = e
	}
	return e
}

// short is the beginning of an id that is enough for people; every command takes it.
func short(id string) string { return id[:min(len(id), 8)] }

func (l *Labeler) rename(id, name string) {
	e := l.engine(id)
	if name = printable(name); name == "" || name == noName || e.session {
		return
	}
	for _, other := range l.engines {
		if other != e && other.name == name { // launched together, most likely
			name += " " + printable(id[:min(len(id), 4)])
			break
		}
	}
	l.name(e, name)
}

func (l *Labeler) name(e *engine, name string) {
	e.name, e.label = name, "["+name+"] "
	if l.opts.Color {
		e.label = fmt.Sprintf("\x1b[%sm[%s]\x1b[0m ", colors[e.number%len(colors)], name)
	}
}

// printable replaces what would move the cursor or change the colours.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}

// colors are the parameters of the escape sequences of the labels, as different as they can be at first: ten that every
// terminal knows, then the bright part of the 256 colours in leaps.
var colors = func() []string {
	all := []string{"36", "33", "35", "32", "34", "96", "93", "95", "92", "94"}
	var bright []int
	for n := range 216 {
		if r, g, b := n/36, n/6%6, n%6; r+g+b >= 6 && max(r, g, b) >= 3 {
			bright = append(bright, 16+n)
		}
	}
	const leap = 47 // a prime, so that every one is met once
	for i := range bright {
		all = append(all, fmt.Sprintf("38;5;%d", bright[i*leap%len(bright)]))
	}
	return all
}()

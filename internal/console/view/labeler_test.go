package view

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/internal/console"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	own = "session0session0"
	w1  = "worker1worker1wo"
	w2  = "another2another2"
)

// step is a record, or with wait a moment in which nothing comes.
type step struct {
	console.Record
	wait time.Duration
}

func out(engine, text string) step { return rec(engine, console.Stdout, text) }
func err(engine, text string) step { return rec(engine, console.Stderr, text) }
func ev(engine, json string) step  { return rec(engine, console.Event, json) }
func wait(ms int) step             { return step{wait: time.Duration(ms) * time.Millisecond} }

func rec(engine string, s console.Stream, text string) step {
	return step{Record: console.Record{Engine: engine, Stream: s, Payload: []byte(text)}}
}

// a fresh copy of the payload each time, overwritten after Write: it is valid until then only.
func write(t *testing.T, l *Labeler, s step) {
	t.Helper()
	r := s.Record
	r.Payload = bytes.Clone(r.Payload)
	if err := l.Write(r); err != nil {
		t.Fatal(err)
	}
	for i := range r.Payload {
		r.Payload[i] = '#'
	}
}

func TestLabels(t *testing.T) {
	const c1, c2, off = "\x1b[36m", "\x1b[33m", "\x1b[0m "
	for _, c := range []struct {
		name  string
		opts  Options
		steps []step
		want  string // both targets are one
	}{
		{"whole lines", Options{}, []step{out(w1, "one\ntwo\n"), out(w2, "three\n")},
			"[worker1w] one\n[worker1w] two\n[another2] three\n"},
		{"a line in pieces", Options{}, []step{out(w1, "on"), out(w2, "tw"), out(w1, "e\n"), out(w2, "o\n")},
			"[worker1w] one\n[another2] two\n"},
		{"names", Options{}, []step{ev(w1, `{"type":"engine","name":"trainer"}`), ev(w2, `{"type":"engine","name":"Untitled Worker"}`),
			out(w1, "x\n"), out(w2, "y\n")},
			"[trainer] x\n[another2] y\n"},
		{"a name that two have", Options{}, []step{ev(w1, `{"type":"engine","name":"w"}`), ev(w2, `{"type":"engine","name":"w"}`),
			ev(w1, `{"type":"engine","name":"w"}`), out(w1, "x\n"), out(w2, "y\n")},
			"[w] x\n[w anot] y\n"},
		{"a name that plays tricks", Options{}, []step{ev(w1, `{"type":"engine","name":"a\n\u001b[31mb"}`), out(w1, "x\n")},
			"[a??[31mb] x\n"},
		{"an empty line and no final newline", Options{}, []step{out(w1, "\n\nend")},
			"[worker1w] \n[worker1w] \n[worker1w] end\n"},
		{"a partial line goes on", Options{}, []step{out(w1, "load"), wait(101), out(w1, "ing"), wait(101), out(w1, " done\n")},
			"[worker1w] loading done\n"},
		{"a partial line is interrupted", Options{}, []step{out(w1, "load"), wait(1001), out(w2, "hello\n"), out(w1, "ed\n")},
			"[worker1w] load\n[another2] hello\n[worker1w] ed\n"},
		{"a newline that comes late", Options{}, []step{out(w1, "load"), wait(1001), out(w2, "hello\n"), out(w1, "\n"), out(w1, "\n")},
			"[worker1w] load\n[another2] hello\n[worker1w] \n"},
		{"the session's newline that comes late", Options{Session: own}, []step{out(own, "load"), wait(101), out(w2, "hello\n"), out(own, "\nx\n")},
			"load\n[another2] hello\nx\n"},
		{"a partial line that is soon complete", Options{}, []step{out(w1, "load"), wait(999), out(w2, "hello\n"), out(w1, "ed\n")},
			"[another2] hello\n[worker1w] loaded\n"},
		{"progress in a pipe", Options{}, []step{out(w1, "\r1%"), wait(101), out(w1, "\r2%"), wait(101), out(w1, "\r3%\r\n")},
			"[worker1w] \r1%\r2%\r3%\r\n"},
		{"the session passes as it is", Options{Session: own}, []step{out(own, "a"), err(own, "b\r"), out(own, "\x00\xff\nc"), out(own, "\n")},
			"b\ra\x00\xff\nc\n"},
		{"the session's streams do not tear each other's lines", Options{Session: own},
			[]step{out(own, "o "), err(own, "e "), out(own, "1"), err(own, "1\n"), out(own, "\n")}, "e 1\no 1\n"},
		{"a line that was painted and cleared", Options{Session: own},
			[]step{err(own, "\rwait"), err(own, "\r    \r"), out(own, "done\n")}, "\rwait\r    \rdone\n"},
		{"what a worker paints belongs before its other stream", Options{},
			[]step{err(w1, "\r 50%"), out(w1, "done\n")}, "[worker1w] \r 50%\n[worker1w] done\n"},
		{"nobody waits", Options{Whole: true}, []step{out(w1, "lo\r"), wait(100000), out(w2, "hello\n"), out(w1, "ad\n")},
			"[another2] hello\n[worker1w] lo\rad\n"},
		{"no label behind the session's half line", Options{Session: own}, []step{out(own, ">>> "), wait(101), out(w1, "hi\n"), out(own, "1+1\n")},
			">>> \n[worker1w] hi\n1+1\n"},
		{"the session's line in pieces", Options{Session: own}, []step{out(own, "got"), out(own, " "), out(w1, "hi\n"), out(own, "it\n")},
			"[worker1w] hi\ngot it\n"},
		{"the session's two half lines", Options{Session: own}, []step{out(own, "a"), err(own, "b"), out(w1, "hi\n"), out(own, "c\n")},
			"[worker1w] hi\nac\nb"},
		{"the session behind a worker's half line", Options{Session: own}, []step{out(w1, "hi"), wait(1001), out(own, "x\n"), out(w1, "!\n")},
			"[worker1w] hi\nx\n[worker1w] !\n"},
		{"the session's half line stays one", Options{Session: own}, []step{out(own, "bye")}, "bye"},
		{"colours", Options{Color: true}, []step{out(w1, "a\n"), out(w2, "b\n"), out(w1, "c\n")},
			c1 + "[worker1w]" + off + "a\n" + c2 + "[another2]" + off + "b\n" + c1 + "[worker1w]" + off + "c\n"},
		{"progress on a terminal", Options{Color: true}, []step{out(w1, "1%\r2%\r"), wait(101), out(w1, "3%\r\r"), wait(101), out(w1, "\n4\r\n")},
			c1 + "[worker1w]" + off + "1%\r" + c1 + "[worker1w]" + off + "2%\r" + c1 + "[worker1w]" + off + "3%\r\r\n" +
				c1 + "[worker1w]" + off + "4\r\n"},
		{"stdin and display are not shown", Options{}, []step{rec(w1, console.Stdin, "x\n"), rec(w1, console.Display, "y\n")}, ""},
		{"events", Options{Session: own}, []step{
			ev(own, `{"type":"engine","name":"s"}`), out(own, "half"), wait(101),
			ev(own, `{"type":"notice","message":"be careful"}`), ev(own, `{"type":"waiting","message":"no CPU is free\nyet"}`),
			ev(own, `{"type":"refused","message":"too much memory"}`), ev(own, `{"type":"notice"}`), ev(own, `{"type":"news","message":"?"}`),
			ev(own, `rubbish`), ev(w1, `{"type":"exit","status":"succeeded","message":"fine"}`), ev(own, `{"type":"session","message":"?"}`)},
			"half\nmuster: be careful\nmuster: no CPU is free\nmuster: yet\nmuster: too much memory\n"},
		{"an exit shows what was held back", Options{}, []step{out(w1, "last words"),
			ev(w1, `{"type":"exit","status":"failed","message":"ended with exit code 1"}`)},
			"[worker1w] last words\nmuster: worker worker1w ended with exit code 1\n"},
		{"a time limit, and another attempt", Options{Session: own}, []step{ev(w1, `{"type":"exit","status":"timedout","message":"ended at its time limit of 2 s"}`),
			ev(own, `{"type":"retry","engine":"another2","retry_of":"worker1","message":"worker a is tried again"}`)},
			"muster: worker worker1w ended at its time limit of 2 s\nmuster: worker a is tried again\n"},
		{"above a prompt a half line is ended when it is shown", Options{Above: true},
			[]step{out(w1, "load"), wait(999), out(w1, "ing"), wait(2), out(w1, " more\n"), out(w1, "at"), wait(1001), out(w1, "\n"), out(w1, "x\n")},
			"[worker1w] loading\n[worker1w]  more\n[worker1w] at\n[worker1w] x\n"},
		{"above a prompt a line that paints itself is shown when it is whole", Options{Above: true},
			[]step{out(w1, "0%"), wait(10), out(w1, "\r1%"), wait(9000), out(w2, "hello\n"), out(w1, "\r2%"), wait(9000), out(w1, "\n")},
			"[another2] hello\n[worker1w] 0%\r[worker1w] 1%\r[worker1w] 2%\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got bytes.Buffer
				l := NewLabeler(&got, &got, c.opts)
				for _, s := range c.steps {
					if s.wait > 0 {
						time.Sleep(s.wait)
						synctest.Wait()
						continue
					}
					write(t, l, s)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if got.String() != c.want {
					t.Errorf("got\n%q, want\n%q", got.String(), c.want)
				}
			})
		})
	}
}

// What a worker printed last is a whole line as soon as its end is known, whoever prints next.
func TestLastLine(t *testing.T) {
	exit := ev(w1, `{"type":"exit","status":"succeeded"}`)
	for _, c := range []struct {
		name  string
		opts  Options
		steps []step
		want  string
	}{
		{"held back", Options{}, []step{out(w1, "last"), exit}, "[worker1w] last\n"},
		{"shown already", Options{}, []step{out(w1, "last"), wait(1001), exit}, "[worker1w] last\n"},
		{"shown, and then more of it", Options{}, []step{out(w1, "la"), wait(1001), out(w1, "st"), exit}, "[worker1w] last\n"},
		{"interrupted already", Options{}, []step{out(w1, "last"), wait(1001), out(w2, "x\n"), exit}, "[worker1w] last\n[another2] x\n"},
		{"another's half line", Options{}, []step{out(w1, "last"), out(w2, "x"), wait(1001), exit}, "[worker1w] last\n[another2] x"},
		{"of both streams", Options{}, []step{out(w1, "a"), err(w1, "b"), exit}, "[worker1w] a\n[worker1w] b\n"},
		{"the session's own", Options{Session: w1}, []step{out(w1, "bye"), exit}, "bye"},
		{"above a prompt", Options{Above: true}, []step{out(w1, "la"), wait(1001), out(w1, "st"), exit}, "[worker1w] la\n[worker1w] st\n"},
		{"above a prompt, of a line that paints itself", Options{Above: true}, []step{out(w1, "\r1%"), wait(9000), exit},
			"[worker1w] \r[worker1w] 1%\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got bytes.Buffer
				l := NewLabeler(&got, &got, c.opts)
				defer l.Close()
				for _, s := range c.steps {
					if s.wait > 0 {
						time.Sleep(s.wait)
						synctest.Wait()
						continue
					}
					write(t, l, s)
				}
				if got.String() != c.want {
					t.Errorf("before Close there is\n%q, want\n%q", got.String(), c.want)
				}
			})
		})
	}
}

// Above a prompt somebody is told when lines came up without a record: else they would wait for the next one.
func TestShownIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got bytes.Buffer
		var then []string
		l := NewLabeler(&got, &got, Options{Above: true, Shown: func() { then = append(then, got.String()) }})
		defer l.Close()
		write(t, l, out(w1, "half"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(then) != 1 || then[0] != "[worker1w] half\n" {
			t.Errorf("told of %q", then)
		}
	})
}

func TestTwoTargets(t *testing.T) {
	var stdout, stderr bytes.Buffer
	l := NewLabeler(&stdout, &stderr, Options{Session: own})
	for _, s := range []step{out(own, "half"), err(w1, "oops\n"), out(w1, "fine\n"), err(own, "b"), ev(own, `{"type":"notice","message":"m"}`)} {
		write(t, l, s)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := stdout.String(); got != "[worker1w] fine\nhalf" {
		t.Errorf("stdout: %q", got)
	}
	if got := stderr.String(); got != "[worker1w] oops\nmuster: m\nb" {
		t.Errorf("stderr: %q", got)
	}
}

// The two ends of one pipe are one place, two files are not.
func TestSamePlace(t *testing.T) {
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.OpenFile(dir+"/"+name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, again, b := open("a"), open("a"), open("b")
	if !samePlace(a, again, false) || samePlace(a, b, true) {
		t.Error("files are not told apart")
	}
	var x, y bytes.Buffer
	if !samePlace(&x, &x, false) || samePlace(&x, &y, false) || !samePlace(&x, &y, true) || samePlace(a, &x, false) {
		t.Error("buffers are not told apart")
	}
}

func TestShownWithinAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got bytes.Buffer
		l := NewLabeler(&got, &got, Options{})
		defer l.Close()
		shown := func() string {
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			return got.String()
		}
		for i := range 5 { // each piece counts from its own time
			write(t, l, out(w1, fmt.Sprint(i, "%\r")))
			time.Sleep(60 * time.Millisecond)
			write(t, l, out(w2, fmt.Sprint(i, " \r")))
			if s := shown(); !strings.Contains(s, fmt.Sprint(i, "%")) || strings.HasSuffix(s, fmt.Sprint(i, " \r")) {
				t.Fatalf("round %d: %q", i, s)
			}
			if s := shown(); !strings.HasSuffix(s, fmt.Sprint("[another2] ", i, " \r")) {
				t.Fatalf("round %d: %q", i, s)
			}
		}
	})
}

// counter counts bytes, and the largest write.
type counter struct{ n, largest int }

func (c *counter) Write(b []byte) (int, error) {
	c.n, c.largest = c.n+len(b), max(c.largest, len(b))
	return len(b), nil
}

func TestHugeLineIsNotBuffered(t *testing.T) {
	const size = 200 << 20
	var got counter
	l := NewLabeler(&got, &got, Options{})
	piece := bytes.Repeat([]byte("x"), console.MaxPayload-7)
	sent := 0
	for ; sent < size; sent += len(piece) {
		if err := l.Write(console.Record{Engine: w1, Stream: console.Stdout, Payload: piece}); err != nil {
			t.Fatal(err)
		}
		if held := sent + len(piece) + len("[worker1w] ") - got.n; held > maxHeld+len("[worker1w] ") {
			t.Fatalf("%d bytes are held back", held)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if want := sent + len("[worker1w] \n"); got.n != want || got.largest > 2*maxHeld {
		t.Errorf("%d bytes, want %d; largest write %d", got.n, want, got.largest)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriterFails(t *testing.T) {
	l := NewLabeler(brokenPipe{}, io.Discard, Options{})
	if err := l.Write(out(w1, "x\n").Record); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	if err := l.Close(); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Close: %v", err)
	}
	if err := l.Write(out(w1, "x\n").Record); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestColoursAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range colors {
		if seen[c] {
			t.Errorf("colour %s comes twice", c)
		}
		seen[c] = true
	}
	if len(seen) < 100 {
		t.Errorf("only %d colours", len(seen))
	}
}

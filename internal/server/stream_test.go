package server

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

// tape is a console that a test writes and the stub serves.
type tape struct {
	t    *testing.T
	dir  string
	w    *console.Writer
	logs map[engine.ID]*console.EngineLog
	bell *console.Bell
}

func withTape(t *testing.T, m *stub) *tape {
	t.Helper()
	dir := t.TempDir()
	w, err := console.OpenWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	if m.reader, err = console.Open(dir); err != nil {
		t.Fatal(err)
	}
	m.bell, m.done = console.NewBell(), make(chan struct{})
	return &tape{t, dir, w, map[engine.ID]*console.EngineLog{}, m.bell}
}

func (c *tape) print(id engine.ID, stream console.Stream, text string) {
	c.t.Helper()
	log := c.logs[id]
	if log == nil {
		var err error
		if log, err = c.w.Log(string(id)); err != nil {
			c.t.Fatal(err)
		}
		c.logs[id] = log
	}
	if err := log.Append(stream, 0, time.Unix(1, 5), []byte(text)); err != nil {
		c.t.Fatal(err)
	}
	c.bell.Ring()
}

func get(t *testing.T, url, accept string) *http.Response {
	t.Helper()
	resp := send(t, t.Context(), "GET", url, tokenA, nil, "Accept", accept)
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %d %s", url, resp.StatusCode, b)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// next reads one record within the test's patience.
func next(t *testing.T, resp *http.Response, f *console.FrameReader) (string, console.Position, error) {
	t.Helper()
	late := time.AfterFunc(patience, func() { resp.Body.Close() })
	defer late.Stop()
	r, pos, err := f.Next()
	return r.Engine + " " + r.Stream.String() + " " + string(r.Payload), pos, err
}

func TestConsoleFollowsFromAPosition(t *testing.T) {
	m := &stub{}
	c := withTape(t, m)
	_, base := start(t, m)
	c.print(sessionA, console.Stdout, "one")
	c.print(workerA, console.Stderr, "two")

	resp := get(t, base+"/sessions/self/console?follow=true", "")
	if ct := resp.Header.Get("Content-Type"); ct != typeFrames {
		t.Errorf("content type %s", ct)
	}
	f := console.NewFrameReader(resp.Body)
	first, after, err := next(t, resp, f)
	if first != string(sessionA)+" stdout one" || err != nil {
		t.Fatal(first, err)
	}
	if second, _, err := next(t, resp, f); second != string(workerA)+" stderr two" || err != nil {
		t.Fatal(second, err)
	}
	c.print(sessionA, console.Stdout, "three") // printed while the reader waits: seen at once
	if third, _, err := next(t, resp, f); third != string(sessionA)+" stdout three" || err != nil {
		t.Fatal(third, err)
	}
	c.print(sessionA, console.Stdout, "four")
	close(m.done)
	if fourth, _, err := next(t, resp, f); !strings.HasSuffix(fourth, "four") || err != nil {
		t.Fatal(fourth, err)
	}
	if _, _, err := next(t, resp, f); err != io.EOF {
		t.Errorf("after the end: %v, want EOF", err)
	}

	// Again from the middle, without following.
	resp = get(t, base+"/sessions/self/console?from="+string(after), "")
	f = console.NewFrameReader(resp.Body)
	for _, want := range []string{"two", "three", "four"} {
		if got, _, err := next(t, resp, f); !strings.HasSuffix(got, want) || err != nil {
			t.Fatalf("%s %v, want %s", got, err, want)
		}
	}
	if _, _, err := next(t, resp, f); err != io.EOF {
		t.Errorf("%v, want EOF", err)
	}
}

func TestConsoleAsLines(t *testing.T) {
	m := &stub{}
	c := withTape(t, m)
	_, base := start(t, m)
	c.print(sessionA, console.Stdout, "ünï\n<")
	c.print(workerA, console.Stderr, "\xff\x00")
	resp := get(t, base+"/sessions/self/console", typeNDJSON)
	lines := bufio.NewScanner(resp.Body)
	var got []api.ConsoleRecord
	for lines.Scan() {
		var r api.ConsoleRecord
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if len(got) != 2 || got[0].Text != "ünï\n<" || got[0].Engine != string(sessionA) || got[0].Stream != "stdout" ||
		got[0].Time != "1970-01-01T00:00:01.000000005Z" || got[0].Position == "" {
		t.Errorf("%+v", got)
	}
	if b, _ := base64.StdEncoding.DecodeString(got[1].Base64); string(b) != "\xff\x00" || got[1].Text != "" {
		t.Errorf("%+v", got[1])
	}
}

func TestLogRawAndByStream(t *testing.T) {
	m := &stub{}
	c := withTape(t, m)
	_, base := start(t, m)
	c.print(workerA, console.Event, `{"type":"engine"}`)
	c.print(workerA, console.Stdout, "out\x00\n")
	c.print(sessionA, console.Stdout, "not this")
	c.print(workerA, console.Stderr, "err\xff")
	for query, want := range map[string]string{
		"raw=true":               "out\x00\nerr\xff",
		"raw=true&stream=stdout": "out\x00\n",
		"raw=true&stream=stderr": "err\xff",
		"raw=true&stream=event":  `{"type":"engine"}`,
	} {
		resp := get(t, base+"/engines/wa1/log?"+query, "")
		if b, err := io.ReadAll(resp.Body); string(b) != want || err != nil {
			t.Errorf("%s: %q %v, want %q", query, b, err, want)
		}
	}
	// A followed log ends with its engine, and not only with the session.
	m.ended = make(chan struct{})
	resp := get(t, base+"/engines/wa1/log?raw=true&follow=true", "")
	c.print(workerA, console.Stdout, "more")
	close(m.ended)
	if b, err := io.ReadAll(resp.Body); string(b) != "out\x00\nerr\xffmore" || err != nil {
		t.Errorf("%q %v", b, err)
	}
}

// The last lines, counted over both streams or in one, in whatever pieces they were written, also of a log that goes on.
func TestTailOfALog(t *testing.T) {
	m := &stub{ended: make(chan struct{})}
	c := withTape(t, m)
	_, base := start(t, m)
	url := base + "/engines/wa1/log?raw=true"
	read := func(query, want string) {
		t.Helper()
		resp := get(t, url+query, "")
		if b, err := io.ReadAll(resp.Body); string(b) != want || err != nil {
			t.Errorf("%s: %q %v, want %q", query, b, err, want)
		}
	}
	read("&tail=3", "")
	c.print(workerA, console.Event, "{}\n{}\n{}\n")
	c.print(workerA, console.Stdout, "one\ntwo\nth")
	c.print(workerA, console.Stdout, "ree\n")
	c.print(workerA, console.Stderr, "\n")
	c.print(workerA, console.Stdout, "five\nha")
	c.print(workerA, console.Stdout, "lf")
	all := "one\ntwo\nthree\n\nfive\nhalf"
	for query, want := range map[string]string{
		"": all, "&tail=0": all, "&tail=1": "half", "&tail=2": "five\nhalf", "&tail=3": "\nfive\nhalf", "&tail=4": "three\n\nfive\nhalf",
		"&tail=5": "two\nthree\n\nfive\nhalf", "&tail=6": all, "&tail=7": all, "&tail=100000": all,
		"&tail=3&stream=stdout": "three\nfive\nhalf", "&tail=1&stream=stderr": "\n", "&tail=1&stream=stdin": "",
	} {
		read(query, want)
	}
	resp := get(t, url+"&tail=1&follow=true", "")
	c.print(workerA, console.Stdout, " and more")
	close(m.ended)
	if b, err := io.ReadAll(resp.Body); string(b) != "half and more" || err != nil {
		t.Errorf("followed: %q %v", b, err)
	}
	for i := range 3000 {
		c.print(workerA, console.Stdout, fmt.Sprintf("\n%d", i))
	}
	read("&tail=2", "2998\n2999")
	lines := get(t, base+"/engines/wa1/log?tail=1", typeNDJSON)
	if b, _ := io.ReadAll(lines.Body); !strings.Contains(string(b), `"text":"2999"`) || strings.Count(string(b), "\n") != 1 {
		t.Errorf("as lines: %q", b)
	}
	for query, says := range map[string]string{"&tail=100001": "at most 100000 lines are counted", "&tail=-1": "tail", "&tail=x": "tail"} {
		if status, body := ask(t, "GET", url+query, tokenA, ""); status != 400 && status != 422 || !strings.Contains(body, says) {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

func TestBadPosition(t *testing.T) {
	m := &stub{}
	c := withTape(t, m)
	c.print(sessionA, console.Stdout, "x")
	_, base := start(t, m)
	for _, path := range []string{"/sessions/self/console?from=banana", "/engines/wa1/log?from=s000000000000", "/sessions/self/console?from=s0000000ffff0"} {
		status, body := ask(t, "GET", base+path, tokenA, "")
		if status != 400 || !strings.Contains(errorOf(t, body).Message, "console position") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// A server that ends breaks streams off: a proper end would say that the session is over.
func TestCloseBreaksStreamsOff(t *testing.T) {
	m := &stub{}
	c := withTape(t, m)
	s, base := start(t, m)
	c.print(sessionA, console.Stdout, "x")
	resp := get(t, base+"/sessions/self/console?follow=true", "")
	f := console.NewFrameReader(resp.Body)
	if _, _, err := next(t, resp, f); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, _, err := next(t, resp, f); err == nil || err == io.EOF {
		t.Errorf("the stream ended with %v, want an error", err)
	}
}

// Clients that vanish leave no goroutine, file or blocked writer; TestMain's leak check sees what is left.
func TestVanishingReaders(t *testing.T) {
	m := &stub{await: func(ctx context.Context, _ engine.ID, _ api.Await, _ func(api.AwaitProgress)) (api.Awaited, error) {
		<-ctx.Done()
		return api.Awaited{}, ctx.Err()
	}}
	c := withTape(t, m)
	_, base := start(t, m)
	big := strings.Repeat("x", console.MaxPayload)
	for range 64 { // more than socket buffers hold: the server stands in Write
		c.print(workerA, console.Stdout, big)
	}
	for _, path := range []string{"/sessions/self/console?follow=true", "/engines/wa1/log?raw=true&follow=true", "/sessions/self/await"} {
		host := strings.TrimPrefix(strings.TrimSuffix(base, api.Base), "http://")
		for range 3 {
			conn, err := net.Dial("tcp", host)
			if err != nil {
				t.Fatal(err)
			}
			method, body := "GET", ""
			if strings.HasSuffix(path, "await") {
				method, body = "POST", bodies["POST /sessions/{id}/await"]
			}
			fmt.Fprintf(conn, "%s %s%s HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
				method, api.Base, path, typeNDJSON, tokenA, len(body), body)
			if method == "GET" {
				if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
					t.Fatal(err)
				}
			}
			conn.Close()
		}
	}
}

func TestStdin(t *testing.T) {
	read, write := io.Pipe()
	m := &stub{stdin: write}
	_, base := start(t, m)
	body, typed := io.Pipe()
	reply := make(chan string, 1)
	go func() {
		req, _ := http.NewRequest("POST", base+"/sessions/self/stdin", body)
		req.Header.Set("Authorization", "Bearer "+tokenA)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			reply <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		reply <- resp.Status + " " + string(text)
	}()
	in := bufio.NewReader(read)
	for _, line := range []string{"first\n", "second\n"} { // each arrives before the next was typed
		io.WriteString(typed, line)
		if got, err := in.ReadString('\n'); got != line || err != nil {
			t.Fatal(got, err)
		}
	}
	typed.Close()
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("stdin was not closed: %v", err)
	}
	if got, want := strings.TrimSpace(<-reply), `200 OK {"written":0,"closed":true}`; got != want { // the stub counts what it is told
		t.Errorf("%s, want %s", got, want)
	}
}

// Stdin goes in parts, each of which says how much came before it; the last one closes it.
func TestStdinInParts(t *testing.T) {
	read, write := io.Pipe()
	m := &stub{stdin: write}
	_, base := start(t, m)
	got := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(read)
		got <- string(b)
	}()
	for _, part := range []struct{ query, body, reply string }{
		{"from=0&last=false", "one ", `{"written":4,"closed":false}`},
		{"from=4&last=false", "", `{"written":4,"closed":false}`},
		{"from=4&last=true", "two", `{"written":7,"closed":true}`},
	} {
		status, body := ask(t, "POST", base+"/sessions/self/stdin?"+part.query, tokenA, part.body)
		if status != 200 || strings.TrimSpace(string(body)) != part.reply {
			t.Errorf("%s: %d %s", part.query, status, body)
		}
	}
	if text := <-got; text != "one two" {
		t.Errorf("%q", text)
	}
	for _, query := range []string{"from=x", "from=1.5", "last=perhaps"} {
		if status, body := ask(t, "POST", base+"/sessions/self/stdin?"+query, tokenA, "x"); status != 422 && status != 400 {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
}

// A client that breaks off was the last to write, unless it said that more comes.
func TestStdinThatBreaksOff(t *testing.T) {
	for query, closes := range map[string]bool{"": true, "?last=false": false} {
		read, write := io.Pipe()
		m := &stub{stdin: write}
		_, base := start(t, m)
		body, typed := io.Pipe()
		req, _ := http.NewRequest("POST", base+"/sessions/self/stdin"+query, body)
		req.Header.Set("Authorization", "Bearer "+tokenA)
		ended := make(chan error, 1)
		go func() {
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				resp.Body.Close()
			}
			ended <- err
		}()
		io.WriteString(typed, "x")
		read.Read(make([]byte, 1))
		typed.CloseWithError(errors.New("gone"))
		if err := <-ended; err == nil {
			t.Errorf("%s: it was answered", query)
		}
		if closes {
			if _, err := read.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s: stdin was not closed: %v", query, err)
			}
			continue
		}
		at, err := m.WriteStdin(t.Context(), sessionA, -1, nil, false)
		if err != nil || at.Closed || slices.ContainsFunc(m.said(), func(call string) bool { return strings.HasSuffix(call, "last true") }) {
			t.Errorf("%s: %+v, %v, %q", query, at, err, m.said())
		}
	}
}

// A script that has ended, or closed its stdin, is answered at once though the client goes on typing.
func TestStdinThatNobodyReads(t *testing.T) {
	read, write := io.Pipe()
	read.Close()
	m := &stub{stdin: write}
	_, base := start(t, m)
	body, typed := io.Pipe()
	defer typed.Close()
	go io.WriteString(typed, "x")
	resp := send(t, t.Context(), "POST", base+"/sessions/self/stdin", tokenA, body, "Content-Type", typeBytes)
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestStdinNotAskedFor(t *testing.T) {
	_, base := start(t, &stub{})
	if status, body := ask(t, "POST", base+"/sessions/self/stdin", tokenA, "x"); status != 409 || errorOf(t, body).Kind != "conflict" {
		t.Errorf("%d %s", status, body)
	}
}

func TestAwaitLines(t *testing.T) {
	step := make(chan struct{})
	m := &stub{await: func(_ context.Context, _ engine.ID, _ api.Await, progress func(api.AwaitProgress)) (api.Awaited, error) {
		for n := range 1000 { // nobody takes them: the newest is kept, the manager is not held up
			progress(api.AwaitProgress{Done: n, Of: 1000})
		}
		progress(api.AwaitProgress{Done: 7, Of: 9, Waiting: "no room"})
		<-step
		return api.Awaited{Workers: []api.Worker{worker(workerA)}}, nil
	}}
	_, base := start(t, m)
	resp := send(t, t.Context(), "POST", base+"/sessions/self/await", tokenA,
		strings.NewReader(`{"wait_for_completion":true}`), "Accept", typeNDJSON)
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	for {
		var l api.AwaitLine
		if err := d.Decode(&l); err != nil {
			t.Fatal(err)
		}
		if l.Progress != nil && *l.Progress == (api.AwaitProgress{Done: 7, Of: 9, Waiting: "no room"}) {
			close(step)
		}
		if l.Result != nil {
			if len(l.Result.Workers) != 1 || l.Result.Failures == nil {
				t.Errorf("%+v", l.Result)
			}
			break
		}
	}
	m.await = func(_ context.Context, _ engine.ID, _ api.Await, _ func(api.AwaitProgress)) (api.Awaited, error) {
		return api.Awaited{}, engine.Errorf(engine.NotFound, "no such worker")
	}
	for _, accept := range []string{typeNDJSON, typeJSON} { // an error before the first line is a plain error
		status, body := ask(t, "POST", base+"/sessions/self/await", tokenA, `{"wait_for_completion":true}`, "Accept", accept)
		if status != 404 || errorOf(t, body).Message != "no such worker" {
			t.Errorf("%s: %d %s", accept, status, body)
		}
	}
}

// The next server may have the answer: this one gives none.
func TestAwaitWhenTheServerEnds(t *testing.T) {
	waiting := make(chan struct{})
	m := &stub{await: func(ctx context.Context, _ engine.ID, _ api.Await, _ func(api.AwaitProgress)) (api.Awaited, error) {
		close(waiting)
		<-ctx.Done()
		return api.Awaited{}, ctx.Err()
	}}
	s, base := start(t, m)
	go func() { <-waiting; s.Close() }()
	req, err := http.NewRequest("POST", base+"/sessions/self/await", strings.NewReader(`{"wait_for_completion":true}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tokenA)
	req.Header.Set("Content-Type", "application/json")
	if resp, err := http.DefaultClient.Do(req); err == nil {
		t.Errorf("answered with %s", resp.Status)
		resp.Body.Close()
	}
}

// A client that does not type does not hold up the server's end; stdin stays open for the next server, which the client asks.
func TestCloseLeavesStdin(t *testing.T) {
	read, write := io.Pipe()
	m := &stub{stdin: write}
	s, base := start(t, m)
	body, typed := io.Pipe()
	go func() {
		io.WriteString(typed, "x")
		read.Read(make([]byte, 1)) // the handler is in its copy
		s.Close()
		typed.CloseWithError(io.ErrUnexpectedEOF) // net/http waits for a read of it
	}()
	req, err := http.NewRequest("POST", base+"/sessions/self/stdin", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tokenA)
	if resp, err := http.DefaultClient.Do(req); err == nil {
		t.Errorf("answered with %s", resp.Status)
		resp.Body.Close()
	}
	if calls := m.said(); len(calls) != 1 || !strings.HasSuffix(calls[0], `"x", last false`) {
		t.Errorf("%q", calls)
	}
}

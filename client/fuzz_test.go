package client

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"testing"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

// answers is a server that says the same to everybody.
type answers struct {
	status int
	body   []byte
	ours   bool
}

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	h := http.Header{}
	if a.ours {
		h.Set(api.HeaderVersion, strconv.Itoa(api.Version))
	}
	return &http.Response{StatusCode: a.status, Header: h, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: -1}, nil
}

// FuzzAnswers: whatever answers, the client says what it is: an error with a kind and a message, or what the server meant;
// a stream of anything ends, and every record of it is one that was sent.
func FuzzAnswers(f *testing.F) {
	frames := console.AppendFrame(nil, console.Record{Engine: "a", Stream: console.Stdout, Payload: []byte("hello")}, "s000000000020")
	f.Add(200, []byte(`{"workers":[]}`), true)
	f.Add(404, []byte(`{"kind":"not_found","message":"no"}`), true)
	f.Add(500, []byte("<html>"), false)
	f.Add(200, frames, true)
	f.Add(200, append(bytes.Clone(frames), 1, 2, 3), true)
	f.Fuzz(func(t *testing.T, status int, body []byte, ours bool) {
		if status < 100 || status > 599 {
			return
		}
		c, err := New(Config{Address: "http://127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		c.http.Transport = answers{status, body, ours}
		if _, err := c.Workers(context.Background(), "s", ""); err != nil && (engine.KindOf(err) == "" || err.Error() == "") {
			t.Fatalf("%q, %v", engine.KindOf(err), err)
		}
		s, err := c.Console(context.Background(), "s", "", false)
		if err != nil {
			if ours && status < 300 || engine.KindOf(err) == "" {
				t.Fatal(err)
			}
			return
		}
		defer s.Close()
		sent := 0
		for {
			r, pos, err := s.Next()
			if err != nil {
				break
			}
			if !bytes.Contains(body, r.Payload) || !bytes.Contains(body, []byte(pos)) {
				t.Fatalf("%+v at %q was never sent", r, pos)
			}
			if sent++; sent > 10*len(body)+10 {
				// a server that says the same at every position: the stream is taken up again and again while it brings something
				break
			}
		}
	})
}

package manager_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"muster/api"
	"muster/internal/manager"
	"muster/internal/server"
)

// remote is a bench behind the server's routes, as clients meet it.
type remote struct {
	*bench
	url, token string
}

func newRemote(b *testing.B) remote {
	m := newBench(b, ahead, recorded(b), capacity(manager.Capacity{MemoryBytes: 1e15, CPU: 1e6}))
	h := httptest.NewServer(server.New(server.Config{Manager: m.Manager}).Handler())
	b.Cleanup(h.Close)
	return remote{m, h.URL + api.Base, "owner"}
}

// ask sends a request and returns the reply's text.
func (r remote) ask(method, path string, body any) []byte {
	r.t.Helper()
	var sent bytes.Buffer
	if body != nil {
		json.NewEncoder(&sent).Encode(body)
	}
	req, err := http.NewRequest(method, r.url+path, &sent)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Content-Type", "application/json")
	reply, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if reply.StatusCode >= 300 || err != nil {
		r.t.Fatalf("%s %s: %s, %v: %s", method, path, reply.Status, err, text)
	}
	return text
}

// get decodes what ask returns.
func get[T any](r remote, method, path string, body any) (into T) {
	r.t.Helper()
	if err := json.Unmarshal(r.ask(method, path, body), &into); err != nil {
		r.t.Fatal(err)
	}
	return into
}

// BenchmarkLaunch is the server's part of one launch after the other: request, records, reply, engine, end, and the answer to who awaits.
func BenchmarkLaunch(b *testing.B) {
	r := newRemote(b)
	id := string(r.session())
	b.ReportAllocs()
	for b.Loop() {
		ws := get[api.Workers](r, "POST", "/sessions/"+id+"/workers", worker(1, "exit 0")).Workers
		get[api.Awaited](r, "POST", "/sessions/"+id+"/await", api.Await{IDs: ids(ws), Completion: true})
	}
}

// BenchmarkListing lists the thousand workers of a session.
func BenchmarkListing(b *testing.B) {
	r := newRemote(b)
	id := r.session()
	r.awaitEnd(id, ids(r.launch(id, worker(1000, "exit 0")))...)
	b.ReportAllocs()
	for b.Loop() {
		if text := r.ask("GET", "/sessions/"+string(id)+"/workers", nil); len(text) < 1000*100 {
			b.Fatalf("not all workers are listed: %s", text)
		}
	}
}

// BenchmarkConsole reads a console of 100,000 lines, as who follows it does.
func BenchmarkConsole(b *testing.B) {
	r := newRemote(b)
	id := r.session()
	r.awaitEnd(id, ids(r.launch(id, worker(10, "numbers 10000")))...)
	b.ReportAllocs()
	for b.Loop() {
		text := r.ask("GET", "/sessions/"+string(id)+"/console", nil)
		b.SetBytes(int64(len(text)))
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// api speaks to the server as any HTTP client could.
type api struct {
	http   *http.Client
	socket string
	token  string // the file with it
}

func (w *world) api(socket string) *api {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	return &api{http: &http.Client{Transport: t}, socket: socket, token: filepath.Join(w.runtime, "token")}
}

func (w *world) socket() string { return filepath.Join(w.runtime, "server.sock") }

func (a *api) do(ctx context.Context, method, path, accept string, body any) (*http.Response, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost/muster/v1"+path, in)
	if err != nil {
		return nil, err
	}
	token, _ := os.ReadFile(a.token) // none: the server says that it wants one
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Accept", accept)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	r, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	if r.StatusCode >= 300 {
		defer r.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(r.Body, 2000))
		return nil, &statusError{r.StatusCode, string(b)}
	}
	return r, nil
}

// statusError is a reply that says no.
type statusError struct {
	code int
	body string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.code, e.body) }

func (a *api) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	r, err := a.do(ctx, "GET", path, "application/json", nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	return json.NewDecoder(r.Body).Decode(into)
}

// engineInfo is what the API tells of an engine, as far as it is checked.
type engineInfo struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	ExitCode *int   `json:"exit_code"`
	Reason   string `json:"reason"`
}

func (e engineInfo) code() int {
	if e.ExitCode == nil {
		return noCode
	}
	return *e.ExitCode
}

type sessionInfo struct {
	ID     string     `json:"id"`
	Ended  bool       `json:"ended"`
	Engine engineInfo `json:"engine"`
}

func (a *api) sessions() ([]sessionInfo, error) {
	var all []sessionInfo
	return all, a.get("/sessions", &all)
}

func (a *api) workers(session string) ([]engineInfo, error) {
	var all struct{ Workers []engineInfo }
	return all.Workers, a.get("/sessions/"+session+"/workers", &all)
}

// answers reports whether a server answers.
func (a *api) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r, err := a.do(ctx, "GET", "/version", "application/json", nil)
	if err == nil {
		r.Body.Close()
	}
	return err == nil
}

package server

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

// dashboards is the route under which the engines of session A's project are.
func dashboards(base string) string {
	return address(base, api.Original+"/projects/{owner}/{slug}/dashboards", projectA, "")
}

// What clients of the original send, and what the Manager is asked then.
func TestOriginalLaunchBodies(t *testing.T) {
	var asked *api.LaunchWorkers
	m := &stub{launch: func(_ context.Context, id engine.ID, req api.LaunchWorkers) (api.Workers, func(), error) {
		if id != sessionA {
			t.Errorf("launched in %s", id)
		}
		asked = &req
		return api.Workers{Workers: []api.Worker{worker(workerA)}}, func() {}, nil
	}}
	_, base := start(t, m)
	usual := func(change func(*api.LaunchWorkers)) *api.LaunchWorkers {
		req := &api.LaunchWorkers{N: 1, CPU: 0.5, Memory: 1}
		change(req)
		return req
	}
	same := func(*api.LaunchWorkers) {}
	env := func(e map[string]string) func(*api.LaunchWorkers) { return func(r *api.LaunchWorkers) { r.Env = e } }
	for more, want := range map[string]*api.LaunchWorkers{
		``: usual(same),
		`,"kernel":"r","script":"w.r","code":"1","name":"mine","nvidia_gpu":2`: usual(func(r *api.LaunchWorkers) {
			r.Kernel, r.Script, r.Code, r.Name, r.GPUs = "r", "w.r", "1", "mine", 2
		}),
		`,"kernel":["r"],"cpu":[" 2.5 "],"memory":"0.1","nvidia_gpu":"1"`: usual(func(r *api.LaunchWorkers) {
			r.Kernel, r.CPU, r.Memory, r.GPUs = "r", 2.5, 0.1, 1
		}),
		`,"kernel":null,"script":null,"code":null,"nvidia_gpu":null,"name":null`:       usual(same),
		`,"script":"","code":[],"nvidia_gpu":"","n":7,"later":{"a":1}`:                 usual(same),
		`,"accelerator_label_id":-1,"resource_profile_id":null,"resource_group_id":""`: usual(same),
		`,"accelerator_label_id":"3","resource_profile_id":4,"resource_group_id":[5]`:  usual(same),
		`,"master_id":"` + string(sessionA) + `"`:                                      usual(same),
		`,"master_id":"` + string(workerA) + `"`:                                       usual(same), // of a worker's: its master
		`,"master_id":null`:                                                            usual(same),
		`,"env":""`:                                                                    usual(same),
		`,"env":[]`:                                                                    usual(same),
		`,"env":{}`:                                                                    usual(same),
		`,"env":null`:                                                                  usual(same),
		`,"env":[""]`:                                                                  usual(same),
		`,"env":{"A":"a","N":1,"F":0.5,"L":10000000,"B":true,"X":null,"O":{"k":[1]},"R":["r"],"S":" 1 ","E":""}`: usual(env(map[string]string{
			"A": "a", "N": "1", "F": "0.5", "L": "10000000", "B": "true", "X": "", "O": `{"k":[1]}`, "R": "r", "S": " 1 ", "E": "",
		})),
	} {
		for _, contentType := range []string{"application/json", "application/x-www-form-urlencoded", "text/plain; charset=utf-8"} {
			asked = nil
			status, body := ask(t, "POST", dashboards(base), tokenA, `{"cpu":0.5,"memory":1`+more+`}`, "Content-Type", contentType)
			if status != 200 || !strings.Contains(body, string(workerA)) || asked == nil {
				t.Errorf("%s as %s: %d %s", more, contentType, status, body)
				continue
			}
			got := *asked
			if !maps.Equal(got.Env, want.Env) {
				t.Errorf("%s: env %q, want %q", more, got.Env, want.Env)
			}
			if got.N != want.N || got.CPU != want.CPU || got.Memory != want.Memory || got.GPUs != want.GPUs ||
				got.Kernel != want.Kernel || got.Script != want.Script || got.Code != want.Code || got.Name != want.Name {
				t.Errorf("%s: asked for %+v, want %+v", more, got, *want)
			}
		}
	}
}

// What is refused has what clients of the original make a refused worker of: the keys, and no id.
func TestOriginalRefusals(t *testing.T) {
	asked := 0
	m := &stub{}
	m.launch = func(context.Context, engine.ID, api.LaunchWorkers) (api.Workers, func(), error) {
		asked++
		switch asked {
		case 1:
			return api.Workers{Workers: []api.Worker{{Status: "failed", Message: "too large", K8sMessage: "too large", EngineID: "e"}}}, func() {}, nil
		default:
			return api.Workers{}, func() {}, engine.Errorf(engine.Conflict, "the session has ended")
		}
	}
	_, base := start(t, m)
	for _, c := range []struct {
		token, body, says string
		status            int
	}{
		{tokenA, `{"cpu":"many","memory":1}`, `cpu must be a number, not "many"`, 400},
		{tokenA, `{"cpu":1,"memory":{"a":1}}`, `memory must be a number, not {"a":1}`, 400},
		{tokenA, `{"cpu":true,"memory":1}`, `cpu must be a number, not true`, 400},
		{tokenA, `{"cpu":1,"memory":1,"nvidia_gpu":0.5}`, `nvidia_gpu must be a whole number, not 0.5`, 400},
		{tokenA, `{"cpu":1,"memory":1,"nvidia_gpu":"nan"}`, `nvidia_gpu must be a whole number, not "nan"`, 400},
		{tokenA, `{"cpu":1,"memory":1,"code":7}`, `code must be text, not 7`, 400},
		{tokenA, `{"cpu":1,"memory":1,"env":["a","b"]}`, `env must be an object of names and values, not ["a","b"]`, 400},
		{tokenA, `{"cpu":1,"memory":1,"env":"A=1"}`, `env must be an object`, 400},
		{tokenA, `{"cpu":1,"memory":1,"master_id":"` + string(sessionB) + `"}`, `there is no engine "bbbbbbbbbbbbbbbb" in the project ada/one`, 404},
		{tokenA, `{"cpu":1,"memory":1,"master_id":"wa1"}`, `there is no engine "wa1"`, 404},
		{tokenB, `{"cpu":1,"memory":1}`, `in the project ada/one`, 404}, // its own session is in another project
		{tokenB, `{"cpu":1,"memory":1,"master_id":"` + string(sessionA) + `"}`, `there is no engine`, 404},
		{ownerToken, `{"cpu":1,"memory":1}`, `master_id is missing`, 400},
		{ownerToken, `{"cpu":1,"memory":1,"master_id":"` + string(sessionB) + `"}`, `there is no engine`, 404},
		{tokenA, `{"cpu":1,"memory":1}`, `too large`, 400},
		{tokenA, `{"cpu":1,"memory":1}`, `the session has ended`, 409},
	} {
		status, body := ask(t, "POST", dashboards(base), c.token, c.body)
		var got map[string]any
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%s: %q: %v", c.body, body, err)
		}
		message, _ := got["message"].(string)
		_, engineID := got["engineId"]
		if _, id := got["id"]; id || status != c.status || !strings.Contains(message, c.says) || got["k8sMessage"] != message || !engineID {
			t.Errorf("%s by %s: %d %s, want %d %s", c.body, c.token, status, body, c.status, c.says)
		}
	}
	if asked != 2 {
		t.Errorf("the manager was asked %d times", asked)
	}
	// Not even an object.
	for _, body := range []string{``, `{`, `[]`, `"x"`, `null`} {
		status, reply := ask(t, "POST", dashboards(base), tokenA, body)
		if status < 400 || status >= 500 || strings.Contains(reply, `"id"`) {
			t.Errorf("%q: %d %s", body, status, reply)
		}
		errorOf(t, reply)
	}
}

func TestOriginalReads(t *testing.T) {
	m := &stub{}
	s, base := start(t, m)
	s.site = api.SiteConfig{MaxGPUs: 2, Accelerator: -1, MaxCPU: 4, MaxMemory: 24}
	root := strings.TrimSuffix(base, api.Base)
	engines := dashboards(base)
	for _, c := range []struct {
		method, url, token string
		status             int
		says               string
	}{
		{"GET", engines + "/" + string(workerA), tokenA, 200, `"id":"wa11111111111111"`},
		{"GET", engines + "/" + string(workerA) + "/", tokenA, 200, `"id":"wa11111111111111"`},
		{"GET", engines + "/" + string(sessionA), ownerToken, 200, `"id":"aaaaaaaaaaaaaaaa"`},
		{"GET", engines + "/wa1", tokenA, 404, `there is no engine`},
		{"GET", engines + "/wa1", ownerToken, 404, `there is no engine`},
		{"GET", engines + "/" + string(workerB), ownerToken, 404, `in the project ada/one`},
		{"GET", engines + "/" + string(workerA), tokenB, 404, `there is no engine`},
		{"GET", engines + "/" + string(sessionA) + "/workers", tokenA, 200, `[{"id":"wa22222222222222"`},
		{"GET", engines + "/" + string(workerA) + "/workers/", tokenA, 200, `[{"id":"wa22222222222222"`},
		{"GET", engines + "/" + string(sessionB) + "/workers", tokenA, 404, `there is no engine`},
		{"PUT", engines + "/" + string(workerA) + "/stop", tokenA, 204, ``},
		{"PUT", engines + "/" + string(workerA) + "/stop/", tokenA, 204, ``},
		{"PUT", engines + "/w999999999999999/stop", tokenA, 404, `there is no engine`},
		{"PUT", engines + "/" + string(workerB) + "/stop", tokenA, 404, `there is no engine`},
		{"PUT", engines + "/" + string(sessionA) + "/stop", tokenA, 204, ``},
		{"GET", root + "/api/v1/site/config", tokenA, 200, `"max_gpu_per_engine":2,"default_accelerator_label_id":-1,`},
		{"GET", root + "/api/v1/site/config/", tokenB, 200, `"max_gpu_per_engine":2,`},
		{"GET", root + "/api/v1/site/config/", "", 401, `no token`},
		{"GET", root + "/api/v1/users/ada", tokenA, 404, `there is no route /api/v1/users/ada`},
		{"DELETE", engines + "/" + string(workerA), tokenA, 405, `only GET`},
		{"GET", root + "/api/v2/projects", tokenA, 501, `version 2 of the original's API is not served`},
		{"POST", root + "/api/v2", tokenA, 501, `below /api/v1`},
		{"GET", root + "/api/v2/projects", "", 401, `no token`},
		{"GET", root + "/api/v22", tokenA, 404, `there is no route`},
	} {
		status, body := ask(t, c.method, c.url, c.token, "")
		if status != c.status || !strings.Contains(body, c.says) || status == 204 && body != "" {
			t.Errorf("%s %s by %q: %d %q, want %d %q", c.method, c.url, c.token, status, body, c.status, c.says)
		}
		if status >= 400 {
			errorOf(t, body)
		}
	}
	if got := strings.Join(m.calls, "; "); got != "stop in aaaaaaaaaaaaaaaa by session aaaaaaaa; stop in aaaaaaaaaaaaaaaa by session aaaaaaaa; end aaaaaaaaaaaaaaaa by session aaaaaaaa" {
		t.Errorf("the manager was asked: %s", got)
	}
}

// A worker of an original's launch too begins when the client has its reply.
func TestOriginalReleaseComesAfterTheReply(t *testing.T) {
	gotReply, released := make(chan struct{}), make(chan bool, 2)
	m := &stub{launch: launched(func() {
		select {
		case <-gotReply:
			released <- true
		case <-time.After(patience):
			released <- false
		}
	})}
	_, base := start(t, m)
	if status, body := ask(t, "POST", dashboards(base), tokenA, `{"cpu":1,"memory":1}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	close(gotReply)
	if !<-released {
		t.Error("release was called, and the client had no reply")
	}
}

func TestEnginePage(t *testing.T) {
	dir := t.TempDir()
	writer, err := console.OpenWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	log, err := writer.Log(string(workerA))
	if err != nil {
		t.Fatal(err)
	}
	appendTo := func(stream console.Stream, text string) {
		if err := log.Append(stream, 0, time.Now(), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	m := &stub{}
	m.reader, _ = console.Open(dir)
	_, base := start(t, m)
	url := address(base, "/{owner}/{slug}/engines/{id}", projectA, string(workerA))
	page := func() string {
		resp := send(t, t.Context(), "GET", url, tokenA, nil)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" ||
			!strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Fatalf("%v %v", resp, err)
		}
		return string(b)
	}
	if got := page(); !strings.Contains(got, "(nothing yet)") {
		t.Errorf("%s", got)
	}
	appendTo(console.Event, "an event")
	appendTo(console.Stdout, "<script>alert(1)</script>\n")
	appendTo(console.Stderr, "an \xff error\n")
	got := page()
	for _, part := range []string{"&lt;script&gt;alert(1)&lt;/script&gt;\nan � error\n", "&#34;id&#34;: &#34;wa11111111111111&#34;", "<b>running</b>"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not in %s", part, got)
		}
	}
	if strings.Contains(got, "an event") || strings.Contains(got, "<script") || strings.Contains(got, "Only the end") {
		t.Errorf("%s", got)
	}
	for range 10 {
		appendTo(console.Stdout, strings.Repeat("x", 40<<10))
	}
	appendTo(console.Stdout, "the last line\n")
	got = page()
	if !strings.Contains(got, "x"+"the last line\n") || !strings.Contains(got, "Only the end is shown") || len(got) > tailBytes+8<<10 || len(got) < tailBytes {
		t.Errorf("the page of a long log has %d bytes", len(got))
	}
	// A browser asks for a name and a password when it is told to.
	resp := send(t, t.Context(), "GET", url, "", nil)
	resp.Body.Close()
	if ways := strings.Join(resp.Header.Values("WWW-Authenticate"), ", "); resp.StatusCode != 401 || !strings.Contains(ways, "Basic realm=") {
		t.Errorf("%d %s", resp.StatusCode, ways)
	}
	if status, body := ask(t, "GET", url, tokenB, ""); status != 404 {
		t.Errorf("another session's: %d %s", status, body)
	}
}

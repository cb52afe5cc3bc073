package manager_test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver/fake"
	"muster/internal/manager"
	"muster/internal/server"
)

// served is a bench whose API real processes reach.
func served(t *testing.T) *bench {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(c *manager.Config, _ *fake.Options) { c.Web = l.Addr().String() })
	h := server.New(server.Config{Manager: b, Site: api.SiteConfig{MaxGPUs: 0, Accelerator: -1}}).HTTP()
	done := make(chan struct{})
	go func() { h.Serve(l); close(done) }()
	t.Cleanup(func() { h.Close(); <-done })
	return b
}

// environ is the environment that a session's own engine sees, as a process of this machine can use it.
func (b *bench) environ() (engine.ID, []string) {
	b.t.Helper()
	id := b.sessionOf(api.CreateSession{Code: "env\nhang"})
	_, bell, _, err := b.Console(id)
	if err != nil {
		b.t.Fatal(err)
	}
	for {
		rung := bell.Chan()
		if out := b.output(id, "", console.Stdout); strings.Contains(out, "\nUSER=") { // the last name of all
			return id, append(strings.Split(strings.TrimSuffix(out, "\n"), "\n"), "PATH="+os.Getenv("PATH"))
		}
		<-rung
	}
}

// A client written from the route table alone, run by a real Python: it launches, lists and stops.
func TestHTTPOnlyClient(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal("python3 is missing: run scripts/need python3")
	}
	b := served(t)
	id, env := b.environ()
	cmd := exec.Command(python, "../../test/testdata/http_only.py")
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "HTTP alone is enough") {
		t.Fatalf("%v\n%s", err, out)
	}
	// The refused ones are told in the console too, but for what is no launch at all.
	if got := b.messages(id, "refused"); len(got) != 4 {
		t.Errorf("%q", got)
	}
}

// The variables of the original name the address of the option Web, ours the listener in the session's network.
func TestWebAddress(t *testing.T) {
	b := served(t)
	id, env := b.environ()
	get := func(name string) string {
		for _, kv := range env {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				return v
			}
		}
		return ""
	}
	domain := get("CDSW_DOMAIN")
	project := "http://" + domain + "/api/v1/projects/ada/" + strings.ToLower(b.project[strings.LastIndex(b.project, "/")+1:])
	for name, want := range map[string]string{
		"CDSW_API_URL": "http://" + domain + "/api/v1", "CDSW_PROJECT_URL": project, "CDSW_ENGINE_URL": project + "/dashboards/" + string(id),
	} {
		if got := get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := get("MUSTER_URL"); !strings.HasPrefix(got, "http://100.") {
		t.Errorf("MUSTER_URL is %q", got)
	}
	w := b.engine(string(id))
	if w.AppURL != "http://"+string(id)+"."+domain+"/" || w.URL != project+"/dashboards/"+string(id) || !strings.HasPrefix(w.HTMLURL, "http://"+domain+"/ada/") {
		t.Errorf("%+v", w)
	}
	// The links lead somewhere, for whoever has the key.
	for _, url := range []string{w.URL, w.HTMLURL} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(get("CDSW_API_KEY"), "")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", url, resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

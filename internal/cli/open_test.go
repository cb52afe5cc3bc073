package cli

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/api"
)

// opened is a world whose first worker runs and has web addresses at a domain.
func opened(t *testing.T, domain string) *world {
	w := populated(t)
	w.workers = []api.Worker{
		{ID: worker1, Name: "crawl", Status: "running", MasterID: sessionA, AppURL: "http://" + worker1 + "." + domain + "/"},
		{ID: worker2, Name: "old", Status: "failed", MasterID: sessionA, AppURL: "http://" + worker2 + "." + domain + "/", Reason: "exit code", ExitCode: p(3)},
	}
	w.list[1].Engine.AppURL = "http://" + sessionA + "." + domain + "/"
	return w
}

func TestOpenPrintsTheLink(t *testing.T) {
	w := opened(t, "localhost:20202")
	const login = "http://localhost:20202/login?token=owner&to="
	w.expect(0, login+"http%3A%2F%2F"+worker1+".localhost%3A20202%2F\n", "", "open", worker1)
	w.expect(0, login+"http%3A%2F%2Fread-only-"+worker1+".localhost%3A20202%2F\n", "", "open", "--read-only", "w1")
	w.expect(0, "http://public-"+worker1+".localhost:20202/\n", "", "open", "--public", "--print", "w1")
	w.expect(0, login+"http%3A%2F%2F"+sessionA+".localhost%3A20202%2F\n", "", "open", "aaaa")
	w.expect(1, "", "muster: "+worker2+" has ended (exit code 3)\n  try: muster logs "+worker2+"\n", "open", "w2")
	w.expect(1, "", "muster: there is no session or worker \"zz\"\n  try: muster ps\n", "open", "zz")
	w.expect(2, "", "muster: open needs the id of one session or worker, and was given 0\n  try: muster open --help\n", "open")
	w.expect(2, "", "muster: --read-only and --public are two addresses: open one after the other\n  try: muster open --help\n",
		"open", "--read-only", "--public", "w1")
	w.expect(3, "", "muster: no server answers at unix:///nowhere\n  try: start one with: muster up\n", "open", "w1", "--server", "/nowhere")
	w.inEngine().expect(0, strings.Replace(login, "owner", "session", 1)+"http%3A%2F%2F"+worker1+".localhost%3A20202%2F\n", "", "open", worker1)
}

// Where nobody finds the sub-domain the path leads to the same; where there is no name at all there are no web addresses.
func TestOpenWhereSubDomainsDoNotResolve(t *testing.T) {
	w := opened(t, "muster.invalid:80")
	w.expect(0, "http://muster.invalid:80/login?token=owner&to=http%3A%2F%2Fmuster.invalid%3A80%2Fread-only%2F"+worker1+"%2F\n", "", "open", "--read-only", "w1")
	w.expect(0, "http://muster.invalid:80/public/"+worker1+"/\n", "", "open", "--public", "w1")
	opened(t, "100.100.0.1:3456").expect(1, "", "muster: this server has no web addresses of engines\n  try: start it without --web none\n", "open", "w1")
}

// desktop makes a world look like the terminal of one whose browser writes down what it is given.
func (w *world) desktop(t *testing.T, script string) (seen string) {
	dir := t.TempDir()
	seen = filepath.Join(dir, "seen")
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte("#!/bin/sh\necho \"$@\" > "+seen+"\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	w.tty = true
	w.env = append(w.env, "DISPLAY=:0", "MUSTER_HOST="+w.socket)
	return seen
}

// loginServer is a gateway's login, which answers with a code.
func loginServer(t *testing.T, status int) (domain string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.URL.Path != "/login" || r.PostFormValue("token") != "owner" || r.URL.RawQuery != "" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.PostForm)
		}
		w.Header().Set("Location", r.PostFormValue("to")+"?muster_code=once")
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return "localhost:" + port
}

// What is opened holds no token: command lines are seen by everybody.
func TestOpenOpensABrowser(t *testing.T) {
	domain := loginServer(t, http.StatusSeeOther)
	w := opened(t, domain)
	seen := w.desktop(t, "")
	for _, c := range []struct{ args, want string }{
		{"open w1", "http://" + worker1 + "." + domain + "/?muster_code=once\n"},
		{"open --read-only w1", "http://read-only-" + worker1 + "." + domain + "/?muster_code=once\n"},
		{"open --public w1", "http://public-" + worker1 + "." + domain + "/\n"},
	} {
		w.out.Reset()
		if code := w.run(strings.Fields(c.args)...); code != 0 || !strings.HasPrefix(w.out.String(), "http://") {
			t.Errorf("%s: %d %q %q", c.args, code, w.out.String(), w.err.String())
		}
		if got, err := os.ReadFile(seen); err != nil || string(got) != c.want {
			t.Errorf("%s: opened %q, %v; want %q", c.args, got, err, c.want)
		}
		os.Remove(seen)
	}
	for what, change := range map[string]func(){
		"--print":         func() {},
		"no desktop":      func() { w.env = append(w.env, "DISPLAY=") },
		"another machine": func() { w.env = append(w.env, "DISPLAY=:0", "MUSTER_HOST="+w.address) },
		"no terminal":     func() { w.env = append(w.env, "MUSTER_HOST="+w.socket); w.tty = false },
	} {
		keep, tty := w.env, w.tty
		change()
		args := []string{"open", "w1"}
		if what == "--print" {
			args = append(args, what)
		}
		if code := w.run(args...); code != 0 {
			t.Errorf("%s: %d %s", what, code, w.err.String())
		}
		if _, err := os.Stat(seen); err == nil {
			t.Errorf("%s: a browser was opened", what)
			os.Remove(seen)
		}
		w.env, w.tty = keep, tty
	}
}

func TestOpenFailsWithTheLinkPrinted(t *testing.T) {
	w := opened(t, loginServer(t, http.StatusSeeOther))
	w.desktop(t, "echo no browser >&2\nexit 3\n")
	code := w.run("open", "w1")
	if code != 1 || !strings.HasPrefix(w.out.String(), "http://localhost") ||
		w.err.String() != "no browser\nmuster: the browser could not be opened: exit status 3\n  try: open the link that is printed above\n" {
		t.Errorf("%d %q %q", code, w.out.String(), w.err.String())
	}
	domain := loginServer(t, http.StatusUnauthorized)
	w = opened(t, domain)
	seen := w.desktop(t, "")
	if code := w.run("open", "w1"); code != 1 || !strings.Contains(w.err.String(), "the login at http://"+domain+"/login answered with 401") {
		t.Errorf("%d %q", code, w.err.String())
	}
	if _, err := os.Stat(seen); err == nil {
		t.Error("a browser was opened")
	}
}

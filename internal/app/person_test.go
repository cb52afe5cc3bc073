package app

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// accepted is a connection that a user's program made to an address.
func accepted(t *testing.T, uid int, listen string) *net.TCPConn {
	t.Helper()
	l, err := net.Listen("tcp4", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	cmd := exec.Command("bash", "-c", `exec 3<>/dev/tcp/$0/$1 && read -u 3 _`, host, port)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.Dir = "/"
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), NoSetGroups: true}}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("%v %s", err, errs.String())
	}
	t.Cleanup(func() { c.Close(); cmd.Wait() })
	return c.(*net.TCPConn)
}

// ownAddress is one of the machine's that is not of its loopback.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("capability network: this machine has no address but its loopback's")
	return ""
}

func TestWhoIsThePerson(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test needs root for other users")
	}
	const me, other = 1234, 1235
	mine := accepted(t, me, "127.0.0.1:0")
	for _, c := range []struct {
		name string
		conn *net.TCPConn
		uid  int // of the server
		want bool
	}{
		{"my own", mine, me, true},
		{"mine, to another user's server", mine, other, false},
		{"mine, to root's server", mine, 0, false},
		{"root's, to mine", accepted(t, 0, "127.0.0.1:0"), me, false},
		{"root's, to root's", accepted(t, 0, "127.0.0.1:0"), 0, false},
		{"a user without a number here", accepted(t, nobodyUID, "127.0.0.1:0"), nobodyUID, false},
	} {
		if got := isPerson(c.conn, c.uid); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	t.Run("not over the loopback", func(t *testing.T) {
		if isPerson(accepted(t, me, ownAddress(t)+":0"), me) {
			t.Error("the way that engines' connections are passed on")
		}
	})
}

// The connection is asked for by its requests, and what was there before stays.
func TestPersonOfARequest(t *testing.T) {
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, ok := personOf(r.Context())
		_, nobody := personOf(t.Context())
		fmt.Fprint(w, ok, nobody)
		if ok && !who.Owner {
			t.Errorf("the person is %+v", who)
		}
	})}
	new(app).knowPersons(h)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { h.Serve(l); close(served) }()
	defer func() { h.Close(); <-served }()
	res, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	if want := fmt.Sprint(os.Geteuid() != 0, false); strings.ReplaceAll(string(b), " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("%q, want %q", b, want)
	}
}

package app

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/internal/cli"
)

func TestTokenIsThereBeforeTheSocket(t *testing.T) {
	dir := t.TempDir()
	o := cli.UpOptions{Listen: "unix://" + filepath.Join(dir, "s"), TokenFile: filepath.Join(dir, "token")}
	os.WriteFile(o.TokenFile, []byte("an older and longer one, which everybody may read\n"), 0o644)
	l, err := announce(o, "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(o.TokenFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if b, _ := os.ReadFile(o.TokenFile); string(b) != "secret\n" {
		t.Errorf("the token's file says %q", b)
	}
	if names := list(t, dir); names != "s token" {
		t.Errorf("left: %s", names)
	}

	// Where the token cannot be written, nothing listens.
	o = cli.UpOptions{Listen: "unix://" + filepath.Join(dir, "s2"), TokenFile: filepath.Join(dir, "no", "token")}
	if _, err := announce(o, "secret"); err == nil || !strings.Contains(err.Error(), "the server's token cannot be written") {
		t.Errorf("error %v", err)
	}
	if _, err := net.Dial("unix", filepath.Join(dir, "s2")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket answers: %v", err)
	}
}

func TestTokenGoesWhereNothingListens(t *testing.T) {
	dir := t.TempDir()
	o := cli.UpOptions{Listen: "unix://" + filepath.Join(dir, "no", "s"), TokenFile: filepath.Join(dir, "token")}
	if _, err := announce(o, "secret"); err == nil || !strings.Contains(err.Error(), "cannot listen on") {
		t.Errorf("error %v", err)
	}
	if names := list(t, dir); names != "" {
		t.Errorf("left: %s", names)
	}
	os.Mkdir(o.TokenFile, 0o700) // cannot be replaced by a file
	if _, err := announce(o, "secret"); err == nil {
		t.Error("no error")
	}
	if names := list(t, dir); names != "token" {
		t.Errorf("left: %s", names)
	}
}

func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// A request that goes on when the time is over is cut off.
func TestEndOfHTTPIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked, over := make(chan struct{}), make(chan struct{})
	h := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(over)
	})}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&app{http: h}).endHTTP(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	select {
	case <-over:
	case <-time.After(30 * time.Second):
		t.Fatal("the request was not cut off")
	}
	<-served
}

// What sessions that were adopted make at that moment, as folders of their engines, keeps its mode; the socket has its own.
func TestListeningChangesNoOtherFile(t *testing.T) {
	dir, stop, wrong := t.TempDir(), make(chan struct{}), make(chan os.FileMode, 1)
	go func() {
		defer close(wrong)
		for {
			select {
			case <-stop:
				return
			default:
			}
			made := filepath.Join(dir, "made")
			os.Mkdir(made, 0o700)
			if info, err := os.Stat(made); err == nil && info.Mode().Perm() != 0o700 {
				wrong <- info.Mode()
				return
			}
			os.Remove(made)
		}
	}()
	for range 2000 {
		for shared, mode := range map[bool]os.FileMode{false: 0o600, true: 0o666} {
			l, err := listen("unix://"+filepath.Join(dir, "s"), shared)
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(filepath.Join(dir, "s")); err != nil || info.Mode().Perm() != mode {
				t.Errorf("shared %v: %v, %v", shared, info, err)
			}
			l.Close()
		}
	}
	close(stop)
	if mode, found := <-wrong; found {
		t.Errorf("a folder of another got the mode %v", mode)
	}
}

package app

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muster/engine"
	"muster/internal/cli"
)

// The server's own certificate stays the same, whoever trusts it, until it is about to end; one that is damaged is not replaced in
// silence.
func TestOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	self := cli.TLSOptions{Self: true}
	first, err := certificate(self, dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := certificate(self, dir)
	if err != nil || fingerprint(again) != fingerprint(first) || !strings.HasPrefix(fingerprint(first), "sha256//") {
		t.Errorf("%v", err)
	}
	for _, name := range []string{ownCertFile, ownKeyFile} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	if err := first.Leaf.VerifyHostname("localhost"); err != nil {
		t.Error(err)
	}
	cert, key := filepath.Join(dir, ownCertFile), filepath.Join(dir, ownKeyFile)
	if err := ownCertificate(cert, key, time.Now().Add(ownCertLife-ownCertRest+time.Hour)); err != nil {
		t.Fatal(err)
	}
	if later, err := tls.LoadX509KeyPair(cert, key); err != nil || fingerprint(&later) == fingerprint(first) {
		t.Errorf("one that is about to end stays: %v", err)
	}
	if err := os.WriteFile(key, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := certificate(self, dir); err == nil || !strings.Contains(err.Error(), "cannot be made") {
		t.Errorf("a damaged one: %v", err)
	}
	if _, err := certificate(cli.TLSOptions{Cert: cert, Key: "/nowhere/key.pem"}, dir); engine.KindOf(err) != engine.Invalid || !strings.Contains(err.Error(), "/nowhere/key.pem") {
		t.Errorf("%v", err)
	}
	if c, err := certificate(cli.TLSOptions{}, dir); c != nil || err != nil {
		t.Errorf("unasked: %v %v", c, err)
	}
}

// Nothing is sent in plain text over a network unless somebody says so.
func TestPlainTextHasToBeAskedFor(t *testing.T) {
	tls := cli.TLSOptions{Self: true}
	for _, c := range []struct {
		o  cli.UpOptions
		ok bool
	}{
		{cli.UpOptions{Listen: "unix:///s"}, true},
		{cli.UpOptions{Listen: "tcp://127.0.0.1:1"}, true},
		{cli.UpOptions{Listen: "tcp://[::1]:1"}, true},
		{cli.UpOptions{Listen: "tcp://localhost:1"}, true},
		{cli.UpOptions{Listen: "tcp://0.0.0.0:1"}, false},
		{cli.UpOptions{Listen: "tcp://:1"}, false},
		{cli.UpOptions{Listen: "tcp://box.example:1"}, false},
		{cli.UpOptions{Listen: "tcp://127.0.0.1.evil.example:1"}, false},
		{cli.UpOptions{Listen: "tcp://10.0.0.1:1", TLS: tls}, true},
		{cli.UpOptions{Listen: "tcp://10.0.0.1:1", Insecure: true}, true},
		{cli.UpOptions{Listen: "unix:///s", TCP: "tcp://10.0.0.1:1"}, false},
		{cli.UpOptions{Listen: "unix:///s", TCP: "tcp://10.0.0.1:1", TLS: tls}, true},
		{cli.UpOptions{Listen: "unix:///s", Web: "none"}, true},
		{cli.UpOptions{Listen: "unix:///s", Web: "127.0.0.1:0"}, true},
		{cli.UpOptions{Listen: "unix:///s", Web: "0.0.0.0:80"}, false},
		{cli.UpOptions{Listen: "unix:///s", Web: "box.example:80", TLS: tls}, false},
		{cli.UpOptions{Listen: "unix:///s", Web: "box.example:80", Insecure: true}, true},
	} {
		if err := checkPlain(c.o); (err == nil) != c.ok || err != nil && (engine.KindOf(err) != engine.Invalid || !strings.Contains(engine.HintOf(err), "--insecure")) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}

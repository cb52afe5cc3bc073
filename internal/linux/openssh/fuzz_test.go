package openssh

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// FuzzAccounts: of account files at most one line is changed, and in it the one field; no other user's is.
func FuzzAccounts(f *testing.F) {
	f.Add("root:x:0:0::/root:/bin/sh\nada:x:7:7::/:/usr/sbin/nologin\nada:x:7:7::/:/bin/false", 7, "ada")
	f.Add("ada:!:1::::::\nroot:*:1", 0, "ada")
	f.Add("tty:x:5:ada\ntty2:x:6:\n", -1, "tty")
	f.Fuzz(func(t *testing.T, text string, uid int, name string) {
		file := []byte(text)
		never := func(string) bool { return false }
		if user, changed := shellFor(file, uid, never); changed != nil {
			was, is := oneLine(t, file, changed)
			if was[2] != strconv.Itoa(uid) || was[0] != user || is[6] != "/bin/sh" || strings.Join(was[:6], ":") != strings.Join(is[:6], ":") {
				t.Fatalf("%q became %q", was, is)
			}
		}
		if changed := unlocked(file, name); changed != nil {
			was, is := oneLine(t, file, changed)
			if was[0] != name || is[0] != name || is[1] != "*" || strings.Join(was[2:], ":") != strings.Join(is[2:], ":") {
				t.Fatalf("%q became %q", was, is)
			}
		}
		for line := range bytes.Lines(withoutGroup(file, "tty")) {
			if bytes.HasPrefix(line, []byte("tty:")) || !bytes.Contains(file, line) {
				t.Fatalf("%q of %q", line, file)
			}
		}
	})
}

// oneLine returns the fields of the one line that differs.
func oneLine(t *testing.T, before, after []byte) (was, is []string) {
	a, b := strings.Split(string(before), "\n"), strings.Split(string(after), "\n")
	if len(a) != len(b) {
		t.Fatalf("%d lines became %d", len(a), len(b))
	}
	for i := range a {
		if a[i] == b[i] {
			continue
		}
		if was != nil {
			t.Fatalf("more than one line changed: %q", after)
		}
		was, is = strings.Split(a[i], ":"), strings.Split(b[i], ":")
	}
	if len(was) != len(is) || was == nil {
		t.Fatalf("%q became %q", before, after)
	}
	return was, is
}

// FuzzClientConfig: the host's own file stands whole at the end, behind a line that ends the group's conditions.
func FuzzClientConfig(f *testing.F) {
	f.Add([]byte("Host *\n  Port 22\n"), 16)
	f.Add([]byte{0xff, 0, '\n'}, 9)
	f.Fuzz(func(t *testing.T, host []byte, bits int) {
		if bits < 9 || bits > 32 {
			return
		}
		network := netip.PrefixFrom(netip.MustParseAddr("100.100.0.0"), bits).Masked()
		got := (Group{Network: network, Folder: "/x"}).ClientConfig(host)
		head, ok := bytes.CutSuffix(got, host)
		if !ok || !bytes.HasSuffix(head, []byte("Match all\n\n")) {
			t.Fatalf("%q", got)
		}
		for _, prefix := range dotted(network) {
			if !bytes.Contains(head, []byte(prefix)) || strings.Count(prefix, ".") > 3 {
				t.Fatalf("%s is missing in %q", prefix, head)
			}
		}
	})
}

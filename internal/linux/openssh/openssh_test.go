package openssh

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func newGroup(t *testing.T, network string) Group {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return Group{Key: key, Network: netip.MustParsePrefix(network), Folder: t.TempDir()}
}

func program(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing: run scripts/need ssh", name)
	}
}

// OpenSSH reads the key, and finds the same public one in it.
func TestKeyIsOpenSSHs(t *testing.T) {
	program(t, "ssh-keygen")
	g := newGroup(t, "100.100.0.0/16")
	file := filepath.Join(g.Folder, keyFile)
	if err := os.WriteFile(file, g.Key.Private(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh-keygen", "-y", "-f", file).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != g.Key.Public()+" muster" {
		t.Errorf("%v: %s; want %s", err, out, g.Key.Public())
	}
	if other := newGroup(t, "100.100.0.0/16"); slices.Equal(other.Key, g.Key) {
		t.Error("two groups have one key")
	}
	if Key(g.Key[:32]).Check() == nil || g.Key.Check() != nil {
		t.Error("Check does not tell keys from others")
	}
}

func TestDotted(t *testing.T) {
	for network, want := range map[string]string{
		"100.100.0.0/16": "100.100.",
		"10.0.0.0/8":     "10.",
		"10.1.2.0/24":    "10.1.2.",
		"10.8.0.0/15":    "10.8. 10.9.",
		"10.1.2.128/30":  "10.1.2.128 10.1.2.129 10.1.2.130 10.1.2.131",
	} {
		if got := strings.Join(dotted(netip.MustParsePrefix(network)), " "); got != want {
			t.Errorf("%s: %s, want %s", network, got, want)
		}
	}
}

// The client itself says which port and which known host it takes for an address or a name.
func TestClientConfig(t *testing.T) {
	program(t, "ssh")
	g := newGroup(t, "127.8.0.0/15")
	file := filepath.Join(g.Folder, "config")
	// A name of an engine's form that leads elsewhere, and the host's own options for everybody.
	config := g.ClientConfig([]byte("ConnectTimeout 77\nHost far\n  Port 99\n"))
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"localhost": "2222", "127.8.0.7": "2222", "127.9.1.2": "2222", "127.10.1.2": "22", "far": "99", "a.example": "22",
		"nosuchmachine123": "22", // 16 letters and digits, no address of ours
	} {
		out, err := exec.Command("ssh", "-G", "-F", file, host).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", host, err, out)
		}
		options := strings.Split(string(out), "\n")
		if !slices.Contains(options, "port "+want) || !slices.Contains(options, "connecttimeout 77") {
			t.Errorf("%s: want port %s and the host's own options:\n%s", host, want, out)
		}
		if slices.Contains(options, "hostkeyalias "+hostAlias) != (want == "2222") {
			t.Errorf("%s has the alias, or lacks it:\n%s", host, out)
		}
	}
}

// What the server runs hands on environment, folder, command and exit code, whatever characters they hold.
func TestRunScript(t *testing.T) {
	g := newGroup(t, "100.100.0.0/16")
	dir := filepath.Join(g.Folder, "it's a $(folder)")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	odd := "a 'b' \"c\"\nd $HOME `e` \\ ü"
	files := g.Files(dir, []string{"ODD=" + odd, "strange.name=1", "EMPTY=", "-dash=2", "SSH_CONNECTION=other", "TERM=dumb"})
	file := filepath.Join(g.Folder, runFile)
	if err := os.WriteFile(file, files[runFile], 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(command string, env ...string) (string, int) {
		cmd := exec.Command("/bin/sh", file) // the user's shell is bash, because dash hands on no strange names
		cmd.Env = append([]string{"PATH=/usr/bin:/bin", "SHELL=/bin/bash", "SSH_CONNECTION=mine", "SSH_ORIGINAL_COMMAND=" + command}, env...)
		out, err := cmd.Output()
		if _, exited := err.(*exec.ExitError); err != nil && !exited {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := run("env -0; exit 7")
	got := strings.Split(out, "\x00")
	for _, want := range []string{"ODD=" + odd, "strange.name=1", "EMPTY=", "-dash=2", "SSH_CONNECTION=mine", "TERM=dumb"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
	if strings.Contains(out, "SSH_ORIGINAL_COMMAND") || code != 7 {
		t.Errorf("exit code %d, environment %q", code, got)
	}
	if out, _ := run("pwd"); out != dir+"\n" {
		t.Errorf("works in %q, want %q", out, dir)
	}
	if out, _ := run("printf %s \"$TERM\"", "SSH_TTY=/dev/pts/0", "TERM=xterm"); out != "xterm" {
		t.Errorf("a terminal's TERM became %q", out)
	}
}

func TestShellFor(t *testing.T) {
	const passwd = "root:x:0:0::/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\nother:x:65534:1::/:/bin/sh\n"
	usable := func(shell string) bool { return shell == "/bin/bash" }
	if user, changed := shellFor([]byte(passwd), 0, usable); user != "root" || changed != nil {
		t.Errorf("%s %s", user, changed)
	}
	user, changed := shellFor([]byte(passwd), 65534, usable)
	if want := strings.Replace(passwd, "/usr/sbin/nologin", "/bin/sh", 1); user != "nobody" || string(changed) != want {
		t.Errorf("%s\n%s", user, changed)
	}
	if user, changed := shellFor([]byte(passwd), 7, usable); user != "" || changed != nil {
		t.Errorf("%s %s", user, changed)
	}
}

func TestUnlocked(t *testing.T) {
	const shadow = "daemon:!:1::::::\nroot:!$6$x:2::::::\nme:*:3::::::\n"
	if got, want := string(unlocked([]byte(shadow), "root")), strings.Replace(shadow, "root:!$6$x", "root:*", 1); got != want {
		t.Errorf("%s", got)
	}
	for _, user := range []string{"me", "nobody"} {
		if got := unlocked([]byte(shadow), user); got != nil {
			t.Errorf("%s: %s", user, got)
		}
	}
}

func TestUsable(t *testing.T) {
	for shell, want := range map[string]bool{
		"": true, "/bin/sh": true, "/usr/sbin/nologin": false, "/bin/false": false, "/missing/shell": false, "/etc/passwd": false, "/": false,
	} {
		if got := usable(shell); got != want {
			t.Errorf("%q: %v", shell, got)
		}
	}
}

package local

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/linux/openssh"
)

func requireSSH(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ssh"); err != nil || openssh.Server() == "" {
		t.Fatal("ssh or sshd is missing: run scripts/need ssh")
	}
}

// reach starts an engine that others are to reach, and one that runs a command which says $PEER for the other's address;
// it returns what that one printed.
func (w *watched) reach(change func(*driver.Spec), command string) string {
	w.t.Helper()
	peer := w.engine(engine.RoleWorker, "/bin/sh", "-c", "sleep 1000")
	w.t.Cleanup(func() { w.s.Stop(context.Background(), peer.ID, 0, engine.ReasonStopped, "the test") })
	change(&peer)
	peer.Env = append(peer.Env, "OWN="+string(peer.ID))
	w.start(peer)
	w.await(driver.Started, peer.ID)
	client := w.engine(engine.RoleWorker, "/bin/sh", "-c", command)
	change(&client)
	client.Env = append(client.Env, "PEER="+peer.Address.String())
	w.start(client)
	w.await(driver.Exited, client.ID)
	return strings.ReplaceAll(w.stdout(client.ID), string(peer.ID), "<peer>")
}

func openRoot(t *testing.T) (rung, recorded, *watched) {
	t.Helper()
	r := newRung(t, upper(t))
	before := r.count()
	t.Cleanup(func() { r.expectNothingLeft(t, before) })
	d := r.driver(t)
	t.Cleanup(func() { d.Close() })
	return r, d, r.open(t, d)
}

// Root, and daemon, whose shell lets nobody in: the server runs as that user, with no right that the engine lacks,
// and the environment is the engine's. With a terminal too.
func TestSSHAsUser(t *testing.T) {
	requireSSH(t)
	_, _, w := openRoot(t)
	uids := []int{os.Geteuid()}
	if os.Geteuid() == 0 {
		uids = []int{ordinary, 0}
	}
	for _, uid := range uids {
		as := func(s *driver.Spec) { s.UID, s.GID = uid, uid }
		out := w.reach(as, `exec 2>&1
			ssh $PEER 'echo $OWN; id -u; grep -E "^(Cap|NoNew)" /proc/self/status'
			grep -E "^(Cap|NoNew)" /proc/self/status
			ssh -tt $PEER 'test -t 0 && echo terminal; exit 5' | tr -d '\r'
			ssh $PEER 'exit 6'; echo code $?`)
		got := strings.Split(out, "\n")
		if len(got) < 14 || got[0] != "<peer>" || got[1] != strconv.Itoa(uid) {
			t.Fatalf("as %d: %s", uid, out)
		}
		if !slices.Equal(got[2:8], got[8:14]) || got[7] != "NoNewPrivs:\t1" {
			t.Errorf("as %d the rights differ from the engine's: %s", uid, out)
		}
		if !slices.Contains(got, "terminal") || !slices.Contains(got, "code 6") {
			t.Errorf("as %d: %s", uid, out)
		}
	}
}

// A user whom the machine does not know is told so, and hangs nowhere.
func TestSSHOfUnknownUser(t *testing.T) {
	needRoot(t)
	requireSSH(t)
	_, _, w := openRoot(t)
	out := w.reach(func(s *driver.Spec) { s.UID, s.GID = 54321, 54321 }, `ssh $PEER true 2>&1; echo code $?`)
	if !strings.Contains(out, "No user exists for uid 54321") || !strings.Contains(out, "code 255") {
		t.Errorf("%s", out)
	}
}

// Without a server the console is told what to install: once, however many engines and connections.
func TestSSHWithoutServer(t *testing.T) {
	_, d, w := openRoot(t)
	d.Driver.fail = func(step string, a *attempt) error {
		if step == "spec" {
			a.wire.SSH.Programs = []string{"/missing/sshd", "/etc/passwd"}
		}
		return nil
	}
	for range 2 {
		out := w.reach(func(*driver.Spec) {}, `for i in 1 2; do /usr/bin/python3 -c "
import os, socket
s = socket.create_connection((os.environ['PEER'], 2222))
print(s.makefile().read())"; done`)
		if strings.Count(out, "ssh needs openssh-server: apt-get install openssh-server") != 2 {
			t.Errorf("the client was told %q", out)
		}
	}
	if o := w.await(driver.Notice, ""); o.Text != "ssh needs openssh-server: apt-get install openssh-server" {
		t.Errorf("notice %q", o.Text)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, o := range w.seen {
		if o.Kind == driver.Notice {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d notices", n)
	}
}

// The key is the session's: other processes get it from the keeper, other sessions have another, and it is in no file of the
// host's.
func TestSSHKeyIsTheSessions(t *testing.T) {
	requireSSH(t)
	r, d, w := openRoot(t)
	first := w.engine(engine.RoleSession, "/bin/sh", "-c", "sleep 1000")
	w.start(first)
	w.await(driver.Started, first.ID)
	key := func(s driver.Session) string { return openssh.Key(s.(*session).key).Public() }
	mine := key(w.s)
	other := r.open(t, d)
	other.sh("true")
	if key(other.s) == mine {
		t.Error("two sessions have one key")
	}
	secret := strings.Split(string(w.s.(*session).key.Private()), "\n")[3]
	out, err := exec.Command("grep", "-rlF", secret, r.dir).CombinedOutput()
	if err == nil || len(out) > 0 {
		t.Errorf("the private key lies in %s", out)
	}
	other.end()
	d.Close()
	next := r.driver(t)
	t.Cleanup(func() { next.Close() })
	s, err := next.Recover(context.Background(), w.spec, w.s.Handle())
	if err != nil {
		t.Fatal(err)
	}
	w.s = s
	t.Cleanup(w.end) // before the driver lets go of it
	got := w.reach(func(*driver.Spec) {}, `ssh `+first.Address.String()+` hostname 2>&1`)
	if got != string(first.ID)+"\n" || key(s) != mine {
		t.Errorf("an engine of the recovered session to one of before: %s", got)
	}
}

// Switched off, the port is the engine's, and nothing of ssh is in it.
func TestSSHOff(t *testing.T) {
	_, _, w := openRoot(t)
	spec := w.engine(engine.RoleWorker, "/bin/sh", "-c", `ls /dev/muster; grep -c 'engines of this session' /etc/ssh/ssh_config
		/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("0.0.0.0", 2222)); s.listen(); print("bound")'`)
	spec.Env = append(spec.Env, "MUSTER_SSH=off")
	w.start(spec)
	w.await(driver.Exited, spec.ID)
	if got := w.stdout(spec.ID); got != "0\nbound\n" {
		t.Errorf("%q", got)
	}
}

// An engine that nobody connects to has a listening socket for ssh, and no process.
func TestSSHIsLazy(t *testing.T) {
	_, _, w := openRoot(t)
	spec := w.sh(`set -- /proc/[0-9]*; echo $# processes; grep -c ' 00000000:08AE 00000000:0000 0A ' /proc/net/tcp`)
	w.await(driver.Exited, spec.ID)
	if got := w.stdout(spec.ID); got != "3 processes\n1\n" && got != "2 processes\n1\n" { // the init, the shell, which may have forked
		t.Errorf("%q", got)
	}
}

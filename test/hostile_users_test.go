package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// escapeProgram is what the attacks of testdata/escape.py need to be told.
func escapeProgram(t *testing.T) (program string, env func(hidden ...string) []string) {
	t.Helper()
	b, err := os.ReadFile("testdata/escape.py")
	if err != nil {
		t.Fatal(err)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return string(b), func(hidden ...string) []string {
		for _, path := range hidden {
			if _, err := os.Stat(path); err != nil {
				t.Fatalf("what is to be hidden is not there: %v", err)
			}
		}
		return []string{"HIDDEN=" + strings.Join(hidden, ":"), "STRANGER=" + strings.TrimSpace(string(comm))}
	}
}

// An ordinary user's engine on the rootless rung, where the server has capabilities in a namespace of the user's.
func TestEscapesOnTheRootlessRung(t *testing.T) {
	w := userWorld(t)
	w.requireUserNamespaces()
	program, env := escapeProgram(t)
	w.writeShared("escape.py", program)
	cmd := w.asSomeone("run", "--rung", "rootless", "escape.py")
	w.write("../state/others", "") // as of another server
	cmd.Env = append(cmd.Env, env(filepath.Join(w.root, "state", "others"))...)
	judged(t, "an engine of the rootless rung", w.finish(cmd, 4*deadline).ok(t).out)
	w.nothingOfSomeone()
}

// A user's engine on root's server: root's files, and the server's, are no nearer than they are to the user.
func TestEscapesOfAUser(t *testing.T) {
	m := newMachine(t)
	program, env := escapeProgram(t)
	m.give("alice", "escape.py", program)
	bobs := m.give("bob", "secret", "bob's")
	cmd := m.cmdAs("alice", "muster", "run", "escape.py")
	cmd.Env = append(cmd.Env, env(bobs, filepath.Join(m.root, "state", "sessions"))...)
	judged(t, "a user's engine", m.finish(cmd, 4*deadline).ok(t).out)
}

package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/linux/userns"
)

// serverVariable makes this program one of two servers: "open DIR" opens a session with an engine, "recover DIR" is what
// comes back when that was killed.
const serverVariable = "MUSTER_TEST_SERVER"

// told is what such a server says on its stdout, in one line.
type told struct {
	Session, Engine engine.ID
	Namespace       string
	Observed        []driver.ObservationKind
	Error           string
}

func beServer() {
	what, dir, ok := strings.Cut(os.Getenv(serverVariable), " ")
	if !ok {
		return
	}
	if !userns.Inside() {
		if what == "open" {
			enterRung()
		}
		ns := Namespace(dir)
		if ns == nil {
			say(told{Error: "no namespace was found"})
			os.Exit(0)
		}
		say(told{Error: fmt.Sprint(userns.Enter(ns, os.Args[0], os.Args, os.Environ(), []string{"REFUSED=1"}))})
		os.Exit(0)
	}
	say(serve(what, dir))
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func say(t told) {
	b, _ := json.Marshal(t)
	fmt.Println(string(b))
}

func serve(what, dir string) (t told) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	fail := func(err error) told { return told{Error: fmt.Sprint(err)} }
	t.Namespace, _ = os.Readlink("/proc/self/ns/user")
	d, err := New(Config{Dir: dir, Keeper: os.Getenv(keeperVariable), Rung: Rootless})
	if err != nil {
		return fail(err)
	}
	seen := make(chan driver.Observation, 100)
	spec := driver.SessionSpec{ID: engine.NewID(), ConsoleDir: filepath.Join(dir, "console"), Observe: func(o driver.Observation) { seen <- o }}
	await := func(kind driver.ObservationKind) error {
		for {
			select {
			case o := <-seen:
				if t.Observed = append(t.Observed, o.Kind); o.Kind == kind {
					t.Engine = max(t.Engine, o.Engine)
					return nil
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	if what == "recover" {
		return recoverIn(ctx, d, spec, t, await)
	}
	s, err := d.Open(ctx, spec)
	if err != nil {
		return fail(err)
	}
	t.Session = spec.ID
	at, err := s.Reserve(1)
	if err != nil {
		return fail(err)
	}
	err = s.Start(ctx, []driver.Spec{{
		ID: engine.NewID(), Name: "e", Role: engine.RoleSession, Address: at[0], Master: at[0], Hostname: "first",
		Argv: []string{"/bin/sleep", "1000"}, Dir: "/", UID: os.Getuid(), GID: os.Getgid(),
	}})[0]
	if err = errors.Join(err, await(driver.Started)); err != nil {
		return fail(err)
	}
	return t
}

// recoverIn finds the session, reaches the network that was made before by a new engine, and ends it.
func recoverIn(ctx context.Context, d *Driver, spec driver.SessionSpec, t told, await func(driver.ObservationKind) error) told {
	fail := func(err error) told { return told{Error: fmt.Sprint(err)} }
	handles, err := d.List(ctx)
	if err != nil || len(handles) != 1 {
		return fail(fmt.Errorf("%v, %w", handles, err))
	}
	t.Session = handles[0].Session
	s, err := d.Recover(ctx, spec, handles[0])
	if err == nil {
		err = await(driver.Started)
	}
	if err != nil {
		return fail(err)
	}
	at, err := s.Reserve(1)
	if err != nil {
		return fail(err)
	}
	err = s.Start(ctx, []driver.Spec{{
		ID: engine.NewID(), Name: "w", Role: engine.RoleWorker, Address: at[0], Master: at[0], Hostname: "second",
		Argv: []string{"/usr/bin/getent", "hosts", "first"}, Dir: "/", UID: os.Getuid(), GID: os.Getgid(),
	}})[0]
	if err = errors.Join(err, await(driver.Exited), s.End(ctx, 0, "the test"), await(driver.Ended), d.Close()); err != nil {
		return fail(err)
	}
	return t
}

// A server that was killed and its successor are two processes of a user without rights: the second one enters the user
// namespace that the sessions of the first are in.
func TestRecoverByAnotherProcess(t *testing.T) {
	if os.Geteuid() == 0 || userns.Inside() {
		t.Skip("capability ordinary user: run by TestAsUser")
	}
	dir := filepath.Join(t.TempDir(), "sessions")
	server := func(what string) (told, *exec.Cmd) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), serverVariable+"="+what+" "+dir, rungVariable+"="+string(Rootless))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		out, err2 := cmd.StdoutPipe()
		if err = errors.Join(err, err2, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			cmd.Process.Kill()
			cmd.Wait()
		})
		var said told
		line, err := bufio.NewReader(out).ReadString('\n')
		if err == nil {
			err = json.Unmarshal([]byte(line), &said)
		}
		if err == nil && said.Error != "" {
			err = errors.New(said.Error)
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return said, cmd
	}
	first, cmd := server("open")
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	second, _ := server("recover")
	if second.Session != first.Session || second.Namespace != first.Namespace || first.Namespace == "" {
		t.Errorf("the first said %+v, the second %+v", first, second)
	}
	for until := time.Now().Add(deadline); Namespace(dir) != nil; <-time.After(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("the session's keeper is still there")
		}
	}
}

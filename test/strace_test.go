package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// call is one system call of a process that is watched.
type call struct {
	at      float64 // seconds since 1970
	process string  // server, keeper, init or engine: what runs in one
	name    string
}

// watched is strace, attached to processes and all that they start.
type watched struct {
	t   *testing.T
	cmd *exec.Cmd
	out string
}

// requireStrace skips where nobody may watch another process: a declared missing capability. That strace is missing is nobody's choice.
func requireStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("strace is missing: run scripts/need strace")
	}
	out, err := exec.Command("strace", "-qq", "-o", os.DevNull, "true").CombinedOutput()
	if err != nil {
		t.Skipf("capability ptrace: %v: %s", err, bytes.TrimSpace(out))
	}
}

// watch attaches strace to processes, and returns when it sees all their threads.
func (w *world) watch(pids ...int) *watched {
	w.t.Helper()
	s := &watched{w.t, nil, filepath.Join(w.root, "calls")}
	args := []string{"-qq", "-f", "-Y", "-ttt", "-e", "signal=none", "-o", s.out}
	for _, p := range pids {
		args = append(args, "-p", strconv.Itoa(p))
	}
	s.cmd = exec.Command("strace", args...)
	var said bytes.Buffer
	s.cmd.Stderr = &said
	if err := s.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.end)
	until(w.t, "strace sees every thread", func() bool {
		for _, p := range pids {
			if !traced(p) {
				return false
			}
		}
		return true
	})
	if said.Len() > 0 {
		w.t.Logf("strace: %s", said.String())
	}
	return s
}

// traced reports whether every thread of a process is.
func traced(pid int) bool {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte("TracerPid:\t0\n")) {
			return false
		}
	}
	return len(files) > 0
}

// end lets the processes go on alone.
func (s *watched) end() {
	if s.cmd.ProcessState == nil {
		s.cmd.Process.Signal(syscall.SIGINT)
		s.cmd.Wait()
	}
}

var callLine = regexp.MustCompile(`^\d+<([^>]*)> (\d+\.\d+) (\w+)\(`)

// calls returns what was seen, in order.
func (s *watched) calls() (all []call) {
	s.t.Helper()
	s.end()
	f, err := os.Open(s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewReader(f)
	for {
		line, err := in.ReadString('\n')
		if m := callLine.FindStringSubmatch(line); m != nil {
			at, _ := strconv.ParseFloat(m[2], 64)
			all = append(all, call{at, processOf(m[1]), m[3]})
		}
		if err != nil {
			if !errors.Is(err, os.ErrClosed) && len(all) == 0 {
				s.t.Fatalf("strace saw nothing: %v", err)
			}
			return all
		}
	}
}

// processOf tells by a thread's name what it belongs to.
func processOf(comm string) string {
	switch {
	case comm == "muster":
		return "server"
	case strings.HasPrefix(comm, "muster-keeper"):
		return "keeper"
	case comm == "exe" || comm == "muster-init":
		return "init"
	}
	return "engine"
}

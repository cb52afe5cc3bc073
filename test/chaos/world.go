package main

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// deadline is how long anything may take before it counts as not happening. What is promised is measured and printed, not
// held against this: a machine may be slow without any fault of ours.
const deadline = 30 * time.Second

//go:embed testdata
var scripts embed.FS

type options struct {
	seed    int64
	length  time.Duration
	workers int
	row     int // launches one after the other
	chatty  int // of them, with -adopt
	rounds  int // how often the server is killed, with -adopt
	faults  int
	only    string
	binary  string
	keep    bool
	log     io.Writer
}

// world is the machine as this run sees it: folders of its own, the state folder on a small disk of its own.
type world struct {
	o                                   options
	root, project, state, runtime, tape string // tape: what followers and commands showed
	clients                             string // the Python client, for processes outside
	env                                 []string
	started                             time.Time

	mu         sync.Mutex
	violations []string
	times      map[string][]time.Duration // of what is measured
	counts     map[string]int             // of faults that were made
	full       []window
}

const diskBytes = "size=2g"

func newWorld(o options) (*world, error) {
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%w: run make build first", err)
	}
	o.binary = binary
	clients := filepath.Join(filepath.Dir(binary), "..", "clients", "python")
	root, err := os.MkdirTemp("", "muster-chaos-")
	if err != nil {
		return nil, err
	}
	w := &world{o: o, root: root, clients: clients, started: time.Now(), times: map[string][]time.Duration{}, counts: map[string]int{}}
	for name, at := range map[string]*string{"project": &w.project, "state": &w.state, "run": &w.runtime, "tape": &w.tape} {
		*at = filepath.Join(root, name)
		if err := os.Mkdir(*at, 0o700); err != nil {
			return nil, err
		}
	}
	if err := unix.Mount("chaos", w.state, "tmpfs", 0, diskBytes+",mode=0700"); err != nil {
		os.RemoveAll(root)
		return nil, fmt.Errorf("a disk of its own for %s: %w", w.state, err)
	}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "MUSTER_") && !strings.HasPrefix(e, "CDSW_") {
			w.env = append(w.env, e)
		}
	}
	w.env = append(w.env, "MUSTER_STATE_DIR="+w.state, "MUSTER_RUNTIME_DIR="+w.runtime, "MUSTER_BIN="+binary, "NO_COLOR=1", "TZ=UTC")
	if cache := os.Getenv("MUSTER_CACHE_DIR"); cache != "" {
		w.env = append(w.env, "MUSTER_CACHE_DIR="+cache)
	}
	return w, w.furnish()
}

func (w *world) furnish() error {
	for _, dir := range []string{"plans", "notes", "said"} {
		if err := os.Mkdir(filepath.Join(w.project, dir), 0o700); err != nil {
			return err
		}
	}
	for _, name := range []string{"talk.py", "worker.py", "session.py", "adopt.py", "round.py", "steady.py", "launches.py"} {
		b, err := scripts.ReadFile("testdata/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(w.project, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// close removes everything, unless it is to be looked at.
func (w *world) close() error {
	if w.o.keep {
		w.say("everything is left in %s", w.root)
		return nil
	}
	return errors.Join(unix.Unmount(w.state, unix.MNT_DETACH), os.RemoveAll(w.root))
}

// cmd prepares a call of the program in the project.
func (w *world) cmd(args ...string) *exec.Cmd {
	c := exec.Command(w.o.binary, args...)
	c.Dir, c.Env = w.project, append([]string{}, w.env...)
	return c
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.o.log, "%7.2f  %s\n", time.Since(w.started).Seconds(), fmt.Sprintf(format, args...))
}

// violate tells that a promise was broken.
func (w *world) violate(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	w.violations = append(w.violations, text)
	w.mu.Unlock()
	w.say("BROKEN   %s", text)
}

func (w *world) count(fault string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[fault]++
}

func (w *world) took(what string, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.times[what] = append(w.times[what], d)
}

// until waits for a condition of the machine; nothing tells when those become true. False: not within the deadline.
func until(cond func() bool) bool {
	for end := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		if cond() {
			return true
		}
		if time.Now().After(end) {
			return cond()
		}
	}
}

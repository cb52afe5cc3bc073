package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// proc is a process of an engine, or a keeper.
type proc struct {
	pid, parent     int
	start           uint64 // tells two processes with one number apart
	state           byte
	session, engine string
	keeper          bool
}

// group finds the names that a control group of an engine has: SESSION-ENGINE.
var group = regexp.MustCompile(`/([a-z][a-z0-9]{15})-([a-z][a-z0-9]{15})(?:/|\n|$)`)

// processes finds those of this run's sessions: by their control groups, by their environment (what left its group would have it
// still), and keepers by their command lines. Zombies count: somebody has not waited for them.
func (w *world) processes() []proc {
	var all []proc
	dirs, _ := os.ReadDir("/proc")
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		p := proc{pid: pid}
		if !w.whose(&p) {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", d.Name(), "stat"))
		if err != nil {
			continue
		}
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		p.state = f[0][0]
		p.parent, _ = strconv.Atoi(f[1])
		p.start, _ = strconv.ParseUint(f[19], 10, 64)
		all = append(all, p)
	}
	return all
}

// whose finds out whether a process is one of ours, and whose.
func (w *world) whose(p *proc) bool {
	dir := filepath.Join("/proc", strconv.Itoa(p.pid))
	line, _ := os.ReadFile(dir + "/cmdline")
	args := strings.Split(string(line), "\x00")
	if len(args) > 1 && args[0] == "muster-keeper" && strings.HasPrefix(args[1], w.state) {
		p.keeper, p.session = true, filepath.Base(args[1])
		return true
	}
	cgroup, _ := os.ReadFile(dir + "/cgroup")
	if m := group.FindSubmatch(cgroup); m != nil {
		p.session, p.engine = string(m[1]), string(m[2])
		return w.ours(p.session)
	}
	env, _ := os.ReadFile(dir + "/environ")
	for _, v := range bytes.Split(env, []byte{0}) {
		if id, ok := bytes.CutPrefix(v, []byte("CDSW_ENGINE_ID=")); ok && bytes.Contains(env, []byte("\x00PWD="+w.project)) {
			p.engine = string(id)
		}
		if id, ok := bytes.CutPrefix(v, []byte("CDSW_MASTER_ID=")); ok {
			p.session = string(id)
		}
	}
	return p.engine != "" && p.session != "" && w.ours(p.session)
}

// ours reports whether a session was made by this run's servers: others may run on the machine.
func (w *world) ours(session string) bool {
	_, err := os.Stat(filepath.Join(w.state, "sessions", session, "console"))
	return err == nil
}

// interpreter is the first child of an engine's init, of those of one engine.
func interpreter(ps []proc) (init, first proc) {
	inside := map[int]bool{}
	for _, p := range ps {
		inside[p.pid] = true
	}
	for _, p := range ps {
		if !inside[p.parent] {
			init = p
		}
	}
	for _, p := range ps {
		if p.parent == init.pid && (first.pid == 0 || p.start < first.start) {
			first = p
		}
	}
	return init, first
}

// held are processes that cannot be mistaken for others, by their descriptors.
type held []int

// hold opens processes; those that are gone already are left out.
func hold(ps []proc) held {
	var h held
	for _, p := range ps {
		if fd, err := unix.PidfdOpen(p.pid, 0); err == nil {
			h = append(h, fd)
		}
	}
	return h
}

func (h held) signal(s unix.Signal) {
	for _, fd := range h {
		unix.PidfdSendSignal(fd, s, nil, 0) // gone: as good
	}
}

// gone waits until all have ended and closes them. False: not within the deadline.
func (h held) gone() bool {
	end := time.Now().Add(deadline)
	ok := true
	for _, fd := range h {
		for {
			ms := int(time.Until(end).Milliseconds())
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, max(ms, 0))
			if err == unix.EINTR {
				continue
			}
			ok = ok && n == 1
			break
		}
		unix.Close(fd)
	}
	return ok
}

func (h held) close() {
	for _, fd := range h {
		unix.Close(fd)
	}
}

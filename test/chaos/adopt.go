package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// What is measured, as the table says it.
const (
	answersAgain = "exec of muster up → it answers"
	allListed    = "exec of muster up → all workers listed as running"
)

// adopt measures how long a server takes to adopt very many workers of one that was killed, and makes sure that nothing of their
// output has changed by it.
func adopt(o options) (report, error) {
	c, err := newChaos(o)
	if err != nil {
		return report{}, err
	}
	w := c.world
	flags := []string{"--memory-capacity", fmt.Sprint(o.workers)} // room for all: what they are given, not what they use
	if err := c.operator.up(flags...); err != nil {
		return report{}, err
	}
	session, done, err := c.beginMany()
	if err != nil {
		c.violate("%v", err)
	} else {
		c.noteNetworks(c.processes())
		for range o.rounds {
			c.adoptOnce(session, flags)
		}
		c.endMany(session, done)
	}
	c.stop(syscall.SIGTERM)
	for _, l := range c.left() {
		c.violate("left: %s", l)
	}
	c.say("%d workers, %d lines of the chatty ones, each once and in order", o.workers, c.lines)
	c.timesTable()
	c.verdict()
	if len(w.violations) > 0 {
		w.o.keep = true
	}
	return report{faults: o.rounds, violations: w.violations, lines: c.lines, times: c.times}, w.close()
}

// beginMany starts the session and waits until all its workers run.
func (c *chaos) beginMany() (session string, done chan struct{}, err error) {
	settings := "[kernels.light]\ncommand = \"sh\"\ncode = [\"-c\", \"{code}\"]\n"
	if err := os.WriteFile(filepath.Join(c.project, "muster.toml"), []byte(settings), 0o600); err != nil {
		return "", nil, err
	}
	cmd := c.cmd("run", "--no-stdin", "adopt.py")
	out, err := os.Create(filepath.Join(c.tape, "adopt.out"))
	if err != nil {
		return "", nil, err
	}
	defer out.Close()
	cmd.Env = append(cmd.Env, fmt.Sprintf("CHAOS_WORKERS=%d", c.o.workers), fmt.Sprintf("CHAOS_CHATTY=%d", c.o.chatty))
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, out, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	done = make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	printed := func() int {
		names, _ := os.ReadDir(filepath.Join(c.project, "notes"))
		return len(names)
	}
	for end := time.Now().Add(20 * deadline); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if said := c.hears("adopt"); len(said) > 0 && printed() >= c.o.chatty {
			c.say("%d workers run: %s", said[0].N, said[0].Text)
			if said[0].N != c.o.workers {
				return "", nil, fmt.Errorf("%d of %d workers run", said[0].N, c.o.workers)
			}
			return said[0].ID, done, nil
		}
	}
	cmd.Process.Kill()
	return "", nil, fmt.Errorf("the workers did not start within %v", 20*deadline)
}

// adoptOnce kills the server and measures how long the next one takes.
func (c *chaos) adoptOnce(session string, flags []string) {
	before, err := c.sums(session)
	if err != nil {
		c.violate("%v", err)
		return
	}
	c.stop(syscall.SIGKILL)
	from := time.Now()
	if err := c.operator.up(flags...); err != nil {
		c.violate("%v", err)
		return
	}
	c.took(answersAgain, time.Since(from))
	running := 0
	if !until(func() bool { running = c.running(session); return running == c.o.workers }) {
		c.violate("%d of %d workers are listed as running", running, c.o.workers)
	}
	c.took(allListed, time.Since(from))
	after, err := c.sums(session)
	if err != nil {
		c.violate("%v", err)
	}
	equal := 0
	for id, sum := range before {
		switch now := after[id]; {
		case now.size == sum.size && now.hash == sum.hash:
			equal++
		case !c.grown(session, id, sum):
			c.violate("the output of %s is another one after the restart", id)
		}
	}
	c.say("server adopted %d workers; outputs of %d workers equal, the other %d have grown", running, equal, len(before)-equal)
}

func (c *chaos) running(session string) (n int) {
	all, err := c.operator.api.workers(session)
	if err != nil {
		return 0
	}
	for _, e := range all {
		if e.Status == "running" {
			n++
		}
	}
	return n
}

// sum is what an engine's log was at a time.
type sum struct {
	size int64
	hash [sha256.Size]byte
}

// sums are those of all logs of a session, as the files are.
func (c *chaos) sums(session string) (map[string]sum, error) {
	files, err := filepath.Glob(filepath.Join(c.state, "sessions", session, "console", "*.log"))
	if err != nil {
		return nil, err
	}
	all := map[string]sum{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		all[filepath.Base(f)] = sum{size: int64(len(b)), hash: sha256.Sum256(b)}
	}
	return all, nil
}

// grown reports whether a log begins with what it was.
func (c *chaos) grown(session, name string, was sum) bool {
	f, err := os.Open(filepath.Join(c.state, "sessions", session, "console", name))
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, was.size)
	_, err = io.ReadFull(f, b)
	return err == nil && sha256.Sum256(b) == was.hash
}

// endMany ends the session and checks the lines of the chatty workers, and that the others printed what they were to.
func (c *chaos) endMany(session string, done chan struct{}) {
	if err := os.WriteFile(filepath.Join(c.project, "finish"), nil, 0o600); err != nil {
		c.violate("%v", err)
	}
	select {
	case <-done:
	case <-time.After(4 * deadline):
		c.violate("the session did not end within %v", 4*deadline)
	}
	dir := filepath.Join(c.state, "sessions", session, "console")
	logs, err := readSession(dir, false, io.Discard)
	if err != nil {
		c.violate("%v", err)
	}
	chatty := 0
	for id, l := range logs {
		n := c.notesOf(id)
		if n.starts == 0 {
			continue // a shell, or the session
		}
		chatty++
		c.lines += l.out.lines + l.errs.lines
		if err := l.out.end(n.out, false); err != nil {
			c.violate("engine %s: %v", id, err)
		}
		if err := l.errs.end(n.errs, false); err != nil {
			c.violate("engine %s, stderr: %v", id, err)
		}
	}
	if quiet := quietOnes(dir); chatty != c.o.chatty || quiet != c.o.workers-chatty {
		c.violate("of %d workers %d have printed lines, and %d all numbers to 100", c.o.workers, chatty, quiet)
	}
}

// quietOnes counts the engines that have printed what the shells are to, and nothing else.
func quietOnes(dir string) (n int) {
	var want []byte
	for i := range 100 {
		want = fmt.Appendln(want, i+1)
	}
	printed := map[string][]byte{}
	readConsole(dir, false, func(r record) error { // whose error readSession has told
		if r.stream == "stdout" && len(printed[r.engine]) <= len(want) {
			printed[r.engine] = append(printed[r.engine], r.payload...)
		}
		return nil
	})
	for _, text := range printed {
		if bytes.Equal(text, want) {
			n++
		}
	}
	return n
}

package fake

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

// proc is one engine.
type proc struct {
	place *place
	spec  driver.Spec
	in    *stdin // nil: it is empty
	env   map[string]string
	fatal chan struct{} // closed at the signal that ends it
	done  chan struct{} // closed when nothing of it is left
	group sync.WaitGroup
	ended atomic.Bool // whoever observed its end finds it so, though done comes later

	mu       sync.Mutex
	dead     bool // fatal is closed
	signalNo int  // the signal that closed fatal
	noTerm   bool
	traps    map[int]string
	reason   engine.Reason // why Stop was called; "": it was not
	by       string
	held     []io.Closer // what its descendants hold; closed at its end
	peak     int64
	size     *driver.TerminalSize // nil: no terminal
}

// outcome is how a program ended by itself.
type outcome struct {
	code   int
	signal int
	oom    bool
	err    error // it never ran
	step   string
}

func newProc(p *place, spec driver.Spec) *proc {
	pr := &proc{place: p, spec: spec, fatal: make(chan struct{}), done: make(chan struct{}), traps: map[int]string{}, size: spec.Terminal}
	if spec.Stdin {
		pr.in = newStdin()
		pr.held = append(pr.held, pr.in)
	}
	return pr
}

func (pr *proc) run() {
	defer close(pr.done)
	pr.event(api.Event{Type: "engine", Engine: string(pr.spec.ID), Name: pr.spec.Name, Role: string(pr.spec.Role), Address: pr.spec.Address.String()})
	out, ok := pr.prepare()
	var started *time.Time
	if ok {
		now := time.Now()
		started = &now
		pr.observe(driver.Observation{Kind: driver.Started, At: now})
		overdue := pr.limitTime()
		out = pr.play()
		overdue()
	}
	pr.letGo()
	pr.group.Wait()
	exit := pr.exit(out)
	pr.event(api.Event{
		Type: "exit", Engine: string(pr.spec.ID), Name: pr.spec.Name, Role: string(pr.spec.Role),
		Message: exit.Message, Reason: string(exit.Reason), Code: &exit.Code, Status: string(exit.Status()),
		Ending: ending(exit, started),
	})
	if log, err := pr.place.writer.Log(string(pr.spec.ID)); err == nil {
		log.Close() // thousands of ended engines need no descriptor
	}
	pr.place.release(pr.spec.Address)
	pr.ended.Store(true)
	if pr.spec.Role == engine.RoleSession {
		pr.place.mu.Lock()
		pr.place.headless = true
		pr.place.mu.Unlock()
	}
	pr.observe(driver.Observation{Kind: driver.Exited, At: exit.At, Exit: &exit})
	if pr.spec.Role == engine.RoleSession {
		pr.place.begin(endGrace, exit, exit)
	}
}

// prepare passes the steps between acceptance and the first instruction.
func (pr *proc) prepare() (outcome, bool) {
	for _, step := range EngineSteps[1:] {
		if !pr.sleep(pr.place.opts.delay(step, pr.spec)) {
			return pr.killed(), false
		}
		err := pr.place.opts.fail(step, pr.spec)
		if err == nil && step == StepSandbox && pr.spec.Dir != "" {
			if info, statErr := os.Stat(pr.spec.Dir); statErr != nil {
				err = statErr
			} else if !info.IsDir() {
				err = fmt.Errorf("%s is no folder", pr.spec.Dir)
			}
		}
		if err != nil {
			return outcome{err: err, step: step}, false
		}
	}
	return outcome{}, true
}

// sleep waits; false if a signal ended the engine.
func (pr *proc) sleep(d time.Duration) bool {
	if d <= 0 {
		select {
		case <-pr.fatal:
			return false
		default:
			return true
		}
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-pr.fatal:
		return false
	}
}

// killed is the outcome after fatal was closed: a trap's, or the signal's.
func (pr *proc) killed() outcome {
	pr.mu.Lock()
	no := pr.signalNo
	text, trapped := pr.traps[no]
	pr.mu.Unlock()
	if trapped {
		pr.write(console.Stdout, []byte(text+"\n"))
		return outcome{}
	}
	return outcome{signal: no}
}

func (pr *proc) signal(no int) {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	if pr.dead || no == 0 || no == int(syscall.SIGTERM) && pr.noTerm {
		return
	}
	pr.dead = true
	pr.signalNo = no
	close(pr.fatal)
	if pr.in != nil {
		pr.in.Close() // a read of it returns
	}
}

// stop asks the engine to end and, after grace, makes it.
func (pr *proc) stop(grace time.Duration, reason engine.Reason, by string) {
	pr.mu.Lock()
	first := pr.reason == ""
	if first {
		pr.reason, pr.by = reason, by
	}
	pr.mu.Unlock()
	pr.signal(int(syscall.SIGTERM))
	go func() { // ends with the engine at the latest
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-pr.done:
		case <-t.C:
			pr.signal(int(syscall.SIGKILL))
		}
	}()
}

// limitTime ends the engine when it has run for as long as it may, unless it is told before that the program is over.
func (pr *proc) limitTime() (over func()) {
	if pr.spec.TimeLimit <= 0 {
		return func() {}
	}
	t := time.AfterFunc(pr.spec.TimeLimit, func() { pr.stop(limitGrace, engine.ReasonTimeLimit, "") })
	return func() { t.Stop() }
}

// resize changes the size of the terminal.
func (pr *proc) resize(size driver.TerminalSize) error {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	if pr.size == nil || pr.dead {
		return engine.Errorf(engine.NotFound, "engine %s has no terminal", pr.spec.ID)
	}
	pr.size = &size
	return nil
}

// hold keeps c open until the engine's end.
func (pr *proc) hold(c io.Closer) {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	pr.held = append(pr.held, c)
}

func (pr *proc) letGo() {
	pr.mu.Lock()
	held := pr.held
	pr.held = nil
	pr.mu.Unlock()
	for _, c := range held {
		c.Close()
	}
}

// write appends to the console. The writer opens a log that was closed at the engine's end again.
func (pr *proc) write(stream console.Stream, b []byte) error {
	if pr.place.silent.Load() {
		return nil
	}
	log, err := pr.place.writer.Log(string(pr.spec.ID))
	if err == nil {
		err = log.Append(stream, 0, time.Now(), b)
	}
	if err != nil && !errors.Is(err, os.ErrClosed) {
		pr.observe(driver.Observation{Kind: driver.Notice, Text: "the console cannot be written: " + err.Error()})
	}
	pr.place.wrote()
	return err
}

func (pr *proc) event(e api.Event) { pr.write(console.Event, event(e)) }

func event(e api.Event) []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // plain strings always encode
	}
	return b
}

// ending is an exit for a server that comes later.
func ending(e engine.Exit, started *time.Time) *api.Ending {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // plain fields always encode
	}
	return &api.Ending{Started: started, Exit: b}
}

func (pr *proc) observe(o driver.Observation) {
	o.Engine = pr.spec.ID
	if o.At.IsZero() {
		o.At = time.Now()
	}
	pr.place.observe(o)
}

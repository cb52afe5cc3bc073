package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muster/api"
	"muster/client"
	"muster/engine"
	"muster/internal/console"
	"muster/internal/console/view"
)

// runner is one session from its start to its exit code.
//
//	create ─► follow the console to its end ─► the script's exit ─► closing: the server inside ends
//	  │  └─ stdin goes in, signals: Ctrl-C interrupts; again, or another signal, ends; a third time gives up
//	  └─ an error on the way ends the session, which is closing too; a signal then ends the waiting for it
type runner struct {
	a      *app
	c      *client.Client
	ctx    context.Context
	cancel context.CancelCauseFunc
	wait   sync.WaitGroup // everything that was started

	// closing's context, with a deadline from its first use on. It does not end with ctx.
	closingOnce sync.Once
	closingCtx  context.Context
	giveUp      context.CancelCauseFunc
	stopClock   context.CancelFunc
	stopped     chan struct{}  // signals are not watched any more
	asked       chan os.Signal // what a key asks for: as if it were a signal

	mu          sync.Mutex
	session     string    // "" until there is one
	interrupted bool      // Ctrl-C went to the script
	ended       os.Signal // the signal because of which we ended the session
	closes      bool      // nothing is left to be done but to close
	isAway      bool      // no server answers

	log    io.Writer // for what is said of the server
	engine string    // the session's own
	folder string    // where its logs are kept, "" if they are not
	exit   *api.Event
}

// newRunner begins to watch the signals; stop ends that.
func newRunner(ctx context.Context, a *app) *runner {
	r := &runner{a: a, stopped: make(chan struct{}), asked: make(chan os.Signal), stopClock: func() {}}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.closingCtx, r.giveUp = context.WithCancelCause(context.WithoutCancel(ctx))
	r.wait.Go(r.watch)
	return r
}

func (r *runner) stop() {
	r.cancel(nil)
	close(r.stopped)
	r.wait.Wait()
	r.stopClock()
	r.giveUp(nil)
}

// closing is the context for ending what was started. The time for all of that runs from the first call on, and the next
// signal ends it.
func (r *runner) closing() context.Context {
	r.closingOnce.Do(func() {
		r.mu.Lock()
		r.closes = true
		r.mu.Unlock()
		r.closingCtx, r.stopClock = context.WithTimeout(r.closingCtx, closeTimeout)
	})
	return r.closingCtx
}

// cause is err, or the signal that is behind it.
func (r *runner) cause(err error) error {
	if s, ok := context.Cause(r.ctx).(*signalError); ok && err != nil {
		return s
	}
	return err
}

func (r *runner) run(req api.CreateSession) error {
	if err := r.create(req); err != nil {
		return err
	}
	if req.Stdin {
		defer r.feed(r.session, r.a.In)()
	}
	if err := r.follow(r.session); err != nil {
		r.end()
		return r.lost(req.OwnerPID != 0, err)
	}
	return r.result()
}

func (r *runner) create(req api.CreateSession) error {
	s, err := r.c.CreateSession(r.ctx, req)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.session = s.ID
	r.mu.Unlock()
	r.engine = s.Engine.ID
	if r.engine == "" {
		r.engine = s.ID
	}
	r.folder = s.Folder
	return nil
}

// lost is err, or tells of a server that went away under its session. Engines do not need it, but a session that has an
// owner ends with that, which is this process.
func (r *runner) lost(owned bool, err error) error {
	if !client.Unreachable(err) {
		return err
	}
	message, hint := "the server went away while session "+r.session+" ran", ""
	if owned {
		message += ", and the session ends with this command"
	}
	if r.folder != "" {
		hint = "look for what it printed in " + r.folder
	}
	return &engine.Error{Kind: engine.Unavailable, Message: message, Hint: hint, Err: err}
}

// away says that the server went away under the session, which goes on, and that it is back. The one inside this process, on
// its abstract socket, does not come back.
func (r *runner) away(address string, req api.CreateSession, log io.Writer) func(error) {
	if r.log = log; log == nil {
		r.log = r.a.Err
	}
	if strings.HasPrefix(address, "unix:///@") {
		return nil
	}
	leave := "Ctrl-C twice ends both"
	if req.TTY != nil {
		leave = `Ctrl-\ three times ends both`
	}
	return func(err error) {
		r.mu.Lock()
		r.isAway = err != nil
		r.mu.Unlock()
		if err == nil {
			fmt.Fprintln(r.log, "muster: the server is back")
			return
		}
		fmt.Fprintf(r.log, "muster: %v; session %s goes on, and this command waits for a server (%s)\n", err, r.session, leave)
	}
}

// feed sends what in holds to stdin, until it ends or the returned function is called.
func (r *runner) feed(session string, in io.Reader) (stop func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	var group sync.WaitGroup
	taken, copied := func() {}, make(chan struct{})
	if f, ok := in.(*os.File); ok {
		pr, pw := io.Pipe()
		in, taken = pr, func() { pr.Close() }
		go func() {
			defer close(copied)
			pw.CloseWithError(copyInput(ctx, f, pw))
		}()
	} else {
		close(copied)
	}
	group.Go(func() {
		r.c.Stdin(ctx, session, in) // where it fails, the script has ended, or the console tells why
		taken()
	})
	return func() {
		cancel()
		group.Wait()
		select {
		case <-copied:
		case <-time.After(inputEndsIn): // somebody else reads the same pipe and was faster: that read ends with this process
		}
	}
}

// follow shows the console until nothing can come any more.
func (r *runner) follow(session string) error {
	stream, err := r.c.Lease(r.ctx, session)
	if err != nil {
		return err
	}
	defer stream.Close()
	labeler := view.NewLabeler(r.a.Out, r.a.Err, view.Options{Color: r.a.color(r.a.OutTerminal), Session: r.engine})
	defer labeler.Close()
	for {
		record, _, err := stream.Next()
		if err == io.EOF {
			return labeler.Close()
		}
		if err != nil {
			return err
		}
		if r.isExit(record) {
			continue // ours to tell
		}
		if err := labeler.Write(record); err != nil {
			return err
		}
	}
}

// isExit keeps the event that tells how the session's own engine ended.
func (r *runner) isExit(record console.Record) bool {
	if record.Stream != console.Event || record.Engine != r.engine {
		return false
	}
	var e api.Event
	if json.Unmarshal(record.Payload, &e) != nil || e.Type != "exit" || e.Engine != "" && e.Engine != r.engine {
		return false
	}
	r.exit = &e
	return true
}

// end ends the session after something went wrong, or because of a signal.
func (r *runner) end() {
	r.c.EndSession(r.closing(), r.session) // if it fails, our own end is the session's
}

// watch acts on signals.
func (r *runner) watch() {
	for n := 1; ; n++ {
		var sig os.Signal
		select {
		case sig = <-r.a.signals:
		case sig = <-r.asked:
		case <-r.stopped:
			return
		}
		r.mu.Lock()
		session, ending, closes := r.session, r.ended != nil, r.closes || r.ctx.Err() != nil
		gentle := sig == syscall.SIGINT && n == 1
		if gentle && !closes {
			r.interrupted = true
		} else if session != "" && !ending {
			r.ended = sig
		}
		r.mu.Unlock()
		switch {
		case closes:
			r.giveUp(&signalError{signal: sig})
		case session == "":
			r.cancel(&signalError{signal: sig})
		case ending:
			r.cancel(&signalError{sig, "interrupted again: gave up on session " + session + ", which may still be ending"})
		case gentle:
			r.wait.Go(func() { r.interrupt(session) })
		default:
			r.wait.Go(func() { r.endBecauseOf(sig, session) })
		}
	}
}

// endBecauseOf ends the session because of a signal. Without a server our own end is the session's: its keeper sees it, or the next
// server misses us.
func (r *runner) endBecauseOf(sig os.Signal, session string) {
	if err := r.c.EndSession(r.ctx, session); client.Unreachable(err) {
		r.cancel(&signalError{sig, "ended by " + unix.SignalName(sig.(syscall.Signal)) + ": session " + session +
			" and its workers end with this command; no server answers"})
	}
}

// interrupt sends SIGINT to the script, through the next server if this one is away. A script that has not begun is ended.
func (r *runner) interrupt(session string) {
	r.mu.Lock()
	away := r.isAway
	r.mu.Unlock()
	if away {
		fmt.Fprintln(r.log, "muster: the script is interrupted when a server is back; Ctrl-C again ends the session now")
	}
	err := r.c.Interrupt(r.ctx, session)
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	r.mu.Lock()
	if r.ended == nil {
		r.ended, r.interrupted = syscall.SIGINT, false
	}
	r.mu.Unlock()
	r.endBecauseOf(syscall.SIGINT, session)
}

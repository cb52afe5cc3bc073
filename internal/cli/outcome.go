package cli

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"muster/api"
	"muster/engine"
)

// result is how the script ended: nil, or its exit code with the reason.
func (r *runner) result() error {
	e := r.exit
	if e == nil { // a console without its last event: ask
		s, err := r.c.Session(r.ctx, r.session)
		if err != nil {
			return err
		}
		w := s.Engine
		e = &api.Event{Reason: w.Reason, Code: w.ExitCode, Status: w.Status}
		if w.K8s.Message != nil {
			e.Message = *w.K8s.Message
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return outcome(e, r.session, r.interrupted, r.ended)
}

func outcome(e *api.Event, session string, interrupted bool, ended os.Signal) error {
	code := exitFailed
	if e.Code != nil && *e.Code != 0 {
		code = *e.Code
	}
	message := e.Message
	if message == "" {
		message = "the session ended: " + e.Reason
	}
	switch engine.Reason(e.Reason) {
	case engine.ReasonSucceeded:
		return nil
	case engine.ReasonExitCode:
		message = ""
	case engine.ReasonSignal:
		if interrupted && code == exitSignal+int(syscall.SIGINT) {
			message = ""
		}
	case engine.ReasonOutOfMemory:
		code = exitOutOfMemory
	case engine.ReasonStopped, engine.ReasonSessionEnded:
		if ended != nil {
			why := "ended by " + unix.SignalName(ended.(syscall.Signal))
			if ended == syscall.SIGINT {
				why = "interrupted"
				if interrupted {
					why = "interrupted twice"
				}
			}
			return &signalError{ended, why + ": session " + session + " and its workers were ended"}
		}
	}
	return &exitError{code: code, message: message}
}

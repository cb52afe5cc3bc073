package server

import (
	"context"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

// Manager is what the server needs from package manager: it decides, the server only decodes and encodes. All errors are
// *engine.Error in their chain. Methods are safe for concurrent use.
type Manager interface {
	// Authenticate tells who a token belongs to; false for an unknown one.
	Authenticate(token string) (Identity, bool)
	// CreateSessionFor starts a session of a user's, or of the server's own user (the zero User); the reply holds its token.
	CreateSessionFor(ctx context.Context, u engine.User, req api.CreateSession) (api.Session, error)
	// Sessions lists all sessions, SessionsOf those of one user.
	Sessions() []api.Session
	SessionsOf(u engine.User) []api.Session
	// UserOf tells whose a session is; false if there is none.
	UserOf(id engine.ID) (engine.User, bool)
	Session(id engine.ID) (api.Session, error)
	// EndSession ends a session and everything of it, and returns when it is gone. Idempotent.
	EndSession(ctx context.Context, id engine.ID, by string) error
	// Hold keeps a session with the lease "connection" from ending until release is called. Others it does not touch.
	Hold(id engine.ID) (release func(), err error)
	Interrupt(ctx context.Context, id engine.ID) error
	// Resize tells the size of the session's terminal; Conflict if it has none.
	Resize(ctx context.Context, id engine.ID, size api.TerminalSize) error
	// WriteStdin writes data, before which from bytes come (or, if that is -1, all that was written), to the session's stdin, and closes
	// that if this is the last; Conflict if it was not asked for, or if bytes are missing. It waits while nobody reads.
	WriteStdin(ctx context.Context, id engine.ID, from int64, data []byte, last bool) (api.Stdin, error)
	// Launch validates, admits and answers at once; one description for each worker asked, refused ones without id.
	// The workers begin when release is called, which the caller must do exactly once, after the reply was written.
	Launch(ctx context.Context, session engine.ID, req api.LaunchWorkers) (reply api.Workers, release func(), err error)
	// Workers lists the session's workers, newest first: all, or those of a group.
	Workers(session engine.ID, group string) (api.Workers, error)
	// Restart starts the work of workers again, as Launch does; those that have not ended are stopped first.
	Restart(ctx context.Context, session engine.ID, req api.Restart, by string) (reply api.Workers, release func(), err error)
	// Await blocks until each worker that req covers reached what is awaited or never will, the timeout passed or ctx
	// ended. progress (may be nil) is called at every change of the counts. The descriptions, which may be many, are made when
	// result is called.
	Await(ctx context.Context, session engine.ID, req api.Await, progress func(api.AwaitProgress)) (result func() api.Awaited, err error)
	Stop(ctx context.Context, session engine.ID, req api.Stop, by string) (api.Stopped, error)
	// Ended returns a channel that is closed when an engine, whose whole id is given, has ended: its output is then complete. To
	// Await it is not over while it is tried again.
	Ended(session, id engine.ID) (<-chan struct{}, error)
	// Engine finds a worker or a session's own engine by its id or by a prefix of it that is not ambiguous, and its session:
	// in one session, or in all if session is "".
	Engine(session engine.ID, id string) (api.Worker, engine.ID, error)
	// EngineOf is Engine in the sessions of one user.
	EngineOf(u engine.User, id string) (api.Worker, engine.ID, error)
	// Console opens the session's console for reading. Done is closed when nothing will follow.
	Console(session engine.ID) (log *console.Reader, bell *console.Bell, done <-chan struct{}, err error)
}

// Identity is who sends a request. It lives in engine because the Manager, which does not know this package, returns it.
type Identity = engine.Identity

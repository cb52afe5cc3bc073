package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"muster/api"
	"muster/engine"
	"muster/internal/console"
)

// batchBytes is how much of a console is sent at once when much is there to be sent.
const batchBytes = 256 << 10

type (
	consoleInput struct {
		SessionPath
		StreamInput
		Lease bool `query:"lease" doc:"hold a session that was created with the lease connection, as long as this reply lasts (people only)"`
	}
	logInput struct {
		EnginePath
		StreamInput
		Raw    bool   `query:"raw" doc:"the bytes of stdout and stderr as they were printed, and nothing else; damage is told by the trailer Muster-Damaged"`
		Stream string `query:"stream" enum:"stdout,stderr,stdin,event,display" doc:"only this stream (and records that tell of damage)"`
		Tail   int    `query:"tail" minimum:"0" doc:"begin with the last lines, so many; 0: all. Lines of different streams count alike"`
	}
	StreamInput struct {
		From   string `query:"from" doc:"a position from an earlier record; absent or 0: the beginning"`
		Follow bool   `query:"follow" doc:"wait for what comes, until the end of the session or engine"`
		Accept string `header:"Accept" doc:"application/x-ndjson: lines of ConsoleRecord; otherwise binary frames"`
	}
)

// console streams a session's console.
func (s *Server) console(ctx context.Context, in *consoleInput) (*huma.StreamResponse, error) {
	id, err := s.sessionID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	log, bell, done, err := s.manager.Console(id)
	if err != nil {
		return nil, err
	}
	about, err := s.manager.Session(id)
	if err != nil {
		return nil, err
	}
	cursor, err := log.Session(console.Position(in.From))
	if err != nil {
		return nil, positionError(err)
	}
	st := stream{cursor: cursor, bell: bell, done: done, began: over(about.Engine), follow: in.Follow, format: formatFor(in.Accept)}
	if in.Lease && identity(ctx).Person() { // an engine must not hold its own session
		if st.release, err = s.manager.Hold(id); err != nil {
			cursor.Close()
			return nil, err
		}
	}
	return s.stream(st), nil
}

// engineLog streams what one engine printed.
func (s *Server) engineLog(ctx context.Context, in *logInput) (*huma.StreamResponse, error) {
	w, session, err := s.findEngine(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	log, bell, done, err := s.manager.Console(session)
	if err != nil {
		return nil, err
	}
	cursor, err := log.Engine(w.ID, console.Position(in.From))
	if err != nil {
		return nil, positionError(err)
	}
	st := stream{cursor: cursor, bell: bell, done: done, follow: in.Follow, format: formatFor(in.Accept)}
	st.began = over(w)
	if in.Raw {
		st.format = raw
		st.only = []console.Stream{console.Stdout, console.Stderr}
	}
	if in.Stream != "" {
		only, err := console.ParseStream(in.Stream)
		if err != nil {
			cursor.Close()
			return nil, engine.Errorf(engine.Invalid, "%w", err)
		}
		st.only = []console.Stream{only}
	}
	if in.Tail > 0 {
		if len(st.only) == 0 {
			st.only = []console.Stream{console.Stdout, console.Stderr} // what has lines
		}
		turn, err := s.replyTurn(ctx, session, largeReply+1) // the whole log is read for its end
		if err == nil {
			open := func(at console.Position) (*console.Cursor, error) { return log.Engine(w.ID, at) }
			err = st.tail(ctx, in.Tail, console.Position(in.From), open)
			turn()
		}
		if err != nil {
			st.cursor.Close()
			return nil, err
		}
	}
	if in.Follow && engine.ID(w.ID) != session {
		if st.done, err = s.manager.Ended(session, engine.ID(w.ID)); err != nil {
			st.cursor.Close()
			return nil, err
		}
	}
	return s.stream(st), nil
}

func positionError(err error) error {
	if errors.Is(err, console.ErrPosition) {
		return engine.Errorf(engine.Invalid, "%w", err)
	}
	return err
}

// stream is one reading of a console. It pulls from the files at the pace at which its client reads, so a slow client
// costs one batch of memory and holds up nobody.
type stream struct {
	cursor  *console.Cursor
	bell    *console.Bell
	done    <-chan struct{}
	release func() // if set: called when the reply is over
	follow  bool
	began   bool             // who wrote it has ended: it cannot be empty
	only    []console.Stream // empty: all
	skip    int              // bytes of the first record
	format  format
	damaged string // what the last record of that kind told
}

// over reports whether an engine ran and does not any more: there is something in its log.
func over(w api.Worker) bool { return w.RunningAt != nil && w.FinishedAt != nil }

// format appends a record to a reply.
type format struct {
	mediaType string
	append    func(dst []byte, r console.Record, p console.Position) []byte
}

var (
	frames = format{typeFrames, console.AppendFrame}
	lines  = format{typeNDJSON, appendLine}
	raw    = format{typeBytes, func(dst []byte, r console.Record, _ console.Position) []byte { return append(dst, r.Payload...) }}
)

func formatFor(accept string) format {
	if accepts(accept, typeNDJSON) {
		return lines
	}
	return frames
}

func appendLine(dst []byte, r console.Record, p console.Position) []byte {
	line := api.ConsoleRecord{
		Position: string(p), Engine: r.Engine, Stream: r.Stream.String(), Time: r.Time.UTC().Format(time.RFC3339Nano),
	}
	if utf8.Valid(r.Payload) {
		line.Text = string(r.Payload)
	} else {
		line.Base64 = base64.StdEncoding.EncodeToString(r.Payload)
	}
	b, _ := json.Marshal(line) // strings only
	return append(append(dst, b...), '\n')
}

// stream makes the reply. It ends properly only where nothing more can follow; otherwise it is broken off, so that the
// client can tell the end of the output from the end of a connection.
func (s *Server) stream(st stream) *huma.StreamResponse {
	return plain(func(w http.ResponseWriter, r *http.Request) {
		defer st.cursor.Close()
		if st.release != nil {
			defer st.release()
		}
		unhurried(w)
		ctx, cancel := s.streamContext(r.Context())
		defer cancel()
		defer endWrites(ctx, w)() // after the others: it is to run before them
		w.Header().Set("Content-Type", st.format.mediaType)
		if st.format.mediaType == typeBytes {
			w.Header().Set("Trailer", api.HeaderDamaged)
		}
		if err := st.copy(ctx, w); err != nil {
			if ctx.Err() == nil {
				s.log.Warn("a console stream broke off", "path", r.URL.Path, "error", err)
			}
			panic(http.ErrAbortHandler)
		}
		if st.format.mediaType == typeBytes && st.damaged != "" {
			w.Header().Set(api.HeaderDamaged, st.damaged)
		}
	})
}

// copy sends records until the end, flushing whenever it has caught up.
func (st *stream) copy(ctx context.Context, w http.ResponseWriter) error {
	flusher := http.NewResponseController(w)
	var batch []byte
	send := func() error {
		_, err := w.Write(batch)
		batch = batch[:0]
		return err
	}
	bell := st.bell
	if !st.follow {
		bell = nil
	}
	if st.began {
		st.cursor.Began()
	}
	return console.Follow(ctx, st.cursor, bell, st.done, func(r console.Record, pos console.Position) error {
		message, damaged := console.Damage(r)
		if damaged {
			if st.damaged = message; st.format.mediaType == typeBytes {
				return nil
			}
		} else if !st.wants(r.Stream) {
			return nil
		}
		r.Payload, st.skip = r.Payload[st.skip:], 0
		if batch = st.format.append(batch, r, pos); len(batch) >= batchBytes {
			return send()
		}
		return nil
	}, func() error {
		if err := send(); err != nil {
			return err
		}
		return flusher.Flush()
	})
}

func (st *stream) wants(s console.Stream) bool {
	for _, o := range st.only {
		if o == s {
			return true
		}
	}
	return len(st.only) == 0
}

package server

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"muster/api"
	"muster/engine"
)

// Limits of replies. A description is a kilobyte, a session may have thousands of workers, and every engine may ask for all
// of them and then not read.
const (
	replyTimeout = 30 * time.Second // for each piece: a client that reads slowly gets all, one that does not read nothing
	replyPiece   = 64 << 10
	largeReply   = 500 // descriptions; with more of them replies of one session take turns
)

// hurried gives the replies of next deadlines for writing. Streams take theirs away (unhurried).
func (s *Server) hurried(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := &hurriedWriter{ResponseWriter: w, s: s, control: http.NewResponseController(w)}
		h.control.SetWriteDeadline(time.Time{}) // the last reply's: that net/http takes it away is not promised
		next.ServeHTTP(h, r)
	})
}

// hurriedWriter breaks off a reply of which a piece cannot be written in time.
type hurriedWriter struct {
	http.ResponseWriter
	s       *Server
	control *http.ResponseController
	stream  bool // its client may pause
}

// Unwrap is for http.ResponseController.
func (w *hurriedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *hurriedWriter) WriteHeader(status int) {
	w.hurry()
	w.ResponseWriter.WriteHeader(status)
}

func (w *hurriedWriter) Write(b []byte) (n int, err error) {
	if w.stream {
		return w.ResponseWriter.Write(b)
	}
	for {
		w.hurry()
		m, err := w.ResponseWriter.Write(b[n:min(n+replyPiece, len(b))])
		if n += m; err != nil {
			panic(http.ErrAbortHandler) // nobody hears what else there is to say
		}
		if n == len(b) {
			return n, nil
		}
	}
}

func (w *hurriedWriter) hurry() {
	if w.stream {
		return
	}
	limit := w.s.replyTimeout
	if w.s.closing.Err() != nil {
		limit = min(limit, lastWrite)
	}
	w.control.SetWriteDeadline(time.Now().Add(limit))
}

// unhurried lets the client of a stream pause: it costs no memory.
func unhurried(w http.ResponseWriter) {
	if h, ok := w.(*hurriedWriter); ok {
		h.stream = true
	}
}

// replyTurn waits until a reply with n descriptions may be made for a session's engine. The owner does not wait.
func (s *Server) replyTurn(ctx context.Context, session engine.ID, n int) (release func(), err error) {
	if n <= largeReply || identity(ctx).Owner {
		return func() {}, nil
	}
	ctx, cancel := s.streamContext(ctx)
	defer cancel()
	return s.replies.take(ctx, session)
}

// listTurn is replyTurn for a reply with all workers of the session.
func (s *Server) listTurn(ctx context.Context, session engine.ID) (release func(), err error) {
	about, err := s.manager.Session(session)
	if err != nil {
		return nil, err
	}
	return s.replyTurn(ctx, session, about.Workers)
}

// workerList is one field of a reply.
type workerList struct {
	key     string
	workers []api.Worker
}

// pieceFor is how much of a reply with n descriptions, of mostly 1.5 kB each, is written at once: most replies are about one worker.
func pieceFor(n int) int { return min(replyPiece, (n+1)*2<<10) }

// writeWorkers sends lists of descriptions as an object, with what goes before and after it.
func writeWorkers(w io.Writer, before, after string, lists ...workerList) {
	n := 0
	for _, l := range lists {
		n += len(l.workers)
	}
	out := bufio.NewWriterSize(w, pieceFor(n))
	out.WriteString(before)
	open := "{"
	for _, l := range lists {
		out.WriteString(open + `"` + l.key + `":`)
		open = ","
		array(out, l.workers)
	}
	out.WriteString("}" + after + "\n")
	out.Flush()
}

// writeArray sends descriptions as an array.
func writeArray(w io.Writer, workers []api.Worker) {
	out := bufio.NewWriterSize(w, pieceFor(len(workers)))
	array(out, workers)
	out.WriteString("\n")
	out.Flush()
}

// array encodes descriptions one by one: all of them at once would be held twice.
func array(out *bufio.Writer, workers []api.Worker) {
	out.WriteByte('[')
	for i := range workers {
		if i > 0 {
			out.WriteByte(',')
		}
		b, err := json.Marshal(&workers[i])
		if err != nil {
			panic(err) // numbers are checked before they get here
		}
		out.Write(b)
	}
	out.WriteByte(']')
}

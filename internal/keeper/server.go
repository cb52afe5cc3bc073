package keeper

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"muster/internal/keeper/wire"
)

// server is one connected server: its outbox is written by a goroutine of its own, so that a server that does not read
// holds nobody up.
type server struct {
	conn *wire.Conn
	ctx  context.Context // ends when nothing more is heard of it
	gone context.CancelFunc
	sent chan struct{}  // closed when the writer ended
	left chan struct{}  // closed when nothing more is heard of it
	jobs sync.WaitGroup // its requests that are being carried out

	mu     sync.Mutex
	filled sync.Cond
	outbox []outgoing
	grew   bool // an EventWrote is due; many appends make one
	closed bool
	deaf   bool // nothing is sent any more
}

type outgoing struct {
	event wire.Event
	files []*os.File
	last  bool // nobody else has the files: they are closed when they were sent
}

func (o outgoing) close() {
	if o.last {
		closeAll(o.files)
	}
}

func newServer(conn *wire.Conn) *server {
	s := &server{conn: conn, sent: make(chan struct{}), left: make(chan struct{})}
	s.ctx, s.gone = context.WithCancel(context.Background())
	s.filled.L = &s.mu
	return s
}

func (s *server) put(e wire.Event, files ...*os.File) {
	s.send(outgoing{event: e, files: files})
}

func (s *server) send(o outgoing) {
	s.mu.Lock()
	if s.deaf {
		o.close()
	} else {
		s.outbox = append(s.outbox, o)
	}
	s.mu.Unlock()
	s.filled.Signal()
}

func (s *server) wrote() {
	s.mu.Lock()
	s.grew = true
	s.mu.Unlock()
	s.filled.Signal()
}

// finish lets the outbox run empty, but waits for a server that does not read no longer than a moment.
func (s *server) finish() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.filled.Signal()
	select {
	case <-s.sent:
	case <-time.After(2 * time.Second):
	}
	s.conn.Close()
}

// forget closes what nobody will send any more.
func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = true
	for _, o := range s.outbox {
		o.close()
	}
}

// write sends the outbox until the connection breaks or finish was called.
func (s *server) write() {
	defer close(s.sent)
	defer s.forget()
	for {
		s.mu.Lock()
		for len(s.outbox) == 0 && !s.grew && !s.closed {
			s.filled.Wait()
		}
		batch, grew, closed := s.outbox, s.grew, s.closed
		s.outbox, s.grew = nil, false
		s.mu.Unlock()
		if grew {
			batch = append([]outgoing{{event: wire.Event{Kind: wire.EventWrote}}}, batch...)
		}
		for i, o := range batch {
			err := s.conn.Send(o.event, o.files...)
			o.close()
			if err != nil {
				for _, o := range batch[i+1:] {
					o.close()
				}
				return
			}
		}
		if closed && len(batch) == 0 {
			return
		}
	}
}

// serve talks to one server until the connection ends.
func (k *Keeper) serve(conn *wire.Conn) {
	s := newServer(conn)
	k.mu.Lock()
	for _, e := range k.historyLocked() {
		s.put(e)
	}
	s.put(wire.Event{Kind: wire.EventLive, At: time.Now()})
	k.servers[s] = true
	k.mu.Unlock()
	go s.write()
	for {
		var r wire.Request
		files, err := conn.Receive(&r)
		if err != nil {
			break
		}
		k.handle(s, r, files)
	}
	s.gone() // a write of its that waits for a script which does not read must not hold the next server up
	close(s.left)
	k.mu.Lock()
	delete(k.servers, s)
	k.mu.Unlock()
	k.dropAll(func(of *server) bool { return of == s })
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.filled.Signal()
	select {
	case <-k.done: // finish closes it when the outbox is empty
	default:
		conn.Close()
	}
}

// handle carries out one request. What takes time runs beside the others.
func (k *Keeper) handle(s *server, r wire.Request, files []*os.File) {
	answer := func(err error) { s.put(replyTo(r, err)) }
	switch r.Op {
	case wire.OpStart, wire.OpPrepare, wire.OpGive:
	default:
		closeAll(files) // no other operation has any
	}
	switch r.Op {
	case wire.OpStart:
		s.jobs.Go(func() { answer(k.start(r, files)) })
	case wire.OpPrepare:
		s.jobs.Go(func() { answer(k.prepare(s, r, files)) })
	case wire.OpGive:
		s.jobs.Go(func() { answer(k.give(r, files)) })
	case wire.OpDrop:
		k.drop(r.Engine)
		answer(nil)
	case wire.OpSignal:
		answer(k.with(r.Engine, func(e *engine) error { return e.signal(r.Signal) }))
	case wire.OpStop:
		answer(k.stop(r.Engine, time.Duration(r.GraceMillis)*time.Millisecond, r.Reason, r.By))
	case wire.OpResize:
		answer(k.with(r.Engine, func(e *engine) error { return e.resize(r.Size) }))
	case wire.OpStdin:
		s.jobs.Go(func() { s.put(k.stdin(s.ctx, r)) })
	case wire.OpNote:
		answer(k.note(r.Engine, r.Note))
	case wire.OpEnd:
		answer(nil)
		go k.end(time.Duration(r.GraceMillis)*time.Millisecond, r.By)
	case wire.OpHub:
		if k.hub == nil {
			answer(errors.New("this session has no hub"))
			return
		}
		s.put(wire.Event{Seq: r.Seq, Kind: wire.EventReply, At: time.Now()}, k.hub)
	case wire.OpNetwork:
		s.jobs.Go(func() { k.network(s, r) })
	case wire.OpKey:
		s.put(wire.Event{Seq: r.Seq, Kind: wire.EventReply, At: time.Now(), Key: k.keepKey(r.Key)})
	case wire.OpKeep:
		s.put(wire.Event{Seq: r.Seq, Kind: wire.EventReply, At: time.Now(), Key: k.keepSecret(r.Key)})
	case wire.OpTake:
		go func() {
			k.take(s)
			answer(nil)
		}()
	default:
		answer(errors.New("this keeper does not know the operation " + r.Op))
	}
}

func replyTo(r wire.Request, err error) wire.Event {
	e := wire.Event{Seq: r.Seq, Kind: wire.EventReply, At: time.Now()}
	if err != nil {
		e.Error, e.ErrKind = err.Error(), kindOf(err)
	}
	return e
}

// stdin writes to an engine's stdin, and waits until that took all.
func (k *Keeper) stdin(ctx context.Context, r wire.Request) wire.Event {
	var at int64
	var closed bool
	err := k.with(r.Engine, func(e *engine) (err error) {
		if e.input == nil {
			return errNoStdin
		}
		at, closed, err = e.input.write(ctx, r.From, r.Data, r.Last)
		return err
	})
	reply := replyTo(r, err)
	reply.Written, reply.Closed = at, closed
	return reply
}

// take cuts all servers but one off and returns when what they had asked for is done. A server that was killed may have sent
// requests which were not read yet: an engine that is started by one later than a new server looked would be its to start, too.
func (k *Keeper) take(by *server) {
	k.mu.Lock()
	var others []*server
	for s := range k.servers {
		if s != by {
			others = append(others, s)
		}
	}
	k.mu.Unlock()
	for _, s := range others {
		s.conn.CloseRead()
	}
	for _, s := range others {
		<-s.left
		s.jobs.Wait()
	}
	// An engine that waited may have the id of one that a new server starts.
	k.dropAll(func(of *server) bool { return of != by })
}

// keepSecret returns the session's secret: the one that was proposed first.
func (k *Keeper) keepSecret(proposed []byte) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.secret == nil {
		k.secret = proposed
	}
	return k.secret
}

func (k *Keeper) with(id string, do func(*engine) error) error {
	k.mu.Lock()
	e := k.engines[id]
	k.mu.Unlock()
	if e == nil {
		return errNotFound
	}
	return do(e)
}

// stop of an engine that has ended already is no error.
func (k *Keeper) stop(id string, grace time.Duration, reason, by string) error {
	k.mu.Lock()
	e, ended := k.engines[id], k.past[id] != nil
	k.mu.Unlock()
	if e == nil && !ended {
		return errNotFound
	}
	if e != nil {
		e.stop(grace, reason, by)
	}
	return nil
}

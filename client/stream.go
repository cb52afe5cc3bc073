package client

import (
	"context"
	"io"
	"net/url"
	"strconv"

	"muster/internal/console"
)

const (
	typeNDJSON = "application/x-ndjson"
	typeFrames = "application/vnd.muster.console"
)

// maxRetries is how often in a row a stream is taken up again without a single record coming.
const maxRetries = 3

// LogOptions says what to read of a console or of one engine's log.
type LogOptions struct {
	From   console.Position // "": the beginning
	Follow bool             // wait for what comes, until the end
	Stream string           // only this stream: "stdout", "stderr" …; logs of engines only
	Tail   int              // begin with the last lines, so many; 0: all; logs of engines only
	lease  bool
}

func (o LogOptions) query() url.Values {
	q := url.Values{}
	if o.From != "" {
		q.Set("from", string(o.From))
	}
	if o.Follow {
		q.Set("follow", "true")
	}
	if o.Stream != "" {
		q.Set("stream", o.Stream)
	}
	if o.Tail > 0 {
		q.Set("tail", strconv.Itoa(o.Tail))
	}
	if o.lease {
		q.Set("lease", "true")
	}
	return q
}

// Console reads a session's console: everything that its engines printed, in the order in which it happened. A
// connection that breaks while the server lives is taken up again where it was.
func (c *Client) Console(ctx context.Context, session string, from console.Position, follow bool) (*ConsoleStream, error) {
	return c.stream(ctx, sessionPath(session, "/console"), LogOptions{From: from, Follow: follow})
}

// Lease follows a session's console from its beginning, and holds the session meanwhile if it has api.LeaseConnection. A server
// that went away since it created the session is waited for.
func (c *Client) Lease(ctx context.Context, session string) (s *ConsoleStream, err error) {
	err = c.patiently(ctx, func() error {
		s, err = c.stream(ctx, sessionPath(session, "/console"), LogOptions{Follow: true, lease: true})
		return err
	})
	return s, err
}

// Log reads what one engine printed, as Console does.
func (c *Client) Log(ctx context.Context, id string, o LogOptions) (*ConsoleStream, error) {
	return c.stream(ctx, enginePath(id), o)
}

// ConsoleLines is Console as lines of api.ConsoleRecord. It is not taken up again.
func (c *Client) ConsoleLines(ctx context.Context, session string, from console.Position, follow bool) (io.ReadCloser, error) {
	return c.open(ctx, sessionPath(session, "/console"), LogOptions{From: from, Follow: follow}.query(), typeNDJSON)
}

// LogLines is Log as lines of api.ConsoleRecord. It is not taken up again.
func (c *Client) LogLines(ctx context.Context, id string, o LogOptions) (io.ReadCloser, error) {
	return c.open(ctx, enginePath(id), o.query(), typeNDJSON)
}

// LogBytes reads the bytes of stdout and stderr (or of the one stream asked for) as they were printed.
func (c *Client) LogBytes(ctx context.Context, id string, o LogOptions) (io.ReadCloser, error) {
	q := o.query()
	q.Set("raw", "true")
	return c.open(ctx, enginePath(id), q, "application/octet-stream")
}

func enginePath(id string) string { return "/engines/" + url.PathEscape(id) + "/log" }

// open starts a streamed reply. Its reader says io.EOF at the proper end only.
func (c *Client) open(ctx context.Context, path string, q url.Values, accept string) (io.ReadCloser, error) {
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	resp, err := c.do(ctx, "GET", path, request{accept: accept})
	if err != nil {
		return nil, err
	}
	return &replyBody{c: c, ctx: ctx, ReadCloser: resp.Body}, nil
}

// replyBody is a reply with errors for people, and with the error it ended with.
type replyBody struct {
	io.ReadCloser
	c   *Client
	ctx context.Context
	err error
}

func (b *replyBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.c.broken(b.ctx, err)
	}
	b.err = err
	return n, err
}

// ConsoleStream is a console being read. One goroutine may use it.
type ConsoleStream struct {
	c       *Client
	ctx     context.Context
	path    string
	options LogOptions // From: the position after the last record
	body    *replyBody
	frames  *console.FrameReader
	retries int
}

func (c *Client) stream(ctx context.Context, path string, o LogOptions) (*ConsoleStream, error) {
	s := &ConsoleStream{c: c, ctx: ctx, path: path, options: o}
	if err := s.connect(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *ConsoleStream) connect() error {
	body, err := s.c.open(s.ctx, s.path, s.options.query(), typeFrames)
	if err != nil {
		return err
	}
	s.body = body.(*replyBody)
	s.frames = console.NewFrameReader(s.body)
	return nil
}

// Next returns the next record and the position after it. The payload is valid until the next call. At the end it is
// io.EOF: with Follow nothing will come any more, without it all that was there has been read.
func (s *ConsoleStream) Next() (console.Record, console.Position, error) {
	for {
		r, pos, err := s.frames.Next()
		if err == nil {
			if s.retries = 0; pos != "" { // one without a position is not in the log
				s.options.From, s.options.Tail = pos, 0
			}
			return r, pos, nil
		}
		if err == io.EOF && s.body.err == io.EOF {
			return console.Record{}, s.options.From, io.EOF
		}
		if s.ctx.Err() != nil {
			return console.Record{}, s.options.From, s.ctx.Err()
		}
		if s.retries++; s.retries > maxRetries {
			return console.Record{}, s.options.From, s.broken(err)
		}
		s.body.Close()
		if s.options.Follow {
			err = s.c.patiently(s.ctx, s.connect)
		} else {
			err = s.connect()
		}
		if err != nil {
			return console.Record{}, s.options.From, err
		}
	}
}

func (s *ConsoleStream) broken(err error) error {
	if Unreachable(err) {
		return err
	}
	return s.c.broken(s.ctx, err)
}

// Position is the place after the last record that Next returned.
func (s *ConsoleStream) Position() console.Position { return s.options.From }

// Close ends the stream.
func (s *ConsoleStream) Close() error { return s.body.Close() }

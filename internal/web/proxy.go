package web

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	// Connections that are kept without use. Not for long: apps that serve one connection after the other (Python's wsgiref)
	// answer nobody else meanwhile, and a new one costs next to nothing.
	idlePerEngine = 16
	idleTimeout   = 2 * time.Second
	// continueTimeout is how long an app may take to ask for the body that a client offers (Expect: 100-continue), before
	// it is sent anyway: many apps never ask.
	continueTimeout   = time.Second
	maxResponseHeader = 1 << 20
	lastWrite         = time.Second // what a request that Close breaks off may still write
)

// proxy hands a request to the engine, and what comes back to the client, as it comes, for as long as until lasts.
func (g *Gateway) proxy(w http.ResponseWriter, r *http.Request, a address, e Engine, until context.Context) {
	client := http.NewResponseController(w)
	if r.ContentLength != 0 {
		client.EnableFullDuplex() // else the reply would wait for the request's end; there is always HTTP/1 below
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	breakOff := func() {
		cancel()
		// A client that neither sends nor reads would hold Close up.
		client.SetReadDeadline(time.Now())
		client.SetWriteDeadline(time.Now().Add(lastWrite))
	}
	defer context.AfterFunc(g.closing, breakOff)()
	defer context.AfterFunc(until, breakOff)()
	p := httputil.ReverseProxy{
		Transport:      g.pool(e),
		FlushInterval:  -1,
		BufferPool:     buffers,
		Rewrite:        a.rewrite,
		ModifyResponse: a.rewriteResponse,
		ErrorHandler:   func(w http.ResponseWriter, r *http.Request, err error) { g.failed(w, r, a, e, err) },
		ErrorLog:       slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // an app's or a client's mistakes, not ours
	}
	p.ServeHTTP(&replies{ResponseWriter: w}, r.WithContext(ctx))
}

// rewrite makes the request that the app gets. Host stays what the browser said: apps build their own URLs from it.
func (a address) rewrite(p *httputil.ProxyRequest) {
	out := p.Out
	u := *p.In.URL
	u.Scheme, u.Host, u.User = "http", net.JoinHostPort(string(a.id), strconv.Itoa(a.kind.port)), nil
	if a.prefix != "" {
		u.RawPath = a.path
		u.Path, _ = url.PathUnescape(a.path) // a part of a path that could be unescaped as a whole
	}
	out.URL = &u
	out.Host = p.In.Host
	out.Trailer = p.In.Trailer // the very map: its values come after the body
	for name := range out.Header {
		// With underscores too: to apps behind CGI-like interfaces both are one.
		if n := strings.ToLower(strings.ReplaceAll(name, "_", "-")); n == "forwarded" || strings.HasPrefix(n, "x-forwarded-") {
			delete(out.Header, name)
		}
	}
	p.SetXForwarded()
	if a.prefix != "" {
		out.Header.Set("X-Forwarded-Prefix", a.prefix)
	}
}

// pool is the engine's connections, kept until it ends.
func (g *Gateway) pool(e Engine) *http.Transport {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.pools[e.ID]; t != nil {
		return t
	}
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(addr)
			return g.dial(ctx, e, port)
		},
		DisableCompression:     true, // bytes pass as they are
		MaxIdleConnsPerHost:    idlePerEngine,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
	}
	g.pools[e.ID] = t
	// The caller is counted, so Close is not past its Wait. Requests under way are left alone: what an app answered before
	// it ended still comes through.
	g.running.Go(func() {
		select {
		case <-e.Done:
		case <-g.closing.Done():
		}
		g.mu.Lock()
		delete(g.pools, e.ID)
		g.mu.Unlock()
		t.CloseIdleConnections()
	})
	return t
}

// dialError tells apart what kept us from the app from what the app did.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

func (g *Gateway) dial(ctx context.Context, e Engine, port string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(g.closing, cancel)()
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	c, err := g.manager.Dial(ctx, e.ID, n)
	if err != nil {
		return nil, dialError{err}
	}
	return c, nil
}

// failed answers a request that got no reply from the app.
func (g *Gateway) failed(w http.ResponseWriter, r *http.Request, a address, e Engine, err error) {
	if r.Context().Err() != nil {
		if g.closing.Err() != nil {
			show(w, r, closing())
			return
		}
		panic(http.ErrAbortHandler) // nobody reads
	}
	if now, ok := g.manager.Find(e.ID); ok {
		e = now
	}
	var dialing dialError
	switch {
	case e.Status.Final():
		show(w, r, ended(e))
	case !errors.As(err, &dialing):
		show(w, r, noReply(e, a, err))
	case errors.Is(err, syscall.ECONNREFUSED):
		show(w, r, notListening(e, a))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		show(w, r, notAccepting(e, a))
	default:
		g.log.Warn("an engine's port cannot be reached", "engine", e.ID, "port", a.kind.port, "error", err)
		show(w, r, unreachable(e, a))
	}
}

// replies mends two things between ReverseProxy and the client's connection.
type replies struct{ http.ResponseWriter }

func (w *replies) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader takes cookies out of interim replies, which pass by ModifyResponse.
func (w *replies) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		w.Header().Del("Set-Cookie")
	}
	w.ResponseWriter.WriteHeader(status)
}

// Hijack gives a connection that begins with what the client sent right after its request; ReverseProxy reads only the
// connection.
func (w *replies) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil || rw.Reader.Buffered() == 0 {
		return c, rw, err
	}
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	return &earlyConn{Conn: c, early: early}, rw, err
}

type earlyConn struct {
	net.Conn
	early []byte
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	return n, nil
}

func (c *earlyConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// bufferPool holds what bodies are copied through.
type bufferPool struct{ sync.Pool }

var buffers = &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}}

func (p *bufferPool) Get() []byte  { return p.Pool.Get().(*[32 << 10]byte)[:] }
func (p *bufferPool) Put(b []byte) { p.Pool.Put((*[32 << 10]byte)(b)) }

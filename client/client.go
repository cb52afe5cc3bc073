// Package client is the Go client of Muster's own API: one method for each route, over a unix socket or TCP. The command
// line and the tests use it; every Go program may.
//
// Errors are *engine.Error, with the server's kind, message and hint, or with the client's own where no server answered
// (kind unavailable) or something else than one. A context that ended is returned as its own error.
//
// It looks at api, engine and internal/console only.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"muster/api"
	"muster/engine"
)

const dialTimeout = 10 * time.Second

// Config says where the server is and who asks.
type Config struct {
	Address string // "unix:///path/to/socket" ("unix:///@name": an abstract one), "http://host:port" or "https://host:port"
	Token   string
	TLS     TLS // of https
	// Away, if it is not nil, is called when a server goes away under a stream that is being followed, or something else that may be
	// said twice, and again when all that waited has found one. In between they wait, as long as their contexts live: sessions do not
	// need their server.
	Away func(err error) // nil: it is back
	// Slow, if it is not nil, is called when the answer to a request has not begun after SlowAfter: a server may be stopped or hang.
	Slow      func()
	SlowAfter time.Duration
}

// Client is safe for concurrent use.
type Client struct {
	address string
	base    string // URL that paths are added to
	token   string
	away    func(error)
	slow    func()
	patient time.Duration // before slow is called
	http    *http.Client

	mu      sync.Mutex
	waiting int  // calls that wait for the next server
	back    bool // one of them has found it
}

// New makes a client. It does not connect.
func New(c Config) (*Client, error) {
	transport := &http.Transport{ // no proxy: tokens go to the server alone
		DisableCompression: true,
		IdleConnTimeout:    30 * time.Second, // sooner than the server, so that no request meets a connection that it closes
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	transport.DialContext = dialer.DialContext
	cl := &Client{address: c.Address, token: c.Token, away: c.Away, slow: c.Slow, patient: c.SlowAfter, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	u, err := url.Parse(c.Address)
	switch {
	case err == nil && u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		path := u.Path
		if name, abstract := strings.CutPrefix(path, "/@"); abstract {
			path = "@" + name
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		cl.base = "http://muster"
	case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.Trim(u.Path, "/") == "" && u.RawQuery == "":
		cl.base = u.Scheme + "://" + u.Host
		if u.Scheme == "https" {
			if transport.TLSClientConfig, err = c.TLS.config(); err != nil {
				return nil, err
			}
		}
	default:
		return nil, engine.Errorf(engine.Invalid, "%q is no address of a server", c.Address).
			WithHint("write unix:///path/to/socket, http://host:port or https://host:port")
	}
	return cl, nil
}

// Address is where the server is, as configured.
func (c *Client) Address() string { return c.address }

// Close drops idle connections. Streams are closed on their own.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call sends in as JSON (nil: no body) and decodes the reply into out (nil: none expected).
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return engine.Errorf(engine.Invalid, "the request cannot be sent as JSON: %w", err)
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.do(ctx, method, path, request{body: body, bodyType: "application/json"})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		return c.broken(ctx, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(reply, out); err != nil {
		return c.rubbish(reply)
	}
	return nil
}

// request is what differs between requests.
type request struct {
	body     io.Reader
	bodyType string
	accept   string
}

// do sends a request and returns the reply if it is one of our servers' and no error.
func (c *Client) do(ctx context.Context, method, path string, q request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+api.Base+path, q.body)
	if err != nil {
		return nil, engine.Errorf(engine.Invalid, "the request cannot be made: %w", err)
	}
	req.Header.Set(api.HeaderVersion, strconv.Itoa(api.Version))
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if q.body != nil {
		req.Header.Set("Content-Type", q.bodyType)
	}
	if q.accept != "" {
		req.Header.Set("Accept", q.accept)
	}
	if c.slow != nil {
		defer time.AfterFunc(c.patient, c.slow).Stop()
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	if err := c.check(ctx, resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// check refuses replies of other versions, of other programs, and errors.
func (c *Client) check(ctx context.Context, resp *http.Response) error {
	version := resp.Header.Get(api.HeaderVersion)
	if version != "" && version != strconv.Itoa(api.Version) {
		return &unreachable{engine.Errorf(engine.Unavailable, "the server at %s speaks version %s of the API, this client version %d",
			c.address, version, api.Version).WithHint("use the same version of muster for both")}
	}
	if version != "" && resp.StatusCode < 300 {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return c.broken(ctx, err)
	}
	var e api.Error
	if version == "" || json.Unmarshal(body, &e) != nil || e.Kind == "" || e.Message == "" {
		return c.rubbish(body)
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Close { // it did not hear the request: who waits for a server waits on
		return &unreachable{FromWire(e)}
	}
	return FromWire(e)
}

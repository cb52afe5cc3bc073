package client

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"muster/api"
)

func sessionPath(session, rest string) string { return "/sessions/" + url.PathEscape(session) + rest }

// Version tells the server's versions. It needs no token.
func (c *Client) Version(ctx context.Context) (v api.VersionInfo, err error) {
	err = c.call(ctx, "GET", "/version", nil, &v)
	return v, err
}

// OpenAPI returns the document that describes the API.
func (c *Client) OpenAPI(ctx context.Context) (doc json.RawMessage, err error) {
	err = c.call(ctx, "GET", "/openapi.json", nil, &doc)
	return doc, err
}

// Sessions lists the sessions that one may see: the owner all, a user the own ones. People only.
func (c *Client) Sessions(ctx context.Context) (list []api.Session, err error) {
	err = c.call(ctx, "GET", "/sessions", nil, &list)
	return list, err
}

// CreateSession starts a session; the reply holds its token. People only.
func (c *Client) CreateSession(ctx context.Context, req api.CreateSession) (s api.Session, err error) {
	err = c.call(ctx, "POST", "/sessions", req, &s)
	return s, err
}

// Session tells of one session; "self" is the one that the token belongs to. So it is in all methods.
func (c *Client) Session(ctx context.Context, session string) (s api.Session, err error) {
	err = c.call(ctx, "GET", sessionPath(session, ""), nil, &s)
	return s, err
}

// EndSession ends a session and everything of it, and returns when it is gone.
func (c *Client) EndSession(ctx context.Context, session string) error {
	return c.call(ctx, "DELETE", sessionPath(session, ""), nil, nil)
}

// Interrupt sends SIGINT to the session's own engine, also through the next server.
func (c *Client) Interrupt(ctx context.Context, session string) error {
	return c.patiently(ctx, func() error { return c.call(ctx, "POST", sessionPath(session, "/interrupt"), nil, nil) })
}

// Resize tells the size of the session's terminal.
func (c *Client) Resize(ctx context.Context, session string, size api.TerminalSize) error {
	return c.patiently(ctx, func() error { return c.call(ctx, "POST", sessionPath(session, "/resize"), size, nil) })
}

// Launch launches workers, refused ones are without id. They start once the reply was sent.
func (c *Client) Launch(ctx context.Context, session string, req api.LaunchWorkers) (w api.Workers, err error) {
	err = c.call(ctx, "POST", sessionPath(session, "/workers"), req, &w)
	return w, err
}

// Restart starts the work of workers again, refused ones are without id. They start once the reply was sent.
func (c *Client) Restart(ctx context.Context, session string, req api.Restart) (w api.Workers, err error) {
	err = c.call(ctx, "POST", sessionPath(session, "/restart"), req, &w)
	return w, err
}

// Workers lists the session's workers, newest first: all, or those of a group.
func (c *Client) Workers(ctx context.Context, session, group string) (w api.Workers, err error) {
	path := sessionPath(session, "/workers")
	if group != "" {
		path += "?" + url.Values{"group": {group}}.Encode()
	}
	err = c.call(ctx, "GET", path, nil, &w)
	return w, err
}

// Await waits for workers. progress, if not nil, is called when the counts change.
func (c *Client) Await(ctx context.Context, session string, req api.Await, progress func(api.AwaitProgress)) (a api.Awaited, err error) {
	began, limit, again := time.Now(), req.Timeout, false
	err = c.patiently(ctx, func() (err error) {
		if limit > 0 && again { // the next server has what is left of it
			req.Timeout = max(limit-time.Since(began).Seconds(), 0.001)
		}
		again = true
		if progress == nil {
			return c.call(ctx, "POST", sessionPath(session, "/await"), req, &a)
		}
		a, err = c.awaitLines(ctx, session, req, progress)
		return err
	})
	return a, err
}

// Stop stops workers.
func (c *Client) Stop(ctx context.Context, session string, req api.Stop) (s api.Stopped, err error) {
	err = c.call(ctx, "POST", sessionPath(session, "/stop"), req, &s)
	return s, err
}

// Engine finds a worker or a session's own engine by its id or by the beginning of it.
func (c *Client) Engine(ctx context.Context, id string) (w api.Worker, err error) {
	err = c.call(ctx, "GET", "/engines/"+url.PathEscape(id), nil, &w)
	return w, err
}

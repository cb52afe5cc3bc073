package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"syscall"

	"muster/api"
	"muster/engine"
)

// FromWire makes the error that the server meant.
func FromWire(e api.Error) *engine.Error {
	return &engine.Error{Kind: engine.Kind(e.Kind), Message: e.Message, Hint: e.Hint}
}

// unreachable is an error of kind unavailable that the client made, and no server sent.
type unreachable struct{ err *engine.Error }

func (u *unreachable) Error() string { return u.err.Error() }
func (u *unreachable) Unwrap() error { return u.err }

// Unreachable reports whether err says that no server of ours, or of this version, answered.
func Unreachable(err error) bool {
	_, ok := errors.AsType[*unreachable](err)
	return ok
}

// failed tells of a request that was not answered.
func (c *Client) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &unreachable{c.explain(plainCause(err))}
}

func (c *Client) explain(err error) *engine.Error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return engine.Errorf(engine.Unavailable, "the server's socket %s may not be opened: it belongs to another user", c.address).
			WithHint("ask as that user, or start a server of your own with: muster up")
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return engine.Errorf(engine.Unavailable, "no server answers at %s", c.address).WithHint("start one with: muster up")
	case isTLS(err):
		return engine.Errorf(engine.Unavailable, "the server at %s is not known to be the right one: %w", c.address, err).
			WithHint("set MUSTER_TLS_FINGERPRINT to what muster up printed there, or MUSTER_TLS_CA to a file with its certificate")
	case strings.Contains(err.Error(), "malformed HTTP"): // net/http has no type for it
		return engine.Errorf(engine.Unavailable, "what answers at %s is no muster server: %w", c.address, err).WithHint(checkAddress)
	default:
		return engine.Errorf(engine.Unavailable, "the server at %s cannot be reached: %w", c.address, err).
			WithHint("start one with: muster up")
	}
}

const checkAddress = "check the address (MUSTER_HOST, --server)"

// rubbish tells of an answer that no server of ours gives.
func (c *Client) rubbish(body []byte) error {
	const show = 80
	said := fmt.Sprintf("%q", body[:min(len(body), show)])
	if len(body) > show {
		said += " …"
	}
	if len(body) == 0 {
		said = "nothing"
	}
	return &unreachable{engine.Errorf(engine.Unavailable, "what answers at %s is no muster server: it said %s", c.address, said).
		WithHint(checkAddress)}
}

// broken tells of a connection that ended too early.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &unreachable{engine.Errorf(engine.Unavailable, "the connection to the server at %s broke: %w", c.address, plainCause(err))}
}

// plainCause is err without the URL that net/http puts before it.
func plainCause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

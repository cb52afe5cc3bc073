package server

import (
	"context"
	"net"

	"golang.org/x/net/netutil"

	"muster/engine"
)

// maxConnections is how many connections the engines of one session may have open; more of them wait. All sessions and the
// owner share this process's descriptors.
const maxConnections = 512

type listenerKey struct{}

// engineListener is the listener of one session's engines.
type engineListener struct {
	net.Listener
	session engine.ID
}

// ForEngines marks and bounds the connections of a listener that a session's engines reach: only their session's token is
// accepted there. Hand it to the Serve of HTTP's server.
func ForEngines(session engine.ID, l net.Listener) net.Listener {
	return &engineListener{Listener: netutil.LimitListener(l, maxConnections), session: session}
}

// listenerContext is what the requests of a listener begin with. It does not end with Close, which is for streams only.
func listenerContext(l net.Listener) context.Context {
	if e, ok := l.(*engineListener); ok {
		return context.WithValue(context.Background(), listenerKey{}, e.session)
	}
	return context.Background()
}

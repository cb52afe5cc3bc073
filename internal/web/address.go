package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"muster/engine"
)

// kind is one of the addresses that every engine has.
type kind struct {
	name     string // first part of the path, and of the sub-domain but for the app's
	port     int    // on the engine's 127.0.0.1
	variable string // that tells the port to the engine
	open     bool   // needs no login
}

var (
	app      = &kind{name: "app", port: 8090, variable: "CDSW_APP_PORT"}
	readOnly = &kind{name: "read-only", port: 8100, variable: "CDSW_READONLY_PORT"}
	public   = &kind{name: "public", port: 8080, variable: "CDSW_PUBLIC_PORT", open: true}
)

// host is a Host header taken apart, in lower case.
type host struct {
	name  string // without port, and without label once that is known
	port  string // with its colon; may be empty
	label string // what stands before the server's name; may be empty
}

// base is the server's own host, as this client calls it.
func (h host) base() string { return h.name + h.port }

// whole is the host as the client named it.
func (h host) whole() string {
	if h.label == "" {
		return h.base()
	}
	return h.label + "." + h.base()
}

// address is one engine's, with what of it is asked for.
type address struct {
	kind   *kind
	id     engine.ID
	host   host
	prefix string // of the path, "/app/<id>"; empty for a sub-domain
	path   string // escaped, without prefix
}

// scope names the address to tickets. Both forms of an address are one.
func (a address) scope() string { return a.kind.name + "-" + string(a.id) }

// splitHost takes host, host:port and [v6]:port apart; false for anything else.
func splitHost(s string) (host, bool) {
	s = strings.ToLower(s)
	name, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && i > strings.LastIndexByte(s, ']') {
		name, port = s[:i], s[i:]
		if len(port) < 2 || len(port) > 6 || strings.Trim(port[1:], "0123456789") != "" {
			return host{}, false
		}
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return host{name: name, port: port}, ok && err == nil && a.Is6()
	}
	return host{name: name, port: port}, name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

// serves tells whether the request's Host is ours. Numbers are, if the connection came in on them or the
// person configured them: a foreign page can make its own name lead here, but not a number.
func (g *Gateway) serves(r *http.Request) (host, bool) {
	h, ok := splitHost(r.Host)
	if !ok {
		return host{}, false
	}
	if ip, err := netip.ParseAddr(strings.Trim(h.name, "[]")); err == nil {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		here := local != nil && local.AddrPort().Addr().Unmap() == ip.Unmap()
		return h, here || ip.IsLoopback() || slices.Contains(g.names, h.name)
	}
	return g.named(h)
}

// named finds the server's name in a host.
func (g *Gateway) named(h host) (host, bool) {
	for _, name := range g.names {
		if h.name == name {
			return h, true
		}
		if label, ok := strings.CutSuffix(h.name, "."+name); ok {
			h.name, h.label = name, label
			return h, true
		}
	}
	return host{}, false
}

// locate finds the engine that a host and an escaped path lead to; false if they lead to none.
func locate(h host, path string) (address, bool) {
	a := address{host: h, path: path}
	for _, k := range []*kind{app, readOnly, public} {
		if h.label != "" {
			id := engine.ID(h.label)
			if k != app {
				rest, ok := strings.CutPrefix(h.label, k.name+"-")
				if !ok {
					continue
				}
				id = engine.ID(rest)
			}
			if id.Valid() {
				a.kind, a.id = k, id
				return a, true
			}
			continue
		}
		rest, ok := strings.CutPrefix(path, "/"+k.name+"/")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, "/")
		if id := engine.ID(name); id.Valid() {
			a.kind, a.id, a.prefix = k, id, "/"+k.name+"/"+name
			a.path = path[len(a.prefix):]
			return a, true
		}
	}
	return address{}, false
}

// withQuery is a path or URL with its query, if it has one.
func withQuery(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// nameOf is a host without its port.
func nameOf(hostport string) string {
	if name, _, err := net.SplitHostPort(hostport); err == nil {
		hostport = name
	}
	return strings.ToLower(strings.Trim(hostport, "[]"))
}

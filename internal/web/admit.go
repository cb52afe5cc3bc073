package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"muster/engine"
)

const (
	tokenParam = "muster_token"
	codeParam  = "muster_code"
	// cookiePrefix begins the names of all our cookies; the port follows, because browsers keep one jar for all ports.
	cookiePrefix = "muster-web"
)

// visitor is who asks for an engine's address.
type visitor struct {
	engine.Identity
	anybody bool // of an open address
}

func (v visitor) mayReach(e Engine) bool {
	return v.anybody || v.Owner || v.Session != "" && v.Session == e.Session || v.Person() && v.User == e.User
}

// admit finds out who asks for an address. After false it has answered: a login, a refusal, or the redirect that takes a
// code or token out of the browser's address.
func (g *Gateway) admit(w http.ResponseWriter, r *http.Request, a address) (visitor, bool) {
	if session, inside := g.session(r.Context()); inside {
		return visitor{Identity: engine.Identity{Session: session}}, true
	}
	if a.kind.open {
		return visitor{anybody: true}, true
	}
	if text, ok := param(r, codeParam); ok && navigates(r) {
		if who, ok := g.tickets.redeem(a.scope(), text); ok {
			g.settle(w, r, a, who)
		} else {
			redirect(w, cleanURL(r)) // asked twice, say by "back": the cookie may be there
		}
		return visitor{}, false
	}
	if token, ok := param(r, tokenParam); ok {
		who, known := g.manager.Authenticate(token)
		if known && navigates(r) {
			g.loggedIn(r.Context(), who)
		}
		switch {
		case !known:
			show(w, r, unauthorized("The token in the address is not known to this server."))
		case navigates(r):
			g.settle(w, r, a, who)
		default:
			return visitor{Identity: who}, true
		}
		return visitor{}, false
	}
	who, by := g.credentials(r, a)
	switch {
	case by == nothing && navigates(r):
		to := scheme(r) + "://" + a.host.base() + loginPath + "?to=" + url.QueryEscape(scheme(r)+"://"+a.host.whole()+cleanURL(r))
		redirect(w, to)
	case by == nothing:
		show(w, r, unauthorized("This address needs a login."))
	case by == basic && rides(r), by == cookie && (rides(r) || upgrades(r) && r.Header.Get("Origin") == ""):
		show(w, r, foreignPage(r.Header.Get("Origin")))
	default:
		return visitor{Identity: who}, true
	}
	return visitor{}, false
}

// means is how a request shows who sends it. Basic and cookies are added by the browser itself, also to requests that
// foreign pages cause.
type means int

const (
	nothing means = iota
	bearer
	basic
	cookie
)

// credentials reads the token in Authorization, else the address's cookie.
func (g *Gateway) credentials(r *http.Request, a address) (engine.Identity, means) {
	for _, value := range r.Header.Values("Authorization") {
		token, by := tokenIn(value)
		if by == nothing {
			continue
		}
		if who, ok := g.manager.Authenticate(token); ok {
			return who, by
		}
	}
	if who, ok := g.ticket(r, a.host, a.scope()); ok {
		return who, cookie
	}
	return engine.Identity{}, nothing
}

// ticket reads our cookie. There may be several of its name: pages can add some of a longer path.
func (g *Gateway) ticket(r *http.Request, h host, scope string) (engine.Identity, bool) {
	for _, c := range r.CookiesNamed(cookieName(h)) {
		if who, ok := g.tickets.open(scope, c.Value); ok && g.until(who).Err() == nil {
			return who, true
		}
	}
	return engine.Identity{}, false
}

// settle gives the browser the cookie of this address and sends it to the address without code or token.
func (g *Gateway) settle(w http.ResponseWriter, r *http.Request, a address, who engine.Identity) {
	setCookie(w, r, a.host, a.prefix+"/", g.tickets.seal(a.scope(), who))
	redirect(w, cleanURL(r))
}

func setCookie(w http.ResponseWriter, r *http.Request, h host, path, value string) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(h), Value: value, Path: path, MaxAge: int(ticketLife.Seconds()),
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
}

func cookieName(h host) string { return cookiePrefix + strings.ReplaceAll(h.port, ":", "-") }

// redirect is http.Redirect without changes to the path, and kept out of caches and Referer.
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// navigates: a browser wants to show what comes.
func navigates(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && !upgrades(r) && wantsHTML(r)
}

func wantsHTML(r *http.Request) bool {
	return strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Accept"), ",")), "text/html")
}

func upgrades(r *http.Request) bool { return r.Header.Get("Upgrade") != "" }

// rides: a page of another origin caused the request, and it is not a link that the person follows. Browsers tell in
// Sec-Fetch-Site (to sites that they trust, localhost among them) or in Origin; what tells neither is no browser, or asks
// for something harmless.
func rides(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	own := strings.EqualFold(origin, scheme(r)+"://"+r.Host)
	if upgrades(r) && origin != "" && !own {
		return true
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "":
		return origin != "" && !own
	}
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	return !(safe && origin == "" && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document")
}

// tokenIn takes the token out of an Authorization: Bearer's, or Basic's user as clients of the original send it.
func tokenIn(value string) (string, means) {
	if user, _, ok := (&http.Request{Header: http.Header{"Authorization": {value}}}).BasicAuth(); ok && user != "" {
		return user, basic
	}
	kind, token, _ := strings.Cut(value, " ")
	if token = strings.TrimSpace(token); token != "" && strings.EqualFold(kind, "Bearer") {
		return token, bearer
	}
	return "", nothing
}

// withoutOurs is the request without what is meant for us, which no engine may see.
func (g *Gateway) withoutOurs(r *http.Request) *http.Request {
	out := r.WithContext(r.Context())
	u := *r.URL
	u.RawQuery = cleanQuery(u.RawQuery)
	out.URL = &u
	out.Header = r.Header.Clone()
	delete(out.Header, "Authorization")
	for _, value := range r.Header.Values("Authorization") {
		if token, by := tokenIn(value); by != nothing {
			if _, ours := g.manager.Authenticate(token); ours {
				continue
			}
		}
		out.Header.Add("Authorization", value)
	}
	delete(out.Header, "Cookie")
	for _, line := range r.Header.Values("Cookie") {
		parts := slices.DeleteFunc(strings.Split(line, ";"), func(c string) bool {
			return strings.HasPrefix(strings.TrimSpace(c), cookiePrefix)
		})
		if line = strings.TrimSpace(strings.Join(parts, ";")); line != "" {
			out.Header.Add("Cookie", line)
		}
	}
	return out
}

// param is the first value of one of our parameters.
func param(r *http.Request, name string) (string, bool) {
	for _, part := range strings.Split(r.URL.RawQuery, "&") {
		if k, v, _ := strings.Cut(part, "="); unescaped(k) == name {
			return unescaped(v), true
		}
	}
	return "", false
}

// cleanQuery is a query without our parameters and otherwise to the letter: apps may read it in their own way.
func cleanQuery(query string) string {
	parts := slices.DeleteFunc(strings.Split(query, "&"), func(part string) bool {
		k, _, _ := strings.Cut(part, "=")
		return unescaped(k) == tokenParam || unescaped(k) == codeParam
	})
	return strings.Join(parts, "&")
}

// cleanURL is the request's path and query without our parameters. It begins with one slash: browsers take two for a host.
func cleanURL(r *http.Request) string {
	path := r.URL.EscapedPath()
	return withQuery("/"+strings.TrimLeft(path, `/\`), cleanQuery(r.URL.RawQuery))
}

func unescaped(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

package web

import (
	"net/http"
	"net/url"
	"strings"

	"muster/engine"
)

const (
	loginPath  = "/login"
	loginScope = "login"
	maxForm    = 16 << 10
)

// login is the page that knows who the person is: it takes a token once, and sends browsers that come from an engine's
// address back with a code.
func (g *Gateway) login(w http.ResponseWriter, r *http.Request, h host) {
	form := r.URL.Query()
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			show(w, r, page{status: http.StatusBadRequest, title: "Not a login", text: "The form cannot be read: " + err.Error()})
			return
		}
		form = r.PostForm
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		show(w, r, page{status: http.StatusMethodNotAllowed, title: "Not a login", text: "Use GET or POST."})
		return
	}
	if rides(r) {
		show(w, r, foreignPage(r.Header.Get("Origin")))
		return
	}
	to := form.Get("to")
	a, target, ok := g.destination(r, h, to)
	if to != "" && !ok {
		show(w, r, page{status: http.StatusBadRequest, title: "Not an engine's address",
			text: "After the login you would be sent to " + to + ", which is no address of an engine of this server that needs one."})
		return
	}
	who, ok := g.recognise(w, r, h, form.Get("token"))
	switch {
	case !ok:
		showLogin(w, r, to, form.Get("token") != "")
	case to == "":
		show(w, r, page{status: http.StatusOK, title: "Logged in", text: "This browser may now open the web addresses of engines."})
	case !g.leads(who, a):
		showLogin(w, r, to, false)
	default:
		redirect(w, withCode(target, g.tickets.issue(a.scope(), who)))
	}
}

// leads reports whether a login is good for an address. One for another session's engines is none for this, and the person may
// have a better token.
func (g *Gateway) leads(who engine.Identity, a address) bool {
	e, found := g.manager.Find(a.id)
	return who.Owner || found && visitor{Identity: who}.mayReach(e)
}

// recognise takes the token, which becomes the login's cookie, or the person's own browser, or the cookie of an earlier login.
func (g *Gateway) recognise(w http.ResponseWriter, r *http.Request, h host, token string) (engine.Identity, bool) {
	if token == "" {
		if shows(r) && !forwarded(r) {
			if who, ok := g.person(r.Context()); ok {
				g.loggedIn(r.Context(), who)
				return who, true
			}
		}
		return g.ticket(r, h, loginScope)
	}
	who, ok := g.manager.Authenticate(token)
	if ok {
		g.loggedIn(r.Context(), who)
	}
	if before, _ := g.ticket(r, h, loginScope); ok && (who.Person() || !before.Person()) { // a session's token takes nothing away from a person
		setCookie(w, r, h, loginPath, g.tickets.seal(loginScope, who))
	}
	return who, ok
}

// shows: a browser says that it asks for what it will show in a window or tab. login has refused what foreign pages cause
// otherwise. Chromium 156 and Firefox 153, which were tried, say it to http://localhost and below it.
func shows(r *http.Request) bool {
	return navigates(r) && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document"
}

// forwarded: somebody between the browser and us says so.
func forwarded(r *http.Request) bool {
	for name := range r.Header {
		if name == "Via" || name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return true
		}
	}
	return false
}

// destination is the address where a login leads: an engine's, under the very name and port that the login was asked
// under, so that no code reaches what others serve on another port.
func (g *Gateway) destination(r *http.Request, h host, to string) (address, *url.URL, bool) {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != scheme(r) || u.User != nil || u.Opaque != "" {
		return address{}, nil, false
	}
	there, ok := splitHost(u.Host)
	if !ok {
		return address{}, nil, false
	}
	if there != h { // h was found to be ours, also where it is a number
		there, ok = g.named(there)
	}
	if !ok || there.base() != h.base() {
		return address{}, nil, false
	}
	a, ok := locate(there, u.EscapedPath())
	u.Host, u.Fragment, u.RawFragment = there.whole(), "", ""
	return a, u, ok && !a.kind.open
}

func withCode(u *url.URL, code string) string {
	c := *u
	c.RawQuery = strings.TrimPrefix(cleanQuery(c.RawQuery)+"&"+codeParam+"="+code, "&")
	return c.String()
}

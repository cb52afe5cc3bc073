package web

import (
	"fmt"
	"html/template"
	"net/http"
	"strconv"
)

// page is an answer of our own: text for programs, HTML for browsers.
type page struct {
	status int
	title  string
	text   string
	retry  int  // seconds until it is worth asking again; a browser does so by itself. 0: it is not
	login  bool // asks for a token
	to     string
}

var pageHTML = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title>
{{if .Retry}}<meta http-equiv="refresh" content="{{.Retry}}">{{end}}
<style>body{font:1rem/1.5 sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}p{white-space:pre-line;overflow-wrap:anywhere}</style>
</head><body><h1>{{.Title}}</h1><p>{{.Text}}</p>
{{if .Login}}<form method="post" action="/login"><input type="hidden" name="to" value="{{.To}}">
<label>Token <input type="password" name="token" autocomplete="off" required autofocus></label> <button>Log in</button></form>{{end}}
</body></html>
`))

func show(w http.ResponseWriter, r *http.Request, p page) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	// No form-action: browsers apply it to the redirect after the login too. frame-ancestors: no page around the login.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	// Not no-referrer: browsers would then send the login's form with the origin "null".
	h.Set("Referrer-Policy", "same-origin")
	h.Add("Vary", "Accept")
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retry))
	}
	if p.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="muster"`) // not Basic: browsers would ask, and remember
	}
	if !wantsHTML(r) {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(p.status)
		fmt.Fprintf(w, "%s\n%s\n", p.title, p.text)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(p.status)
	pageHTML.Execute(w, struct {
		Title, Text, To string
		Retry           int
		Login           bool
	}{p.title, p.text, p.to, p.retry, p.login})
}

func showLogin(w http.ResponseWriter, r *http.Request, to string, wrong bool) {
	p := page{status: http.StatusOK, title: "Log in to Muster", login: true, to: to,
		text: "Web addresses of engines are for whoever has a token of this server: the owner's, one of the user's whose session it is, or that session's.\n" +
			"\"muster open ID\", in a terminal or in the session, prints a link that logs in."}
	if wrong {
		p.text = "That token is not known to this server. The owner's changes when a server starts, and others end.\n" + p.text
	}
	if wrong || !wantsHTML(r) {
		p.status = http.StatusUnauthorized
	}
	show(w, r, p)
}

// called names an engine to people.
func called(e Engine) string {
	role := string(e.Role)
	if role == "" {
		role = "engine"
	}
	return fmt.Sprintf("%s %q (%s)", role, e.Name, e.ID)
}

func reason(e Engine) string {
	if e.Why == "" {
		return string(e.Status) + "."
	}
	return string(e.Status) + ", " + e.Why + "."
}

func notListening(e Engine, a address) page {
	return page{status: http.StatusServiceUnavailable, title: "Nothing listens yet", retry: 1,
		text: fmt.Sprintf("The %s is %s and nothing listens on its port %d.\nStart your web app there on 127.0.0.1:$%s (or on 0.0.0.0), and this address leads to it.",
			called(e), e.Status, a.kind.port, a.kind.variable)}
}

func notStarted(e Engine) page {
	return page{status: http.StatusServiceUnavailable, title: "Not started yet", retry: 1,
		text: fmt.Sprintf("The %s has not started yet: %s", called(e), reason(e))}
}

func notAccepting(e Engine, a address) page {
	return page{status: http.StatusGatewayTimeout, title: "The app takes no connections", retry: 5,
		text: fmt.Sprintf("Port %d of the %s is open, but no connection was accepted within %s: the app is busy or stuck.",
			a.kind.port, called(e), dialTimeout)}
}

func unreachable(e Engine, a address) page {
	return page{status: http.StatusServiceUnavailable, title: "The engine cannot be reached", retry: 5,
		text: fmt.Sprintf("Port %d of the %s (%s) cannot be reached from the server; its log says why.", a.kind.port, called(e), e.Status)}
}

func noReply(e Engine, a address, err error) page {
	return page{status: http.StatusBadGateway, title: "The app gave no proper answer",
		text: fmt.Sprintf("What listens on port %d of the %s did not answer with HTTP: %v.\nIts output may say more.", a.kind.port, called(e), err)}
}

func ended(e Engine) page {
	return page{status: http.StatusGone, title: "The engine has ended",
		text: fmt.Sprintf("The %s has ended: %s", called(e), reason(e))}
}

func noEngine(name string) page {
	return page{status: http.StatusNotFound, title: "No such engine",
		text: fmt.Sprintf("There is no engine %q here that you may see. %q shows those that run.", name, "muster ps")}
}

func unauthorized(what string) page {
	return page{status: http.StatusUnauthorized, title: "Not logged in", text: what +
		"\nIn a browser, open it again or log in under /login; in a script, send \"Authorization: Bearer TOKEN\"."}
}

func foreignPage(origin string) page {
	if origin == "" {
		origin = "another origin"
	}
	return page{status: http.StatusForbidden, title: "Refused",
		text: fmt.Sprintf("A page of %s caused this request; your login counts only for the address's own pages.\nIn a script, send \"Authorization: Bearer TOKEN\".", origin)}
}

func wrongHost(asked, name string) page {
	return page{status: http.StatusMisdirectedRequest, title: "Not the name of this server",
		text: fmt.Sprintf("This server does not go by the name %q: use %s, or the address that it listens on.", asked, name)}
}

func closing() page {
	return page{status: http.StatusServiceUnavailable, title: "The server ends", text: "The server is about to end.", retry: 5}
}

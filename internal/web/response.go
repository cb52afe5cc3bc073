package web

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// rewriteResponse makes what the app says of addresses true outside, and keeps it from what is not its own.
func (a address) rewriteResponse(res *http.Response) error {
	if cookies := res.Header["Set-Cookie"]; len(cookies) > 0 {
		kept := cookies[:0]
		for _, c := range cookies {
			if c, ok := a.setCookie(c); ok {
				kept = append(kept, c)
			}
		}
		res.Header["Set-Cookie"] = kept
	}
	for _, name := range []string{"Location", "Content-Location"} {
		if l := res.Header.Get(name); l != "" {
			res.Header.Set(name, a.location(l))
		}
	}
	if a.prefix != "" {
		// Both would reach beyond the prefix: a worker for all addresses by path, and everybody's cookies.
		res.Header.Del("Service-Worker-Allowed")
		res.Header.Del("Clear-Site-Data")
	}
	return nil
}

// setCookie is an app's cookie for its own host and path only; false for one of ours. What it says else passes to the letter.
func (a address) setCookie(line string) (string, bool) {
	parts := strings.Split(line, ";")
	// Browsers send a cookie without a name as its bare value, which may look like one of ours.
	if strings.HasPrefix(strings.TrimLeft(parts[0], " \t="), cookiePrefix) {
		return "", false
	}
	kept := parts[:1]
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if strings.EqualFold(name, "Domain") {
			continue
		}
		if strings.EqualFold(name, "Path") && strings.HasPrefix(value, "/") {
			part = " Path=" + a.outside(value)
		}
		kept = append(kept, part)
	}
	return strings.Join(kept, ";"), true
}

// outside puts the prefix before an absolute path, unless the app has done so (from X-Forwarded-Prefix).
func (a address) outside(path string) string {
	if rest, ok := strings.CutPrefix(path, a.prefix); ok && (rest == "" || strings.ContainsAny(rest[:1], "/?#")) {
		return path
	}
	return a.prefix + path
}

// location is where an app redirects, as a browser can go there. Apps say a path, or a URL with the Host they were asked
// under, or one with the port that they know of themselves.
func (a address) location(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Opaque != "" || u.User != nil {
		return to
	}
	switch {
	case u.Host == "" && u.Scheme == "" && strings.HasPrefix(to, "/"):
		return a.outside(to)
	case u.Host == "":
		return to
	case strings.EqualFold(u.Host, a.host.whole()) && a.prefix != "":
		u.Path, u.RawPath = a.outside("/"+strings.TrimPrefix(u.Path, "/")), a.outsideRaw(u)
		return u.String()
	case a.itself(u.Host):
		rest := url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery, Fragment: u.Fragment, RawFragment: u.RawFragment}
		return a.outside("/" + strings.TrimLeft(rest.String(), "/"))
	}
	return to
}

func (a address) outsideRaw(u *url.URL) string {
	if u.RawPath == "" {
		return ""
	}
	return a.outside(u.RawPath)
}

// itself: the app's own port, as it looks inside the engine.
func (a address) itself(hostport string) bool {
	name, port, err := net.SplitHostPort(hostport)
	return err == nil && port == strconv.Itoa(a.kind.port) && (name == "127.0.0.1" || name == "localhost" || name == "0.0.0.0")
}

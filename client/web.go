package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"muster/engine"
)

// WebLink makes a link that lets one browser, once and within half a minute, into the web address of an engine, without the
// token being seen. domain is the server's name and port for browsers, what app_url ends with.
func (c *Client) WebLink(ctx context.Context, domain, address string) (string, error) {
	login := "http://" + domain + "/login"
	form := url.Values{"token": {c.token}, "to": {address}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, login, strings.NewReader(form))
	if err != nil {
		return "", engine.Errorf(engine.Invalid, "%q is no name of a server: %v", domain, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	browser := &http.Client{ // no proxy: tokens go to the server alone
		Transport:     &http.Transport{DisableKeepAlives: true},
		Timeout:       dialTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := browser.Do(req)
	if err != nil {
		return "", engine.Errorf(engine.Unavailable, "browsers are not served at %s: %v", domain, err)
	}
	resp.Body.Close()
	link := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(link, address) {
		return "", engine.Errorf(engine.Unavailable, "the login at %s answered with %s", login, resp.Status)
	}
	return link, nil
}

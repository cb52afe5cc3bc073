package client

import (
	"bufio"
	"context"
	"encoding/json"
	"net/url"
	"time"

	"muster/api"
)

// CreateToken makes a token; the reply alone tells it.
func (c *Client) CreateToken(ctx context.Context, req api.CreateToken) (t api.Token, err error) {
	err = c.call(ctx, "POST", "/tokens", req, &t)
	return t, err
}

// Tokens lists the tokens that the sender may see.
func (c *Client) Tokens(ctx context.Context) (list []api.Token, err error) {
	err = c.call(ctx, "GET", "/tokens", nil, &list)
	return list, err
}

// RevokeToken revokes a token by its id.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", "/tokens/"+url.PathEscape(id), nil, nil)
}

// Audit calls do for every recorded request, oldest first: of a user, if one is named, and since a time, if it is not zero. Owner
// only.
func (c *Client) Audit(ctx context.Context, user string, since time.Time, do func(api.AuditEntry) error) error {
	query := url.Values{}
	if user != "" {
		query.Set("user", user)
	}
	if !since.IsZero() {
		query.Set("since", since.Format(time.RFC3339))
	}
	resp, err := c.do(ctx, "GET", "/audit?"+query.Encode(), request{accept: "application/x-ndjson"})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e api.AuditEntry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return c.rubbish(lines.Bytes())
		}
		if err := do(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

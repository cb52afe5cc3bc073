package api

import "time"

// CreateToken is the body of POST /tokens.
type CreateToken struct {
	User    string  `json:"user,omitempty" doc:"whose it is to be (owner only); empty: who asks"`
	Name    string  `json:"name,omitempty" doc:"for people, to know it again"`
	Seconds float64 `json:"good_for_seconds,omitempty" doc:"0: until it is revoked"`
}

// Token describes a token that people made. Token itself is only in the reply to its creation.
type Token struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	User      string     `json:"user,omitempty" doc:"empty: the server's owner"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at" doc:"null: never"`
	UsedAt    *time.Time `json:"used_at" doc:"the last use, to the hour; null: none is known"`
	Token     string     `json:"token,omitempty"`
}

// AuditEntry is a line of GET /audit: who asked for what, and what came of it.
type AuditEntry struct {
	At      time.Time `json:"at"`
	Action  string    `json:"action"`
	User    string    `json:"user" doc:"a user of the machine, or owner"`
	UID     int       `json:"uid" doc:"-1: not known"`
	Token   string    `json:"token,omitempty" doc:"the id of the token by which"`
	By      string    `json:"by,omitempty" doc:"the session whose code asked"`
	From    string    `json:"from" doc:"unix, or an address"`
	Session string    `json:"session,omitempty"`
	Engines []string  `json:"engines,omitempty" doc:"the first few that it is about"`
	About   string    `json:"about,omitempty"`
	Result  string    `json:"result" doc:"ok, or the kind of the error"`
}

package engine

// Identity is who sends a request: the owner of the server, or one session's code.
type Identity struct {
	Owner   bool // may see and do everything
	Session ID   // the session a token was made for; empty for the owner
}

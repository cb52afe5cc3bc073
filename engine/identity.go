package engine

// Identity is who sends a request: the owner of the server, one of the users of a shared server, or one session's code.
type Identity struct {
	Owner   bool   // may see and do everything
	Session ID     // the session a token was made for; empty for people
	User    User   // of a shared server, who it is or whose session; the zero User is the server's own
	Token   string // the id of the token that says so, where it is one that people make and revoke
}

// Person reports whether a person asks: the owner or a user, and no session's code.
func (i Identity) Person() bool { return i.Session == "" && (i.Owner || i.User != User{}) }

// User is one of the users of the machine whom a shared server tells apart. The zero User is the server's own.
type User struct {
	Name string
	UID  int
}

// Account is what the machine knows of a user: the rights with which the user's engines run, and what their environment says.
type Account struct {
	User
	GID         int
	Groups      []int
	Home, Shell string
}

package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"muster/client"
	"muster/engine"
	"muster/internal/linux/peer"
)

// place is where a server is, and by whom it is asked.
type place struct {
	address, token string
	explicit       bool // somebody named it: no other place will do
	inEngine       bool // the session of the engine in which the command runs
}

// find finds the server that a command speaks to, which may not be there.
func (a *app) find() (place, error) {
	named := a.named()
	if named == "" && a.inEngine() {
		return place{address: engineURL(a.getenv("MUSTER_URL")), token: a.getenv("CDSW_API_KEY"), explicit: true, inEngine: true}, nil
	}
	return a.findServer(named)
}

// inEngine reports whether the command runs in an engine, whose session it then speaks of.
func (a *app) inEngine() bool {
	return a.getenv("CDSW_ENGINE_ID") != "" && a.getenv("MUSTER_URL") != "" && a.getenv("CDSW_API_KEY") != ""
}

// named is the address that somebody gave, "" if nobody did.
func (a *app) named() string {
	if a.server != "" && a.server != "auto" {
		return a.server
	}
	return a.getenv("MUSTER_HOST")
}

// findServer finds the server at a named address, or the one of this user.
func (a *app) findServer(named string) (place, error) {
	dir := RuntimeDir(a.getenv)
	if err := CheckAbsolute("MUSTER_RUNTIME_DIR", dir); err != nil {
		return place{}, err
	}
	p := place{address: "unix://" + filepath.Join(dir, socketName)}
	if named != "" {
		p = place{address: clientAddress(named), explicit: true}
	} else if err := checkRuntimeDir(dir); err != nil {
		return place{}, err
	} else if !a.ownServer(dir) {
		if address, there := a.sharedServer(); there {
			p.address, dir = address, sharedRuntimeDir // the token there is for root's eyes; others need none
		}
	}
	if p.token = a.getenv("MUSTER_TOKEN"); p.token != "" || !onThisMachine(p.address) {
		return p, checkToken(p.token)
	}
	b, err := os.ReadFile(tokenFile(p.address, dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return place{}, engine.Errorf(engine.Unavailable, "the server's token: %w", err)
	}
	if p.token = strings.TrimSpace(string(b)); p.token == "" {
		return p, nil // the server says that it wants one
	}
	return p, listenedToByUs(p.address)
}

// listenedToByUs refuses a port of this machine on which another user listens: a server that was killed leaves its token, and
// whoever takes its port would be sent that.
func listenedToByUs(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "unix" {
		return err
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return nil // the connection will say so
	}
	uids, err := peer.TCPListeners(uint16(port))
	for _, uid := range uids {
		if uid != 0 && uid != os.Geteuid() {
			return engine.Errorf(engine.Unauthorized, "user %d listens on port %d of this machine: your server's token is not sent there", uid, port).
				WithHint("start a server of your own again with muster up --tcp, or set MUSTER_TOKEN to the token that is meant for that one")
		}
	}
	return err
}

// checkToken refuses what no header can carry, as a newline that was copied along. It shows the character alone: a token is a secret.
func checkToken(token string) error {
	for i, r := range token {
		if r <= ' ' || r > '~' {
			return engine.Errorf(engine.Invalid, "MUSTER_TOKEN has a character that no token has: %q, after %d others", r, utf8.RuneCountInString(token[:i])).
				WithHint("set it to the token alone, as muster token create printed it")
		}
	}
	return nil
}

// connect makes a client for the server that find finds.
func (a *app) connect() (*client.Client, place, error) {
	p, err := a.find()
	if err != nil {
		return nil, p, err
	}
	config := a.config(p.address, p.token, a.away)
	if a.slowAfter > 0 {
		config.SlowAfter, config.Slow = a.slowAfter, sync.OnceFunc(func() {
			fmt.Fprintf(a.Err, "muster: waiting for the server at %s, which has not answered yet; Ctrl-C ends this\n", p.address)
		})
	}
	c, err := newClient(config)
	return c, p, err
}

// client makes a client for a server.
func (a *app) client(address, token string, away func(error)) (*client.Client, error) {
	return newClient(a.config(address, token, away))
}

func (a *app) config(address, token string, away func(error)) client.Config {
	return client.Config{Address: address, Token: token, Away: away, TLS: client.TLS{
		CAFile: a.getenv("MUSTER_TLS_CA"), Fingerprint: a.getenv("MUSTER_TLS_FINGERPRINT"),
	}}
}

func newClient(c client.Config) (*client.Client, error) {
	if socket, ok := strings.CutPrefix(c.Address, "unix://"); ok {
		if err := CheckSocket(socket); err != nil {
			return nil, err
		}
	}
	return client.New(c)
}

// away tells whoever follows a console that the server went away, and that it is back: what it shows goes on without it.
func (a *app) away(err error) {
	if err == nil {
		fmt.Fprintln(a.Err, "muster: the server is back")
		return
	}
	fmt.Fprintf(a.Err, "muster: %v; sessions go on, and this command waits for a server\n", err)
}

// onThisMachine reports whether a server is on this machine for sure. The tokens that lie here are for no other: that of a server
// at the same port of another machine has the same name. What a name leads to, others may say.
func onThisMachine(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "unix" {
		return err == nil
	}
	if host := u.Hostname(); host == "" || host == "localhost" {
		return true
	}
	at, err := netip.ParseAddr(u.Hostname())
	if err != nil || at.IsLoopback() || at.IsUnspecified() {
		return err == nil
	}
	own, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr() == at.Unmap()
	})
}

// clientAddress completes what people write: /path for a socket, host:port for TCP.
func clientAddress(s string) string {
	switch {
	case strings.HasPrefix(s, "/"):
		return "unix://" + s
	case strings.HasPrefix(s, "tcp://"):
		return "http://" + strings.TrimPrefix(s, "tcp://")
	case !strings.Contains(s, "://"):
		return "http://" + s
	}
	return s
}

// engineURL is MUSTER_URL without the path of the API, which clients in other languages may want in it.
func engineURL(s string) string {
	scheme, rest, _ := strings.Cut(clientAddress(s), "://")
	if scheme == "unix" {
		return scheme + "://" + rest
	}
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host
}

// answers reports whether somebody listens at a socket, and its process if that can be told.
func answers(socket string) (pid int, yes bool) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, false
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, true
	}
	raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid, true
}

package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"muster/engine"
)

// Deps are the parts of the program that the commands need and that are not behind the client.
type Deps struct {
	Version string
	// Environ is the caller's environment, nil: os.Environ().
	Environ []string
	// Dir is the working directory, "": os.Getwd().
	Dir string
	// Signals replaces the process's own; nil: SIGINT, SIGTERM, SIGHUP and SIGQUIT of the process.
	Signals <-chan os.Signal
	// Embedded starts a server inside this process, for "run". It returns when the server answers at address; token is its
	// owner's. close ends it, and what still runs in it, and waits until all is gone.
	Embedded func(ctx context.Context, o EmbeddedOptions) (address, token string, close func(context.Context) error, err error)
	// Serve is "up": it serves until ctx ends, then ends all sessions unless they are to be kept, and returns nil.
	Serve func(ctx context.Context, o UpOptions) error
	// Clients installs the packages of a language for an interpreter of the caller's, or removes them.
	Clients func(ctx context.Context, r ClientsRequest) (ClientsResult, error)
	// Doctor examines the machine.
	Doctor func(ctx context.Context) Report
}

// EmbeddedOptions are what "run" says about the server inside it.
type EmbeddedOptions struct {
	HardCPU bool      // CPU as a cap instead of a share
	Rung    string    // auto, root, rootless or plain
	GPUs    string    // see UpOptions.GPUs
	Log     io.Writer // for the server's warnings
}

// UpOptions are the flags of "up".
type UpOptions struct {
	// Listen is "unix:///path/to/socket" or "tcp://host:port". A socket's folder exists, and no server answers at the
	// socket; a stale socket may be there. (That nobody else starts at the same moment is Serve's to ensure.)
	Listen string
	// TokenFile is where Serve writes the owner's token (mode 0600), and what it removes at its end.
	TokenFile string
	// TCP is another listener, "tcp://host:port", for other machines; "": none. TCPTokenFile is its TokenFile.
	TCP, TCPTokenFile   string
	TLS                 TLSOptions
	Insecure            bool   // plain text may go over networks
	StateDir            string // "": a default of Serve's
	Network             string // CIDR; "": the first free one
	HardCPU             bool
	MemoryCapacityBytes int64     // what all engines together may ask for; 0: the machine's
	Shared              bool      // by all users of the machine: each asks for and sees what is his
	GPUs                string    // JSON list of devices, or the path of a file with one; "": what the machine has
	Quota               string    // file with quotas; "": there are none
	Rung                string    // auto, root, rootless or plain
	Web                 string    // host:port where browsers find engines, or none; "": a default of Serve's
	Log                 io.Writer // for people: warnings, requests that failed
	// Keep lets sessions go on when the server is told to end, for the next one to adopt.
	Keep bool
	// Replaces is the process of the server that answers at Listen, which is to let its sessions go on and end; 0: none does.
	Replaces int
	// Grace is how long a session whose creator is on another machine outlives the connection to it; 0: a default of Serve's.
	Grace time.Duration
	// LogsDays and LogsGB bound what is kept of sessions that have ended; 0: no limit.
	LogsDays int
	LogsGB   float64
	// Salvage makes new records of what can be read of damaged ones.
	Salvage bool
	// UntilIdle ends the server by itself when no session has lived for so long; 0: never. Serve then waits for one that is
	// just starting or ending, and returns a ServerRunsError when another answers at Listen.
	UntilIdle time.Duration
	// Ready is called once, when the server answers at address, and browsers find engines below web ("": they do not).
	Ready func(address, web string)
}

// TLSOptions say what the TCP listeners speak TLS with.
type TLSOptions struct {
	Cert, Key string // files
	Self      bool   // a certificate that the server makes for itself, and keeps
}

// Asked reports whether they speak TLS at all.
func (t TLSOptions) Asked() bool { return t.Self || t.Cert != "" }

// ServerRunsError says that another server is there already. It is of kind Conflict.
type ServerRunsError struct{ err error }

// ServerRuns makes one: where that server is, and what to do next.
func ServerRuns(where, hint string) error {
	return &ServerRunsError{&engine.Error{Kind: engine.Conflict, Message: "a server already runs (" + where + ")", Hint: hint}}
}

func (e *ServerRunsError) Error() string { return e.err.Error() }
func (e *ServerRunsError) Unwrap() error { return e.err }

// Report is what "doctor" found.
type Report struct {
	Rows []Row `json:"rows"`
}

// Row is one thing that was examined.
type Row struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // what to do when it is not OK
	// Optional: most people do without it.
	Optional bool `json:"optional,omitempty"`
}

func (d Deps) withDefaults() Deps {
	if d.Environ == nil {
		d.Environ = os.Environ()
	}
	if d.Version == "" {
		d.Version = "unknown"
	}
	return d
}

// dir is the working directory.
func (a *app) dir() (string, error) {
	if a.deps.Dir != "" {
		return a.deps.Dir, nil
	}
	dir, err := os.Getwd()
	if errors.Is(err, fs.ErrNotExist) {
		return "", engine.Errorf(engine.Invalid, "the folder that you are in is not there any more: somebody deleted it").
			WithHint("go to another one with cd")
	}
	return dir, err
}

package drivertest

import "net/netip"

// Step is one thing that a program does. A program passes its steps in order and ends with exit code 0.
type Step interface{ step() }

// Private is Spec.Private of all that the suite starts.
const Private = "{private}"

// Program is how steps are expressed: the fields of driver.Spec of the same names, Env in addition to a minimal one.
type Program struct {
	Argv    []string
	Env     []string
	Files   map[string][]byte
	Visible []string
}

type (
	// Print writes a line to stdout.
	Print struct{ Text string }
	// PrintErr writes a line to stderr.
	PrintErr struct{ Text string }
	// Numbers writes the lines 0 to N-1 to stdout.
	Numbers struct{ N int }
	// PrintEnv writes the whole environment, sorted, a KEY=VALUE for each line.
	PrintEnv struct{}
	// PrintDir writes the working directory.
	PrintDir struct{}
	// PrintHost writes the hostname and the address that it resolves to.
	PrintHost struct{}
	// CountProcesses writes "processes N": how many processes the engine sees.
	CountProcesses struct{}
	// CopyStdin copies stdin to stdout until its end.
	CopyStdin struct{}
	// TerminalSize writes "ROWS COLS" of the terminal that is stdin, or "no terminal".
	TerminalSize struct{}
	// ReadLine reads a line of stdin.
	ReadLine struct{}
	// Exit ends with an exit code.
	Exit struct{ Code int }
	// Die sends itself a signal.
	Die struct{ Signal int }
	// Hang goes on until something ends it.
	Hang struct{}
	// IgnoreTerm makes SIGTERM do nothing from here on.
	IgnoreTerm struct{}
	// Trap makes a signal write a line and end with exit code 0.
	Trap struct {
		Signal int
		Text   string
	}
	// Allocate allocates memory and writes to every page of it.
	Allocate struct{ Bytes int64 }
	// Spin uses CPU until it has used so many seconds of it.
	Spin struct{ CPUSeconds float64 }
	// Serve listens on the engine's address and on 127.0.0.1, writes "listening", and answers every connection with a line.
	Serve struct {
		Port int
		Text string
	}
	// Connect writes "got LINE" with the line that a server answers, or "no connection: …". It gives up after 20 s,
	// unless a refusal comes earlier.
	Connect struct {
		Addr netip.Addr
		Port int
	}
	// Grandchild starts a descendant that leaves parents, session and process group behind, ignores SIGTERM and holds the
	// FIFO open for writing as long as it lives; then writes "grandchild".
	Grandchild struct{ FIFO string }
	// WriteFile makes a file.
	WriteFile struct{ Path, Text string }
	// AwaitFile goes on when there is a file.
	AwaitFile struct{ Path string }
	// Exists writes "yes PATH" or "no PATH".
	Exists struct{ Path string }
)

func (Print) step()          {}
func (PrintErr) step()       {}
func (Numbers) step()        {}
func (PrintEnv) step()       {}
func (PrintDir) step()       {}
func (PrintHost) step()      {}
func (CountProcesses) step() {}
func (CopyStdin) step()      {}
func (TerminalSize) step()   {}
func (ReadLine) step()       {}
func (Exit) step()           {}
func (Die) step()            {}
func (Hang) step()           {}
func (IgnoreTerm) step()     {}
func (Trap) step()           {}
func (Allocate) step()       {}
func (Spin) step()           {}
func (Serve) step()          {}
func (Connect) step()        {}
func (Grandchild) step()     {}
func (WriteFile) step()      {}
func (AwaitFile) step()      {}
func (Exists) step()         {}

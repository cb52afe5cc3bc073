package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"muster/engine"
)

const (
	readyFlag = "ready-fd"
	// firstExtra is the descriptor that the first of os/exec's ExtraFiles becomes.
	firstExtra = 3
	logName    = "server.log"
)

// serverPlace is what "up --background --json" prints: all that a program on this machine needs to ask the server.
type serverPlace struct {
	Address   string `json:"address"`
	TokenFile string `json:"token_file,omitempty"` // "": the server knows its users by their connection
}

func (o *upOptions) found() serverPlace {
	found := serverPlace{Address: clientAddress(o.serve.Listen), TokenFile: o.serve.TokenFile}
	if f, err := os.Open(found.TokenFile); err == nil {
		f.Close()
	} else if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // a server of root's that this user shares
		found.TokenFile = ""
	}
	return found
}

// detach starts the server as a process of its own, away from our terminal, and returns when it answers: it closes a pipe
// then, as its end would. One that finds another server there is content too, if that is what was asked for.
func (o *upOptions) detach(ctx context.Context, a *app, cmd *cobra.Command) error {
	path := filepath.Join(filepath.Dir(o.serve.TokenFile), logName)
	log, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return engine.Errorf(engine.Unavailable, "the server's log: %w", err)
	}
	defer log.Close()
	ready, told, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	server := exec.Command("/proc/self/exe", o.again(cmd)...)
	server.Args[0], server.Env = "muster", a.deps.Environ
	server.Stdout, server.Stderr, server.ExtraFiles = log, log, []*os.File{told}
	server.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = server.Start()
	told.Close()
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	forget := context.AfterFunc(ctx, func() { server.Process.Signal(syscall.SIGTERM) })
	address, _ := io.ReadAll(ready)
	if len(address) > 0 && forget() {
		said, _ := os.ReadFile(path) // such as what this machine cannot isolate
		a.Err.Write(said)
		if o.json {
			return a.printJSON(o.found())
		}
		fmt.Fprintf(a.Err, "muster: the server answers at %s; it says more in %s; end it with: kill %d\n", address, path, server.Process.Pid)
		return server.Process.Release()
	}
	if err = server.Wait(); err == nil && o.json {
		return a.printJSON(o.found())
	}
	return o.failed(a, path, err)
}

// failed passes on what a server said that does not serve, and its exit code.
func (o *upOptions) failed(a *app, log string, err error) error {
	said, readErr := os.ReadFile(log)
	exit, ok := errors.AsType[*exec.ExitError](err)
	if readErr != nil || err != nil && !ok {
		return errors.Join(err, readErr)
	}
	a.Err.Write(said)
	switch {
	case err == nil:
		return nil
	case len(strings.TrimSpace(string(said))) == 0 || exit.ExitCode() < 0:
		return engine.Errorf(engine.Unavailable, "the server did not start: %v", err).WithHint("look into %s", log)
	}
	return &exitError{code: exit.ExitCode()}
}

// again is the command line of the server that is to be in the background.
func (o *upOptions) again(cmd *cobra.Command) []string {
	args := []string{"up", "--" + readyFlag, strconv.Itoa(firstExtra)}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "background" && f.Name != "json" {
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	return args
}

// tellReady tells whoever started us in the background.
func (o *upOptions) tellReady(address string) {
	f := os.NewFile(uintptr(o.readyFD), "ready")
	io.WriteString(f, address) // nobody there: then nobody waits
	f.Close()
}

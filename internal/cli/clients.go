package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"muster/engine"
)

// ClientsRequest is for one interpreter.
type ClientsRequest struct {
	Language string // python or r
	Path     string // of the interpreter
	Environ  []string
	Binary   string // this program
	Remove   bool
}

// ClientsResult says what was done to it.
type ClientsResult struct {
	Interpreter string // its real path and its version
	Folder      string // of the packages
	Changed     bool   // false: it was so before
	Left        string // what is not ours and stays; "": nothing
}

type clientsOptions struct {
	python string
	r      bool
	remove bool
}

func newClients(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clients",
		Short: "Put the Python and R packages where your own interpreters find them",
		Long: `In engines, "import cdsw" and "library(cdsw)" work without anything being installed. These commands make them work in
interpreters of your own too: plain python3 and Rscript, Jupyter, IDEs. A process that imports the package becomes a
session; its workers end with it.`,
		Example: "  muster clients install\n  muster clients install --python .venv/bin/python --r\n  muster clients uninstall",
		Args:    func(cmd *cobra.Command, args []string) error { return noSubcommand(cmd, args) },
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newClientsInstall(a), newClientsUninstall(a))
	return cmd
}

func noSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, "clients has no command %q: it has install and uninstall", args[0])
	}
	return nil
}

func newClientsInstall(a *app) *cobra.Command {
	o := &clientsOptions{}
	cmd := &cobra.Command{
		Use:   "install [flags]",
		Short: "Put the packages where an interpreter finds them",
		Long: `Copy the packages cdsw, cml and muster to where a Python finds them: into its virtual environment, into the interpreter's
own folder if that is yours and no package manager's, or into your user's. With --r, install cdsw and cml into R's library.
Packages of the same names that are not Muster's are left alone. Do it again after an update of muster.`,
		Example: "  muster clients install\n  muster clients install --python .venv/bin/python\n  muster clients install --r",
		Args:    noArgs,
	}
	return o.command(a, cmd)
}

func newClientsUninstall(a *app) *cobra.Command {
	o := &clientsOptions{remove: true}
	cmd := &cobra.Command{
		Use:     "uninstall [flags]",
		Short:   "Remove the packages again",
		Long:    `Remove what "muster clients install" put there for the same interpreter, and nothing else.`,
		Example: "  muster clients uninstall\n  muster clients uninstall --python .venv/bin/python --r",
		Args:    noArgs,
	}
	return o.command(a, cmd)
}

func (o *clientsOptions) command(a *app, cmd *cobra.Command) *cobra.Command {
	cmd.RunE = a.action(func(ctx context.Context, _ []string) error { return o.run(ctx, a, cmd) })
	cmd.Flags().StringVar(&o.python, "python", "", "`path` or name of the Python (default: python3, unless --r is given)")
	cmd.Flags().BoolVar(&o.r, "r", false, "R, as found on the PATH")
	return cmd
}

func (o *clientsOptions) run(ctx context.Context, a *app, cmd *cobra.Command) error {
	if cmd.Flags().Changed("python") && o.python == "" {
		return usage(cmd, "--python is empty: it must be the path of an interpreter")
	}
	if a.deps.Clients == nil {
		return engine.Errorf(engine.Internal, "this program carries no clients")
	}
	python := o.python
	if python == "" && !o.r {
		python = "python3"
	}
	var err error
	if python != "" {
		err = o.one(ctx, a, "python", python)
	}
	if o.r {
		err = errors.Join(err, o.one(ctx, a, "r", "R"))
	}
	return err
}

func (o *clientsOptions) one(ctx context.Context, a *app, language, name string) error {
	path, err := a.program(name)
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	done, err := a.deps.Clients(ctx, ClientsRequest{Language: language, Path: path, Environ: a.deps.Environ, Binary: binary, Remove: o.remove})
	if err != nil {
		return err
	}
	what := map[string]string{"python": "cdsw, cml and muster", "r": "cdsw and cml"}[language]
	switch {
	case o.remove && !done.Changed:
		what += " are not there"
	case o.remove:
		what += " were removed from " + done.Folder
	case done.Changed:
		what += " are in " + done.Folder + " now, and use " + binary
	default:
		what += " are in " + done.Folder + " already, and use " + binary
	}
	fmt.Fprintf(a.Out, "%s: %s\n", done.Interpreter, what)
	if done.Left != "" {
		fmt.Fprintf(a.Err, "muster: not removed, because it holds files that are not Muster's: %s\n", done.Left)
	}
	return nil
}

// program finds a program as a shell in the caller's place would.
func (a *app) program(name string) (string, error) {
	dir, err := a.dir()
	if err != nil {
		return "", err
	}
	candidates := []string{absolute(dir, name)}
	if filepath.Base(name) == name {
		candidates = nil
		for _, d := range filepath.SplitList(a.getenv("PATH")) {
			if filepath.IsAbs(d) {
				candidates = append(candidates, filepath.Join(d, name))
			}
		}
	}
	for _, c := range candidates {
		if _, err := exec.LookPath(c); err == nil {
			return c, nil
		}
	}
	where := "it is not on the PATH"
	if filepath.Base(name) != name {
		where = "there is no such program"
	}
	return "", engine.Errorf(engine.NotFound, "%s cannot be run: %s", name, where).WithHint("give the path of an interpreter: --python PATH")
}

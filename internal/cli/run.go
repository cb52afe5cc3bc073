package cli

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"muster/api"
	"muster/engine"
)

// closeTimeout is how long the end of a session, and then of the server inside, may take.
const closeTimeout = 30 * time.Second

type runOptions struct {
	file    string // "": code
	fromIn  bool   // the code is what comes on stdin
	noStdin bool
	args    []string
	code    string
	kernel  string
	cpu     float64
	memory  float64
	gpus    int
	env     []string
	project string
	name    string
	inside  EmbeddedOptions // flags for the server inside
}

func newRun(a *app) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [flags] (FILE | - | -c CODE) [args]",
		Short: "Run a script as a session",
		Long: `Run a script, or code, as a session: it can launch workers, and everything that it and they print appears here.
The session ends with the script, and its workers with it.

Ctrl-C interrupts the script as in a terminal; a second one ends the session. Flags after FILE are the script's. With -
in place of FILE, the code is read from stdin (python3, or what --kernel says).
A running server is used; without one, run carries a server inside.

What comes on stdin is sent to the script, whether that reads it or not: in a shell's loop over lines of the same stdin,
give --no-stdin. To the script stdin and stdout are pipes, not the terminal: for passwords (getpass), debuggers and
prompts use "muster session".`,
		Example: `  muster run train.py --epochs 3
  muster run --cpu 2 --memory 4 --env MODE=test analysis.R
  while read -r city; do muster run --no-stdin crawl.py "$city"; done < cities.txt
  muster run -c 'import cdsw; print(cdsw.launch_workers(2, 0.5, 1, script="worker.py"))'`,
		Args: func(cmd *cobra.Command, args []string) error { return o.take(cmd, args) },
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), a, cmd) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVarP(&o.code, "code", "c", "", "run this `code` instead of a file")
	f.BoolVarP(&o.noStdin, "no-stdin", "n", false, "the script's stdin is empty, and ours is left alone")
	o.flags(a, cmd)
	return cmd
}

// flags are those that run and session share.
func (o *runOptions) flags(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	workloadFlags(cmd, &o.kernel, &o.cpu, &o.memory, &o.gpus, &o.env, &o.name)
	f.Lookup("cpu").Usage = "CPU `cores` (default: the project's, else 1)"
	f.Lookup("memory").Usage = "memory limit in `GB` (default: the project's, else none)"
	f.StringVar(&o.project, "project", "", "the project's `folder` (default: the current one)")
	f.StringVar(&a.server, "server", "auto", "`address` of the server, auto, or none for one inside")
	f.BoolVar(&o.inside.HardCPU, "hard-cpu", false, "CPU as a cap instead of a share (server inside)")
	f.StringVar(&o.inside.Rung, "rung", "auto", "`isolation`: auto, root, rootless or plain (server inside)")
	f.StringVar(&o.inside.GPUs, "gpus", "", "GPU inventory as `JSON` or a file with it (server inside)")
	offer(cmd, "rung", rungs)
}

// workloadFlags are the flags that run and launch share.
func workloadFlags(cmd *cobra.Command, kernel *string, cpu, memory *float64, gpus *int, env *[]string, name *string) {
	f := cmd.Flags()
	f.StringVar(kernel, "kernel", "", "`language`: python3, python2, r, scala or the project's (default: by the file's ending)")
	f.Float64Var(cpu, "cpu", *cpu, "CPU `cores`")
	f.Float64Var(memory, "memory", *memory, "memory limit in `GB`")
	f.IntVar(gpus, "gpu", 0, "`number` of GPUs, for itself alone")
	f.StringArrayVar(env, "env", nil, "set a variable, `K=V`; K alone takes your value (repeatable)")
	f.StringVar(name, "name", "", "a `name`, for tables and labels")
	offer(cmd, "kernel", languages)
}

// noCode is code that does nothing: an engine with no code at all idles.
const noCode = "\n"

// take splits the arguments into file and script arguments.
func (o *runOptions) take(cmd *cobra.Command, args []string) error {
	if cmd.Flags().Changed("code") {
		if o.args = args; o.code == "" {
			o.code = noCode
		}
		return nil
	}
	if len(args) == 0 {
		return usage(cmd, "run needs a FILE, or code with -c")
	}
	o.file, o.args = args[0], args[1:]
	switch {
	case o.file == "":
		return usage(cmd, "the name of the FILE is empty")
	case o.file == "-" && o.noStdin:
		return usage(cmd, "with - the code is read from stdin, and --no-stdin says not to")
	case o.file == "-":
		o.file, o.fromIn = "", true
	case o.file == "/dev/stdin", strings.HasPrefix(o.file, "/dev/fd/"), strings.HasPrefix(o.file, "/proc/self/fd/"): // as of <(…)
		return &usageError{err: fmt.Errorf("%s is a stream of this command, which the engine that runs the code cannot open", o.file),
			hint: "code from stdin, with - in place of the file: … | muster run -"}
	}
	return nil
}

func (o *runOptions) run(ctx context.Context, a *app, cmd *cobra.Command) error {
	req, err := o.request(a, cmd)
	if err != nil {
		return err
	}
	return o.carry(ctx, a, cmd, req, (*runner).run)
}

// carry finds or starts a server, lets do run the session there, and ends what was started.
func (o *runOptions) carry(ctx context.Context, a *app, cmd *cobra.Command, req api.CreateSession, do func(*runner, api.CreateSession) error) error {
	r := newRunner(ctx, a)
	defer r.stop()
	address, token, closeServer, err := o.place(r.ctx, a, cmd) // before anything is read: it may begin this program anew
	if err != nil {
		return r.cause(err)
	}
	if o.fromIn {
		req.Code, err = o.codeFromIn(r.ctx, a, cmd)
	}
	if err == nil {
		r.c, err = a.client(address, token, r.away(address, req, o.inside.Log))
	}
	if err == nil {
		defer r.c.Close()
		req.Lease = api.LeaseConnection // where the server cannot watch this process
		if strings.HasPrefix(address, "unix://") {
			req.OwnerPID = os.Getpid()
		}
		err = do(r, req)
	}
	closing := r.closing()
	if closeErr := closeServer(closing); closeErr != nil {
		if s, ok := context.Cause(closing).(*signalError); ok {
			closeErr = s
		}
		fmt.Fprintf(a.Err, "muster: the server inside did not end well: %v\n", closeErr)
	}
	return r.cause(err)
}

// codeFromIn is the code on stdin.
func (o *runOptions) codeFromIn(ctx context.Context, a *app, cmd *cobra.Command) (string, error) {
	code, err := a.readInput(ctx)
	switch {
	case err != nil:
		return "", fmt.Errorf("read the code from stdin: %w", err)
	case !utf8.ValidString(code):
		return "", usage(cmd, "the code on stdin is not UTF-8")
	case code == "":
		return noCode, nil
	}
	return code, nil
}

// request makes the session's description of the flags.
func (o *runOptions) request(a *app, cmd *cobra.Command) (api.CreateSession, error) {
	dir, err := a.dir()
	if err != nil {
		return api.CreateSession{}, err
	}
	project := dir
	if o.project != "" {
		project = absolute(dir, o.project)
	}
	if err := checkWorkload(cmd, o.cpu, o.memory, o.gpus, append([]string{o.code, o.file, o.name, project}, o.args...)); err != nil {
		return api.CreateSession{}, err
	}
	env, err := a.environment(cmd, o.env)
	if err != nil {
		return api.CreateSession{}, err
	}
	return api.CreateSession{
		Name: o.name, Kernel: o.kernel, Script: o.script(dir), Code: o.code, Args: o.args, Project: project,
		CPU: o.cpu, Memory: o.memory, GPUs: o.gpus, BaseEnv: a.baseEnv(), Env: env,
		Stdin: a.In != nil && !o.noStdin && !o.fromIn, Terminal: a.ErrTerminal,
	}, nil
}

// script is the file as the server should look for it: it knows the project's folder and not ours. What leads out of a folder
// is meant from here, whether it is there or not.
func (o *runOptions) script(dir string) string {
	local := filepath.IsLocal(o.file)
	if o.file == "" || o.project == "" && local {
		return o.file
	}
	if here := absolute(dir, o.file); !local || exists(here) {
		return here
	}
	return o.file
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// checkWorkload refuses what cannot be right, and what JSON cannot carry: it would arrive as something else.
func checkWorkload(cmd *cobra.Command, cpu, memory float64, gpus int, texts []string) error {
	for name, v := range map[string]float64{"--cpu": cpu, "--memory": memory} {
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			return usage(cmd, "%s is %v: it must be %s", name, v, wanted(name, "float64"))
		case v < 0, v == 0 && cmd.Flags().Changed(name[2:]): // 0 would mean the default
			return usage(cmd, "%s is %v: it must be more than 0", name, v)
		}
	}
	if gpus < 0 {
		return usage(cmd, "--gpu is %d: it must be 0 or more", gpus)
	}
	for _, t := range texts {
		if !utf8.ValidString(t) {
			return usage(cmd, "%.40q is not UTF-8", t)
		}
	}
	return nil
}

// environment reads --env flags.
func (a *app) environment(cmd *cobra.Command, flags []string) (map[string]string, error) {
	env := map[string]string{}
	for _, kv := range flags {
		k, v, given := strings.Cut(kv, "=")
		if !given {
			var there bool
			if v, there = a.lookupEnv(k); !there {
				return nil, usage(cmd, "--env %s: there is no %s in your environment; write %s=VALUE", k, k, k)
			}
		}
		if k == "" || !utf8.ValidString(kv) || !utf8.ValidString(v) {
			return nil, usage(cmd, "--env %.40q: write NAME=VALUE, as UTF-8", kv)
		}
		env[k] = v
	}
	return env, nil
}

// baseEnv is the caller's environment for the engines, without the keys of servers, and without what is not UTF-8.
func (a *app) baseEnv() map[string]string {
	env := map[string]string{}
	for _, kv := range a.deps.Environ {
		k, v, ok := strings.Cut(kv, "=")
		if ok && k != "" && k != "MUSTER_TOKEN" && k != "MUSTER_HOST" && utf8.ValidString(kv) {
			env[k] = v
		}
	}
	return env
}

// place finds a running server, or starts one inside.
func (o *runOptions) place(ctx context.Context, a *app, cmd *cobra.Command) (string, string, func(context.Context) error, error) {
	running := func(p place) (string, string, func(context.Context) error, error) {
		for _, flag := range []string{"hard-cpu", "rung", "gpus"} {
			if cmd.Flags().Changed(flag) {
				return "", "", nil, engine.Errorf(engine.Conflict, "--%s is for the server inside, and the server at %s is used", flag, p.address).
					WithHint("add --server none")
			}
		}
		return p.address, p.token, func(context.Context) error { return nil }, nil
	}
	if a.server != "none" {
		p, err := a.findServer(a.named())
		if err != nil {
			return "", "", nil, err
		}
		if p.explicit {
			return running(p)
		}
		if _, yes := answers(strings.TrimPrefix(p.address, "unix://")); yes {
			return running(p)
		}
	}
	if a.deps.Embedded == nil {
		return "", "", nil, engine.Errorf(engine.Internal, "this program has no server inside").WithHint("muster up")
	}
	if o.inside.Log == nil {
		o.inside.Log = a.Err
	}
	address, token, end, err := a.deps.Embedded(ctx, o.inside)
	return address, token, end, badFlag(cmd, err)
}

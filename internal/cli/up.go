package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"muster/engine"
)

type upOptions struct {
	listen     string
	tcp, tls   string
	memoryGB   float64
	serve      UpOptions
	background bool
	json       bool
	replace    bool
	readyFD    int // where the one that started us in the background waits to be told; 0: nobody does
}

func newUp(a *app) *cobra.Command {
	o := &upOptions{}
	cmd := &cobra.Command{
		Use:   "up [flags]",
		Short: "Start a server that sessions share",
		Long: `Start a server and stay in the foreground. Sessions of several "muster run" then share one machine's capacity, and
"muster ps", "muster logs" and the others see them all. Ctrl-C or SIGTERM ends the server and its sessions.

Sessions do not need the server. If it is killed they go on, and the next "muster up" adopts them: nothing that was printed is
missing. With --keep they also go on when the server is told to end, as a service that is restarted is; with --replace a new
server, of another release perhaps, takes over from the one that runs. (kill -USR1 makes any server let go and end.)

Programs that need a server start one with --until-idle: it ends by itself some time after the last session, and where one
runs already this one says so and ends with exit code 0. With --background the command returns when the server answers;
what the server has to say is then in server.log in the folder of its token.`,
		Example: "  muster up\n  muster up --listen 127.0.0.1:7070 --memory-capacity 16\n  muster up --until-idle 10s --background\n  muster up --replace",
		Args:    noArgs,
	}
	cmd.RunE = a.action(func(ctx context.Context, _ []string) error { return o.run(ctx, a, cmd) })
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "", "unix:///path or `host:port` (default: the socket that the commands look for)")
	f.StringVar(&o.tcp, "tcp", "", "listen at `host:port` too, for other machines")
	f.StringVar(&o.tls, "tls", "", "self: TLS with a certificate that the server makes for itself")
	f.StringVar(&o.serve.TLS.Cert, "tls-cert", "", "TLS with the certificate in this PEM `file`")
	f.StringVar(&o.serve.TLS.Key, "tls-key", "", "the certificate's key, a PEM `file`")
	f.BoolVar(&o.serve.Insecure, "insecure", false, "let tokens and output go over networks in plain text")
	f.StringVar(&o.serve.StateDir, "state-dir", "", "`folder` of what the server keeps")
	f.StringVar(&o.serve.Network, "network", "", "engines' addresses, as `CIDR` (default: a free part of 100.100.0.0/10)")
	f.BoolVar(&o.serve.HardCPU, "hard-cpu", false, "CPU as a cap instead of a share")
	f.Float64Var(&o.memoryGB, "memory-capacity", 0, "memory of all engines together, in `GB` (default: the machine's)")
	f.StringVar(&o.serve.GPUs, "gpus", "", "GPU inventory as `JSON` or a file with it (default: the machine's)")
	f.StringVar(&o.serve.Web, "web", "", "where browsers find engines: `host:port` or none (default: 127.0.0.1:20202, else a free port)")
	f.StringVar(&o.serve.Quota, "quota", "", "what users and sessions may have at a time: a TOML `file` (default: no limits)")
	f.BoolVar(&o.serve.Shared, "shared", false, "one server for all users of the machine, each with sessions of his own (root)")
	f.DurationVar(&o.serve.UntilIdle, "until-idle", 0, "end when no session has lived for this `duration`, such as 10s")
	f.BoolVar(&o.serve.Keep, "keep", false, "let sessions go on when the server is told to end")
	f.BoolVar(&o.replace, "replace", false, "take over from the server that runs, whose sessions go on")
	f.DurationVar(&o.serve.Grace, "grace", 0, "how long a session outlives the connection of a creator on another machine (default 10s)")
	f.IntVar(&o.serve.LogsDays, "logs-days", 0, "remove the output of sessions that ended so many `days` ago (default: keep it)")
	f.Float64Var(&o.serve.LogsGB, "logs-size", 0, "remove the oldest output of ended sessions beyond so many `GB` (default: keep it)")
	f.BoolVar(&o.serve.Salvage, "salvage", false, "start with what can be read of damaged records, or none; what runs without one is ended")
	f.StringVar(&o.serve.Rung, "rung", "auto", "`isolation`: auto, root, rootless or plain")
	f.BoolVar(&o.background, "background", false, "return when the server answers, and leave it running")
	f.BoolVar(&o.json, "json", false, "with --background: print where the server is as JSON")
	f.IntVar(&o.readyFD, readyFlag, 0, "")
	f.MarkHidden(readyFlag)
	offer(cmd, "rung", rungs)
	offer(cmd, "tls", []string{"self"})
	return cmd
}

func (o *upOptions) run(ctx context.Context, a *app, cmd *cobra.Command) error {
	if o.json && !o.background {
		return usage(cmd, "--json says where a server in the background is, and --background is not given")
	}
	if o.serve.StateDir != "" || cmd.Flags().Changed("state-dir") {
		if err := CheckAbsolute("--state-dir", o.serve.StateDir); err != nil {
			return badFlag(cmd, err)
		}
	}
	if a.deps.Serve == nil {
		return engine.Errorf(engine.Internal, "this program has no server")
	}
	if math.IsNaN(o.memoryGB) || o.memoryGB < 0 || o.memoryGB > 1e9 {
		return usage(cmd, "--memory-capacity is %v: it must be a number of gigabytes", o.memoryGB)
	}
	o.serve.MemoryCapacityBytes = int64(o.memoryGB * 1e9)
	switch {
	case o.serve.Grace < 0 || o.serve.Grace == 0 && cmd.Flags().Changed("grace"):
		return usage(cmd, "--grace is %v: it must be more than 0", o.serve.Grace)
	case o.serve.LogsDays < 0 || o.serve.LogsDays > 36500:
		return usage(cmd, "--logs-days is %d: it must be a number of days from 0 to 36500", o.serve.LogsDays)
	case !(o.serve.LogsGB >= 0 && o.serve.LogsGB <= 1e9):
		return usage(cmd, "--logs-size is %v: it must be a number of gigabytes", o.serve.LogsGB)
	}
	if o.serve.UntilIdle < 0 || o.serve.UntilIdle == 0 && cmd.Flags().Changed("until-idle") {
		return usage(cmd, "--until-idle is %v: it must be more than 0", o.serve.UntilIdle)
	}
	if err := o.checkTLS(cmd); err != nil {
		return err
	}
	if err := o.where(a, cmd); err != nil {
		return o.harmless(a, err)
	}
	if o.background {
		return o.detach(ctx, a, cmd)
	}
	if o.readyFD != 0 { // should this program be begun anew
		unix.FcntlInt(uintptr(o.readyFD), unix.F_SETFD, 0)
	}
	o.serve.Log = a.Err
	o.serve.Ready = func(address, web string) {
		if o.readyFD != 0 {
			o.tellReady(address)
			return
		}
		fmt.Fprintf(a.Err, "muster: the server answers at %s%s\n", address, forBrowsers(web))
	}
	return o.harmless(a, badFlag(cmd, a.deps.Serve(ctx, o.serve)))
}

// checkTLS reads the flags about TLS.
func (o *upOptions) checkTLS(cmd *cobra.Command) error {
	t := &o.serve.TLS
	switch {
	case o.tls != "" && o.tls != "self":
		return usage(cmd, "--tls is %q: it must be self; a certificate of yours is given by --tls-cert and --tls-key", o.tls)
	case o.tls != "" && (t.Cert != "" || t.Key != ""):
		return usage(cmd, "--tls self makes a certificate, and --tls-cert or --tls-key give one: choose")
	case (t.Cert == "") != (t.Key == ""):
		return usage(cmd, "--tls-cert and --tls-key are the two halves of a certificate: give both")
	}
	t.Self = o.tls != ""
	if t.Asked() && o.tcp == "" && (o.listen == "" || strings.HasPrefix(o.listen, "/") || strings.HasPrefix(o.listen, "unix://")) {
		return usage(cmd, "TLS is for TCP, and no address is given: add --tcp host:port")
	}
	for _, path := range []*string{&t.Cert, &t.Key, &o.serve.Quota} {
		if *path != "" {
			full, err := filepath.Abs(*path)
			if err != nil {
				return err
			}
			*path = full
		}
	}
	return nil
}

// hostPort completes the address of a TCP listener.
func hostPort(cmd *cobra.Command, flag, address string) (string, error) {
	hostport := strings.TrimPrefix(strings.TrimPrefix(address, "tcp://"), "http://")
	_, port, err := net.SplitHostPort(hostport)
	if err != nil || port == "" {
		what := "host:port"
		if flag == "listen" {
			what = "unix:///path/to/socket or host:port"
		}
		return "", usage(cmd, "--%s is %q: write %s", flag, address, what)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > math.MaxUint16 {
		return "", usage(cmd, "--%s is %q: the port must be a number from 1 to 65535", flag, address)
	}
	return "tcp://" + hostport, nil
}

// forBrowsers says where people's browsers find engines: the port is another one where the usual one is taken.
func forBrowsers(web string) string {
	if web == "" {
		return ""
	}
	return ", and browsers find engines below http://" + web
}

// harmless makes a server that is there already no error for whoever only wants one to be there.
func (o *upOptions) harmless(a *app, err error) error {
	if _, runs := errors.AsType[*ServerRunsError](err); !runs || o.serve.UntilIdle == 0 {
		return err
	}
	if o.json {
		return a.printJSON(o.found())
	}
	fmt.Fprintf(a.Err, "muster: %v\n", err)
	return nil
}

// where decides on the listener and the token's file, and makes sure that no server is there already.
func (o *upOptions) where(a *app, cmd *cobra.Command) error {
	dir := RuntimeDir(a.getenv)
	if o.serve.Shared {
		dir = sharedDir(a.getenv)
	}
	if err := CheckAbsolute("MUSTER_RUNTIME_DIR", dir); err != nil {
		return err
	}
	if o.tcp != "" {
		var err error
		if o.serve.TCP, err = hostPort(cmd, "tcp", o.tcp); err != nil {
			return err
		}
		o.serve.TCPTokenFile = tokenFile(o.serve.TCP, dir)
	}
	listen := o.listen
	if listen == "" && o.serve.UntilIdle > 0 && !o.serve.Shared && !a.ownServer(dir) {
		if address, there := a.sharedServer(); there { // for this user too: no other is needed
			o.serve.Listen, o.serve.TokenFile = address, ""
			return ServerRuns("socket "+strings.TrimPrefix(address, "unix://")+", for all users of this machine", "muster ps shows what is yours")
		}
	}
	if listen == "" || strings.HasPrefix(listen, "/") {
		if listen == "" {
			listen = filepath.Join(dir, socketName)
		}
		listen = "unix://" + listen
	}
	socket, isSocket := strings.CutPrefix(listen, "unix://")
	if !isSocket {
		var err error
		if o.serve.Listen, err = hostPort(cmd, "listen", listen); err != nil {
			return err
		}
		o.serve.TokenFile = tokenFile(o.serve.Listen, dir)
		return makeRuntimeDir(dir)
	}
	if !filepath.IsAbs(socket) {
		return usage(cmd, "--listen is %q: the path of a socket must be absolute", o.listen)
	}
	if err := CheckSocket(socket); err != nil {
		return err
	}
	for _, d := range []string{filepath.Dir(socket), dir} { // of the socket, and of the token
		if err := makeRuntimeDir(d); err != nil {
			return err
		}
	}
	if o.serve.Shared && filepath.Dir(socket) == filepath.Clean(dir) { // of another folder its owner says who may go there
		if err := openRuntimeDir(dir); err != nil {
			return err
		}
	}
	o.serve.Listen, o.serve.TokenFile = listen, tokenFile(listen, dir)
	pid, yes := answers(socket)
	yes = yes && !Dying(socket, pid)
	if yes && o.replace {
		o.serve.Replaces = pid
		return nil
	}
	if yes {
		return ServerRuns(fmt.Sprintf("pid %d, socket %s", pid, socket),
			fmt.Sprintf("use it, take over from it with: muster up --replace, end it with: kill %d, or start another with --listen unix:///another/path", pid))
	}
	return nil
}

// Package initproc is the first process of an engine. It makes the sandbox around itself, gives up its rights, starts the
// interpreter, forwards signals, reaps what is left behind, and reports the interpreter's wait status on its control
// socket. Two things end it, and with it, by the kernel, the whole engine: the interpreter's end, and the end of file on
// the control socket (the keeper is gone). Only cmd/muster-keeper imports it.
//
//	make sandbox ─► drop rights ─► start interpreter ─► Report{Started} ─► wait ─► Report{Exited} ─► exit, if alone when it is let go
//	      └───────────────┴───────────────┴─► Report{Failed: step} ─► exit
package initproc

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"muster/internal/keeper/wire"
	"muster/internal/linux/oom"
	"muster/internal/linux/rights"
	"muster/internal/linux/sandbox"
	"muster/internal/linux/slice"
)

// Main runs the init; it does not return. The caller must have locked the main goroutine to its thread.
func Main() {
	runtime.GOMAXPROCS(1) // it does one thing after the other: a second thread that looks for something to do only costs time
	unix.CloseOnExec(wire.InitSpecFD)
	unix.CloseOnExec(wire.InitControlFD)
	control, err := wire.FileConn(os.NewFile(wire.InitControlFD, "control"))
	if err != nil {
		os.Exit(exitLost)
	}
	control.Small()
	slice.UsualForChildren()
	oom.Offer()                                       // where it cannot, an engine runs all the same
	report := func(r wire.Report) { control.Send(r) } // where nobody hears it, obey ends the engine
	proc, err := start(func(master *os.File) error { return control.Send(wire.Report{Terminal: true}, master) })
	if err != nil {
		report(wire.Report{Failed: failure(err)})
		os.Exit(exitFailed)
	}
	started := func() { report(wire.Report{Started: true}) }
	if proc.ahead != nil {
		proc.ahead.started = sync.OnceFunc(started)
		proc.ahead.to = reports{
			ready:  func(apart bool, files ...*os.File) { control.Send(wire.Report{Ready: true, Apart: apart}, files...) },
			unfit:  func() { report(wire.Report{Lost: &wire.Exited{Code: exitFailed}}) },
			notice: func(text string) { report(wire.Report{Notice: text}) },
		}
		go proc.ahead.listen()
	} else {
		started()
	}
	go obey(control, proc)
	if proc.ssh != nil {
		go proc.ssh.serve(func(text string) { report(wire.Report{Notice: text}) }) // until the init exits
	}
	exited, err := proc.end(func(e *wire.Exited) { report(wire.Report{Lost: e}) })
	if err != nil {
		report(wire.Report{Failed: failure(err)})
		os.Exit(exitFailed)
	}
	report(wire.Report{Exited: exited})
	if exited.Alone {
		select {} // obey ends this process when the keeper has told of the end: until then its end would only be in the way
	}
	proc.endOthers()
	os.Exit(0)
}

// Exit codes of the init itself; its keeper goes by the reports.
const (
	exitLost   = 70 // the keeper is gone
	exitFailed = 71 // the engine could not be started, as reported
)

// process is the interpreter.
type process struct {
	// open says that its descendants are in a process namespace with others: they do not end with this process by themselves.
	open  bool
	ssh   *sshServer // nil: none
	ahead *ahead     // nil: it was started with its work

	mu    sync.Mutex
	pid   int // changed by the main goroutine alone
	pidfd int
}

// start starts the interpreter. The master of its terminal, if it is to have one, goes through give.
func start(give func(master *os.File) error) (*process, error) {
	var spec wire.EngineSpec
	f := os.NewFile(wire.InitSpecFD, "spec")
	err := wire.ReadMemoryFile(f, &spec)
	f.Close()
	if err != nil {
		return nil, &sandbox.Step{Name: "read spec", Err: err}
	}
	if spec.Plain {
		err = enterPlain(spec)
	} else {
		err = enterSandbox(spec)
	}
	if err != nil {
		return nil, err
	}
	var ssh *sshServer
	if spec.SSH != nil {
		if ssh, err = listenSSH(spec); err != nil { // before the interpreter: the port is there when its first line runs
			return nil, &sandbox.Step{Name: "ssh port", Err: err}
		}
	}
	files := []uintptr{0, 1, 2}
	if spec.Terminal != nil {
		tty, err := openTerminal(spec, give)
		if err != nil {
			return nil, &sandbox.Step{Name: "terminal", Err: err}
		}
		defer tty.Close()
		files = []uintptr{tty.Fd(), tty.Fd(), tty.Fd()}
	}
	if err := pin(spec.Cores); err != nil {
		return nil, &sandbox.Step{Name: "cores", Err: err}
	}
	proc := &process{open: spec.Plain || spec.Zygote, ssh: ssh}
	if spec.Ahead {
		if proc.ahead, err = newAhead(spec); err != nil {
			return nil, &sandbox.Step{Name: "start ahead", Err: err}
		}
	}
	pid, pidfd, err := 0, -1, errNotForked
	if spec.Forked {
		pid, pidfd, err = forkInterpreter(spec)
	}
	if errors.Is(err, errNotForked) {
		if spec.Zygote {
			files = append(files, wire.InitZygoteFD)
		}
		pid, pidfd, err = startInterpreter(spec, files)
	}
	if err != nil {
		return nil, explain(spec, err)
	}
	proc.is(pid, pidfd)
	// The interpreter alone holds the engine's output now: it ends when the last of the engine's processes does.
	devNull, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		for fd := 0; fd <= 2; fd++ {
			unix.Dup3(devNull, fd, 0)
		}
		unix.Close(devNull)
	}
	return proc, nil
}

// pin lets this thread, and what it starts, run on these cores alone. Control groups hold an engine to them, where they can: of
// version 2's systemd hands the controller on to nobody who does not ask for it, and on the plain rung there is none.
func pin(cores []int) error {
	if len(cores) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, c := range cores {
		set.Set(c)
	}
	return unix.SchedSetaffinity(0, &set)
}

func enterSandbox(spec wire.EngineSpec) error {
	if spec.Zygote {
		if err := becomeSubreaper(); err != nil {
			return err
		}
	}
	host, _ := os.ReadFile("/etc/resolv.conf") // in the host's network; it may lie where engines do not see it
	resolv := string(host)
	if spec.Gateway != "" {
		resolv = "nameserver " + spec.Gateway + "\noptions timeout:3 attempts:2\n"
	}
	var groups sandbox.Groups
	if spec.Cgroup != nil {
		groups = sandbox.Groups{V1: spec.Cgroup.V1, V2: spec.Cgroup.V2, AllThreads: spec.SSH != nil}
	}
	err := sandbox.Enter(sandbox.Config{
		Hostname:    spec.Hostname,
		Hosts:       fmt.Sprintf("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n%s\t%s\n", spec.Address, spec.Hostname),
		ResolvConf:  resolv,
		TmpDir:      filepath.Join(spec.PrivateDir, "tmp"),
		Visible:     spec.Visible,
		Shared:      spec.Shared,
		Hidden:      spec.Hidden,
		ReadOnly:    spec.ReadOnly,
		Writable:    spec.Writable,
		DeviceNodes: spec.DeviceNodes,
		ShmBytes:    spec.ShmBytes,
		Files:       spec.Files,
		Covers:      spec.Covers,
		Home:        alias(spec),
		Groups:      groups,
		UID:         spec.UID,
		GID:         spec.GID,
		Look:        looker(spec),
	})
	if err != nil {
		return err
	}
	drop := sandbox.DropRights
	if spec.Zygote {
		drop = sandbox.DropRightsOfZygote
	}
	if err := drop(); err != nil {
		return &sandbox.Step{Name: "drop rights", Err: err}
	}
	return nil
}

// looker looks at files with the rights of the engine's user; nil: with this process's.
func looker(spec wire.EngineSpec) func(files func()) error {
	if !spec.Foreign {
		return nil
	}
	return func(files func()) error {
		return rights.As(rights.User{UID: spec.UID, GID: spec.GID, Groups: spec.Groups}, files)
	}
}

// alias is what /home is to show besides what is in it.
func alias(spec wire.EngineSpec) sandbox.Alias {
	if spec.Alias == "" {
		return sandbox.Alias{}
	}
	return sandbox.Alias{Path: spec.Alias, Target: spec.Dir}
}

// enterPlain does what is possible without namespaces: descendants that lose their parent become children of the init, so
// that it can end them; the engine's files lie in a folder that only the user may enter.
func enterPlain(spec wire.EngineSpec) error {
	if err := becomeSubreaper(); err != nil {
		return err
	}
	dir := filepath.Join(spec.PrivateDir, wire.PlainFilesName)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return &sandbox.Step{Name: "private folder", Err: err}
	}
	for name, content := range spec.Files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return &sandbox.Step{Name: "private folder", Err: err}
		}
	}
	if err := sandbox.NoNewRights(); err != nil {
		return &sandbox.Step{Name: "drop rights", Err: err}
	}
	return nil
}

// becomeSubreaper makes descendants that lose their parent children of this process, so that it can end them.
func becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return &sandbox.Step{Name: "become subreaper", Err: err}
	}
	return nil
}

// startInterpreter starts it in a session and process group of its own, as the engine's user, with nothing inherited but
// the files as descriptors 0, 1 and 2.
func startInterpreter(spec wire.EngineSpec, files []uintptr) (pid, pidfd int, err error) {
	env := spec.Env
	if spec.Plain {
		if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "TMPDIR=") }) {
			tmp := spec.TmpDir
			if tmp == "" {
				tmp = filepath.Join(spec.PrivateDir, "tmp")
			}
			env = append(env, "TMPDIR="+tmp)
		}
	}
	attr := &syscall.ProcAttr{
		Dir:   spec.Dir,
		Env:   env,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: spec.Terminal != nil, PidFD: &pidfd}, // Ctty: descriptor 0
	}
	if !spec.Plain {
		attr.Sys.Credential = credential(spec)
	}
	if spec.Zygote {
		attr.Sys.Pdeathsig = syscall.SIGKILL // this thread is the process's: it has not the kernel's word that its children end with it
		if spec.UID != 0 {
			attr.Sys.AmbientCaps = sandbox.ZygoteCaps
		}
	}
	// Whatever the caller of muster ignored (nohup, a shell's background job), the interpreter starts with defaults: signals
	// that are handled here are reset by its exec, ignored ones would stay ignored.
	signal.Notify(make(chan os.Signal, 1))
	pid, err = syscall.ForkExec(spec.Argv[0], spec.Argv, attr)
	return pid, pidfd, err
}

func credential(spec wire.EngineSpec) *syscall.Credential {
	groups := make([]uint32, len(spec.Groups))
	for i, g := range spec.Groups {
		groups[i] = uint32(g)
	}
	// A user namespace of one user lets nobody choose groups: the engine has those of its user anyway.
	denied, _ := os.ReadFile("/proc/self/setgroups")
	return &syscall.Credential{
		Uid: uint32(spec.UID), Gid: uint32(spec.GID), Groups: groups, NoSetGroups: strings.TrimSpace(string(denied)) == "deny",
	}
}

func failure(err error) *wire.Failed {
	name := "start"
	var step *sandbox.Step
	if errors.As(err, &step) {
		name, err = step.Name, step.Err
	}
	message := err.Error()
	if len(message) > 500 { // the control socket carries small messages only, and JSON may make them six times as long
		message = strings.ToValidUTF8(message[:500], "") + "…"
	}
	return &wire.Failed{Step: name, Message: message}
}

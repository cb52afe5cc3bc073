package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/driver/local"
	"muster/internal/linux/userns"
)

// trialName is what this program is called when it tries whether the rootless rung works, in a new user namespace.
const trialName = "muster-rootless-trial"

// refusedVariable says, in the environment of a process that was to enter a user namespace, that it could not.
const refusedVariable = "MUSTER_ROOTLESS_REFUSED"

// trialTime is far more than a trial takes.
const trialTime = 30 * time.Second

// Trial is what main calls first: it carries out a trial, if this process is one, and does not return then.
func Trial() {
	if os.Args[0] != trialName || len(os.Args) != 2 {
		return
	}
	var c local.Config
	err := json.Unmarshal([]byte(os.Args[1]), &c)
	if err == nil {
		err = local.TryRootless(context.Background(), c)
	}
	answer, _ := json.Marshal(refusalOf(err))
	fmt.Println(string(answer))
	io.Copy(io.Discard, os.Stdin) // whoever asked opens this process's namespace now
	os.Exit(0)
}

// refusal is why a trial failed; the zero value is that it did not.
type refusal struct {
	Kind          engine.Kind
	Message, Hint string
}

func refusalOf(err error) refusal {
	if err == nil {
		return refusal{}
	}
	return refusal{engine.KindOf(err), err.Error(), engine.HintOf(err)}
}

func (r refusal) err() error {
	if r == (refusal{}) {
		return nil
	}
	return engine.Errorf(r.Kind, "%s", r.Message).WithHint("%s", r.Hint)
}

// enter takes this process into a user namespace, where it needs one for the rung and the machine allows it: it begins anew then,
// with the same arguments, and this call does not return. find finds one that is there and is to be entered, by the folder of the
// sessions; nil: none is. Otherwise it returns why this process is not in one; nil if it is, or needs none.
func enter(rung, stateDir string, find func(sessions string) *os.File) error {
	if os.Geteuid() == 0 || rung == string(local.Root) || rung == string(local.Plain) {
		return nil
	}
	if userns.Inside() {
		return userns.Confine()
	}
	if os.Getenv(refusedVariable) != "" {
		os.Unsetenv(refusedVariable) // not for engines
		return engine.Errorf(engine.Unavailable, "this process may not enter a user namespace: setns is refused").
			WithHint("allow the system call setns, which a filter refuses here")
	}
	p, err := findPaths(stateDir)
	if err != nil {
		return err
	}
	c, err := driverConfig(p, config{rung: string(local.Rootless)})
	if err != nil {
		return err
	}
	var ns *os.File
	if find != nil {
		ns = find(p.sessions)
	}
	if ns == nil {
		if ns, err = tryRootless(c); err != nil {
			return err
		}
	}
	defer ns.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return userns.Enter(ns, self, os.Args, os.Environ(), append(os.Environ(), refusedVariable+"=1"))
}

// running finds the namespace of a server that runs.
func running(pid int) func(string) *os.File {
	return func(sessions string) *os.File {
		if ns := userns.Owned(pid); ns != nil {
			return ns
		}
		return local.Namespace(sessions)
	}
}

// tryRootless makes a user namespace in which the rootless rung works, as another process has found out.
func tryRootless(c local.Config) (*os.File, error) {
	spec, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), trialTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Stderr = []string{trialName, string(spec)}, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for us
	userns.Child(cmd.SysProcAttr)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, settings(kernelSetting).noNamespace(err)
	}
	defer cmd.Wait()
	defer in.Close()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the trial of a user namespace ended without an answer: %v", errors.Join(err, ctx.Err()))
	}
	var r refusal
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		return nil, engine.Errorf(engine.Internal, "the trial of a user namespace answered %.100q: %v", line, err)
	}
	if err := r.err(); err != nil {
		return nil, settings(kernelSetting).restricted(err)
	}
	return userns.Of(cmd.Process.Pid)
}

// settings reads a kernel setting; "" if the kernel has none of that name.
type settings func(name string) string

func kernelSetting(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

const ask = "ask an administrator for: "

// noNamespace explains why the kernel makes no user namespace, and what an administrator can do.
func (setting settings) noNamespace(err error) error {
	most := setting("user/max_user_namespaces")
	switch {
	case setting("kernel/unprivileged_userns_clone") == "0":
		return engine.Errorf(engine.Unavailable, "the machine keeps user namespaces for root (kernel.unprivileged_userns_clone=0)").
			WithHint(ask + "sysctl -w kernel.unprivileged_userns_clone=1")
	case most == "0", errors.Is(err, unix.ENOSPC):
		return engine.Errorf(engine.Unavailable, "the machine allows no more user namespaces (user.max_user_namespaces=%s)", most).
			WithHint(ask + "sysctl -w user.max_user_namespaces=100000")
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return engine.Errorf(engine.Unavailable, "this kernel has no user namespaces: %v", err).WithHint("use a kernel with CONFIG_USER_NS")
	case errors.Is(err, unix.EPERM):
		return setting.restricted(engine.Errorf(engine.Unavailable, "user namespaces are refused, as in most containers: %v", err).
			WithHint("in a container: start it with --security-opt seccomp=unconfined, or as root with --privileged"))
	}
	return engine.Errorf(engine.Unavailable, "no user namespace can be made: %v", err)
}

// restricted explains a failure in a user namespace by the setting that causes it: no namespaces of another kind, or AppArmor's
// restriction, with which namespaces can be made, without rights in them.
func (setting settings) restricted(err error) error {
	for _, kind := range []string{"net", "mnt", "pid", "ipc", "uts"} {
		if name := "max_" + kind + "_namespaces"; setting("user/"+name) == "0" {
			return engine.Errorf(engine.Unavailable, "the machine allows no namespaces of a kind (user.%s=0): %v", name, err).
				WithHint(ask+"sysctl -w user.%s=100000", name)
		}
	}
	const name = "kernel.apparmor_restrict_unprivileged_userns"
	if setting(strings.Replace(name, ".", "/", 1)) != "1" {
		return err
	}
	return engine.Errorf(engine.Unavailable, "AppArmor leaves no rights in user namespaces to programs without a profile (%s=1): %v", name, err).
		WithHint(ask + "sysctl -w " + name + "=0")
}

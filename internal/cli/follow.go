package cli

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"muster/engine"
)

// followWait is how long the last lines of a session may take.
const followWait = 10 * time.Second

// newFollow is for clients that cannot show a console themselves, such as R's, which runs one thing at a time. It is not
// among the commands for people.
func newFollow(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "follow (start LOCK ID | wait LOCK)",
		Short: "Show a session's console beside the program that calls",
		Long: `start: leave a process behind that shows the session's console on our stdout and stderr (as "muster logs -f" does), apart
from the terminal's keys and the caller's other descriptors. It holds a lock on the file LOCK as long as it lives.
wait: return when it has ended, after 10 s at the latest.`,
		Example: "  muster follow start /tmp/lock c4nrrt7q0wmarcvx",
		Hidden:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 3 && args[0] == "start" || len(args) == 2 && args[0] == "wait" {
				return nil
			}
			return usage(cmd, "follow needs start LOCK ID, or wait LOCK")
		},
	}
	cmd.RunE = a.action(func(ctx context.Context, args []string) error {
		lock, err := os.OpenFile(args[1], os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		defer lock.Close()
		if args[0] == "wait" {
			return waitForLock(ctx, lock)
		}
		return a.startFollower(lock, args[2])
	})
	a.serverFlag(cmd)
	return cmd
}

func (a *app) startFollower(lock *os.File, session string) error {
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return engine.Errorf(engine.Conflict, "%s is locked: %w", lock.Name(), err)
	}
	out, outFile := a.Out.(*os.File)
	errs, errFile := a.Err.(*os.File)
	if !outFile || !errFile {
		return engine.Errorf(engine.Internal, "the console can be left on files only")
	}
	follower := exec.Command("/proc/self/exe", "logs", "-f", "--server", a.server, session)
	follower.Args[0], follower.Env = "muster", a.deps.Environ
	follower.Stdout, follower.Stderr, follower.ExtraFiles = out, errs, []*os.File{lock} // which keeps the lock
	follower.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := follower.Start(); err != nil {
		return err
	}
	return follower.Process.Release()
}

// waitForLock returns when nobody else holds the lock. The one who waits in the kernel is left to the end of the program.
func waitForLock(ctx context.Context, lock *os.File) error {
	free := make(chan error, 1)
	go func() { free <- unix.Flock(int(lock.Fd()), unix.LOCK_SH) }()
	late := time.NewTimer(followWait)
	defer late.Stop()
	select {
	case err := <-free:
		return err
	case <-late.C:
		return engine.Errorf(engine.Unavailable, "the console is still being shown after %v", followWait)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

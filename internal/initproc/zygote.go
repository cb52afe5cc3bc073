package initproc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/keeper/wire"
	"muster/internal/linux/sandbox"
)

// errNotForked says that there is no fork, and none will come: the interpreter is to be started.
var errNotForked = errors.New("the zygote did not fork")

// forkWithin bounds how long a fork may take. What comes later would meet an engine that has gone another way: it ends instead.
const forkWithin = 10 * time.Second

// forkInterpreter has the engine's zygote fork an interpreter into the namespaces of this process. It becomes a child of this one:
//
//	zygote: enter the process namespace ─► fork B ─► back
//	B:      enter the control groups and the other namespaces ─► fork C ─► end
//	C:      tell its number ─► drop rights ─► wait for work; this process's child as soon as the zygote has reaped B, and lets go of the pipe
//
// The message is two sets of capabilities, 8 bytes each, and a filter of system calls, as sandbox.Rights gives them. Beside it are
// descriptors: where to tell the number, stdin, stdout, stderr, the namespaces (process, network, IPC, host name, control groups, mounts), and the doors
// of the control groups. The number has 4 bytes. Both are in this machine's order of bytes.
func forkInterpreter(spec wire.EngineSpec) (pid, pidfd int, err error) {
	ask := os.NewFile(wire.InitZygoteFD, "zygote")
	defer ask.Close()
	told, tell, err := os.Pipe()
	if err != nil {
		return 0, -1, err
	}
	defer told.Close()
	if err := askFor(spec, ask, tell); err != nil {
		return 0, -1, fmt.Errorf("%w: %w", errNotForked, err)
	}
	told.SetReadDeadline(time.Now().Add(forkWithin))
	var number [5]byte
	n := 0
	for err == nil && n < len(number) {
		var m int
		m, err = told.Read(number[n:])
		n += m
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || n > 4 || n > 0 && n < 4 {
		return 0, -1, fmt.Errorf("the zygote forks, but not as it should (%d bytes, %v)", n, err)
	}
	if n == 0 {
		return 0, -1, errNotForked
	}
	pid = int(binary.NativeEndian.Uint32(number[:]))
	if pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		return 0, -1, fmt.Errorf("find the fork: %w", err)
	}
	return pid, pidfd, nil
}

// askFor sends the request. It closes tell, and the doors that this process inherited.
func askFor(spec wire.EngineSpec, ask, tell *os.File) error {
	defer tell.Close()
	files := []int{int(tell.Fd()), 0, 1, 2}
	var close []int
	defer func() {
		for _, fd := range close {
			unix.Close(fd)
		}
	}()
	for _, name := range []string{"pid", "net", "ipc", "uts", "cgroup", "mnt"} {
		fd, err := unix.Open("/proc/self/ns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open the namespace %s: %w", name, err)
		}
		files, close = append(files, fd), append(close, fd)
	}
	if spec.Cgroup != nil {
		for i := range spec.Cgroup.Count() {
			files, close = append(files, wire.InitDoorsFD+i), append(close, wire.InitDoorsFD+i)
		}
	}
	has, bound, filter, err := sandbox.Rights(spec.UID)
	if err != nil {
		return err
	}
	message := binary.NativeEndian.AppendUint64(nil, has)
	message = append(binary.NativeEndian.AppendUint64(message, bound), filter...)
	return unix.Sendmsg(int(ask.Fd()), message, unix.UnixRights(files...), nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

package initproc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/keeper/wire"
	"muster/internal/linux/sandbox"
	"muster/internal/linux/slice"
)

// sshServer is a listening socket, and nothing else until somebody connects: then a server of OpenSSH's is started for that
// connection, as the engine's user. Its processes are the init's descendants and end with the engine.
type sshServer struct {
	spec     wire.EngineSpec
	listener *os.File
}

// acceptRetry is how long to wait when the machine has no room for one more connection. Nothing tells when it has.
const acceptRetry = 100 * time.Millisecond

func listenSSH(spec wire.EngineSpec) (*sshServer, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "ssh port")
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: spec.SSH.Port}), unix.Listen(fd, 128)); err != nil {
		f.Close()
		return nil, fmt.Errorf("listen on port %d: %w", spec.SSH.Port, err)
	}
	return &sshServer{spec, f}, nil
}

// serve waits for connections, without a thread, until the first one comes. What goes wrong is said by tell.
func (s *sshServer) serve(tell func(string)) {
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return
	}
	first := true
	for {
		var conn int
		var acceptErr error
		err := raw.Read(func(fd uintptr) bool {
			conn, _, acceptErr = unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
			return acceptErr != unix.EAGAIN
		})
		switch {
		case err != nil:
			return
		case acceptErr == unix.EMFILE || acceptErr == unix.ENFILE || acceptErr == unix.ENOBUFS || acceptErr == unix.ENOMEM:
			time.Sleep(acceptRetry)
			continue
		case acceptErr != nil: // that connection is gone already
			continue
		}
		if first {
			runtime.LockOSThread() // the servers are started from this thread, whose rights are bounded like the main one's
			slice.UsualForChildren()
			if err := s.prepare(); err != nil {
				tell("ssh does not work: " + err.Error())
				return
			}
			first = false
		}
		if err := s.start(conn); err != nil {
			tell(err.Error())
		}
		unix.Close(conn)
	}
}

func (s *sshServer) prepare() error {
	if s.spec.UID == 0 { // where a server of root's goes before it knows who is there
		if err := unix.Mkdir("/run/sshd", 0o755); err != nil && err != unix.EEXIST {
			return err
		}
	}
	return sandbox.BoundThread()
}

// start starts a server for one connection; the init's main thread reaps it.
func (s *sshServer) start(conn int) error {
	program := ""
	for _, p := range s.spec.SSH.Programs {
		if unix.Access(p, unix.X_OK) == nil {
			program = p
			break
		}
	}
	if program == "" {
		const missing = "ssh needs openssh-server: apt-get install openssh-server"
		unix.Write(conn, []byte(missing+"\r\n")) // ssh -v shows it
		return errors.New(missing)
	}
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	_, err = syscall.ForkExec(program, append([]string{program}, s.spec.SSH.Args...), &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Files: []uintptr{uintptr(conn), uintptr(conn), null.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: credential(s.spec)},
	})
	if err != nil {
		return fmt.Errorf("an ssh connection to engine %s could not be served: %s: %w", s.spec.ID, program, err)
	}
	return nil
}

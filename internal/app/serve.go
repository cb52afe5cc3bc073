package app

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"muster/engine"
	"muster/internal/cli"
	"muster/internal/driver/local"
	"muster/internal/linux/peer"
	"muster/internal/linux/userns"
)

// serveEmbedded is the server inside "muster run". Its socket has no file: a kill -9 leaves none.
func serveEmbedded(ctx context.Context, o cli.EmbeddedOptions) (string, string, func(context.Context) error, error) {
	refused := enter(o.Rung, "", nil)
	a, err := open(config{rung: o.Rung, refused: refused, hardCPU: o.HardCPU, gpus: o.GPUs, ephemeral: true, log: o.Log})
	if err != nil {
		return "", "", nil, err
	}
	name := "@muster-" + rand.Text()
	l, err := net.Listen("unix", name)
	if err != nil {
		return "", "", nil, errors.Join(err, a.abandon(ctx))
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	ready := make(chan struct{})
	go func() { served <- a.serve(run, l, func() { close(ready) }) }()
	<-ready
	end := func(ctx context.Context) error {
		stop()
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return "unix:///" + name, a.token, end, nil
}

// serveUp is "muster up".
func serveUp(ctx context.Context, o cli.UpOptions) error {
	if o.Replaces > 0 {
		enter(o.Rung, o.StateDir, running(o.Replaces)) // while it runs: the sessions that it may still get are where it is
	}
	leave := make(chan os.Signal, 1) // from the first moment on: one that nobody listens to is lost
	signal.Notify(leave, syscall.SIGUSR1)
	defer signal.Stop(leave)
	if err := letGo(o.Replaces); err != nil {
		return err
	}
	starting, lock, err := lockServer(ctx, o)
	if err != nil {
		return err
	}
	defer lock.release()
	defer starting.release()
	refused := enter(o.Rung, o.StateDir, local.Namespace) // with the locks: no other server makes sessions here meanwhile
	a, err := open(config{
		stateDir: o.StateDir, network: o.Network, rung: o.Rung, refused: refused, hardCPU: o.HardCPU,
		memoryCapacityBytes: o.MemoryCapacityBytes, gpus: o.GPUs, web: o.Web, log: o.Log, salvage: o.Salvage,
		tokenFile: o.TokenFile,
	})
	if err != nil {
		return err
	}
	if err := a.adopt(ctx, o.Log); err != nil {
		a.keep = true // what was adopted goes on
		return errors.Join(err, a.abandon(ctx))
	}
	a.keep = o.Keep
	l, err := announce(o, a.token)
	if err != nil {
		return errors.Join(err, a.abandon(ctx))
	}
	defer func() {
		if !a.keep { // else the next server takes it over, and who knows it goes on with that
			os.Remove(o.TokenFile)
		}
	}()
	run, stop := context.WithCancel(ctx)
	defer stop()
	var idle sync.WaitGroup
	defer idle.Wait()
	defer stop()
	idle.Go(func() {
		select {
		case <-leave:
			a.keep = true
			stop()
		case <-run.Done():
		}
	})
	return a.serve(run, l, func() {
		starting.release() // whoever waits for it finds a server that answers
		if o.UntilIdle > 0 {
			idle.Go(func() {
				if a.manager.AwaitIdle(run, o.UntilIdle) == nil {
					stop()
				}
			})
		}
		if o.Ready != nil {
			o.Ready(o.Listen, domain(o.Web, a.web))
		}
	})
}

// ownerToken is the one that an earlier server of this user left, which was killed or let its sessions go on: who follows them
// knows it. Else it is a new one.
func ownerToken(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return rand.Text()
	}
	defer f.Close()
	var st unix.Stat_t
	b := make([]byte, 2*len(rand.Text()))
	n, err := f.Read(b)
	token := strings.TrimSpace(string(b[:n]))
	ours := unix.Fstat(int(f.Fd()), &st) == nil && st.Mode == unix.S_IFREG|0o600 && int(st.Uid) == os.Geteuid()
	if err != nil || !ours || len(token) != len(rand.Text()) {
		return rand.Text()
	}
	return token
}

// announce makes the token's file and then the listener: whoever finds the server finds its token. After an error neither
// is there.
func announce(o cli.UpOptions, token string) (net.Listener, error) {
	if err := writeToken(o.TokenFile, token); err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the server's token cannot be written: %w", err)
	}
	l, err := listen(o.Listen)
	if err != nil {
		return nil, errors.Join(err, os.Remove(o.TokenFile))
	}
	return l, nil
}

// writeToken writes the file as a whole, for the owner's eyes.
func writeToken(path, token string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

func listen(address string) (net.Listener, error) {
	if hostport, ok := strings.CutPrefix(address, "tcp://"); ok {
		l, err := net.Listen("tcp", hostport)
		if err != nil {
			return nil, engine.Errorf(engine.Unavailable, "cannot listen on %s: %v", hostport, err)
		}
		return l, nil
	}
	path := strings.TrimPrefix(address, "unix://")
	os.Remove(path) // of a server that was killed: we hold the lock
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, engine.Errorf(engine.Unavailable, "cannot listen on %s: %v", path, err)
	}
	return l, nil
}

// ownerOnly refuses connections to a unix socket from other users, whatever its file's mode became, and from the owner's
// engines, which have a way of their own.
func ownerOnly(l net.Listener) net.Listener {
	if u, ok := l.(*net.UnixListener); ok {
		return &peerListener{u}
	}
	return l
}

type peerListener struct{ *net.UnixListener }

func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if owner(c) {
			return c, nil
		}
		c.Close()
	}
}

// owner reports whether the owner of this server, or root, is at the other end, and no engine. On the plain rung engines are in
// no process namespaces of their own.
func owner(c *net.UnixConn) bool {
	uid, err := peer.User(c)
	if err != nil || uid != os.Geteuid() && uid != 0 {
		return false
	}
	if os.Geteuid() != 0 && !userns.Inside() {
		return true
	}
	here, err := peer.Here(c)
	return err == nil && here
}

package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	go func() { served <- a.serve(run, []net.Listener{a.welcomed(l)}, func() { close(ready) }) }()
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
	if err := checkPlain(o); err != nil {
		return err
	}
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
		memoryCapacityBytes: o.MemoryCapacityBytes, gpus: o.GPUs, web: o.Web, log: o.Log, shared: o.Shared, quota: o.Quota,
		tls: o.TLS, addresses: []string{o.Listen, o.TCP},
		salvage:   o.Salvage,
		tokenFile: o.TokenFile, grace: o.Grace, logsDays: o.LogsDays, logsGB: o.LogsGB,
	})
	if err != nil {
		return err
	}
	if err := a.adopt(ctx, o.Log); err != nil {
		a.keep = true // what was adopted goes on
		return errors.Join(err, a.abandon(ctx))
	}
	a.keep = o.Keep
	listeners, err := a.listenAll(o)
	if err != nil {
		return errors.Join(err, a.abandon(ctx))
	}
	defer func() {
		if !a.keep { // else the next server takes it over, and who knows it goes on with that
			os.Remove(o.TokenFile)
			if o.TCP != "" {
				os.Remove(o.TCPTokenFile)
			}
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
	return a.serve(run, listeners, func() {
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
		a.tellTLS(o)
	})
}

// listenAll opens the listeners for people's clients: the one that was asked for, or the usual one, and one for other machines.
func (a *app) listenAll(o cli.UpOptions) ([]net.Listener, error) {
	l, err := announce(o, a.token)
	if err != nil {
		return nil, err
	}
	l = a.welcomed(l)
	if strings.HasPrefix(o.Listen, "tcp://") {
		l = secured(l, a.cert)
	}
	if o.TCP == "" {
		return []net.Listener{l}, nil
	}
	second, err := announce(cli.UpOptions{Listen: o.TCP, TokenFile: o.TCPTokenFile}, a.token)
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(o.TokenFile))
	}
	return []net.Listener{l, secured(a.welcomed(second), a.cert)}, nil
}

// tellTLS says where other machines find the server, and how they know that it is this one.
func (a *app) tellTLS(o cli.UpOptions) {
	for _, address := range []string{o.Listen, o.TCP} {
		hostport, isTCP := strings.CutPrefix(address, "tcp://")
		switch {
		case isTCP && a.cert != nil:
			fmt.Fprintf(o.Log, "muster: over the network it answers at https://%s, MUSTER_TLS_FINGERPRINT=%s\n", hostport, fingerprint(a.cert))
		case isTCP && address == o.TCP:
			fmt.Fprintf(o.Log, "muster: over the network it answers at http://%s, in plain text\n", hostport)
		}
	}
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
	l, err := listen(o.Listen, o.Shared)
	if err != nil {
		return nil, errors.Join(err, os.Remove(o.TokenFile))
	}
	return l, nil
}

func writeToken(path, token string) error { return writeWhole(path, []byte(token+"\n")) }

// writeWhole writes a file as a whole, for the owner's eyes.
func writeWhole(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil { // an empty key after a power cut would be taken for a damaged one
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

func listen(address string, shared bool) (net.Listener, error) {
	if hostport, ok := strings.CutPrefix(address, "tcp://"); ok {
		l, err := net.Listen("tcp", hostport)
		if err != nil {
			return nil, engine.Errorf(engine.Unavailable, "cannot listen on %s: %v", hostport, err)
		}
		return l, nil
	}
	path := strings.TrimPrefix(address, "unix://")
	os.Remove(path) // of a server that was killed: we hold the lock
	mode := os.FileMode(0o600)
	if shared {
		mode = 0o666
	}
	l, err := net.Listen("unix", path)
	if err == nil {
		// Not by the umask, which is that of the whole process: adopted sessions start engines already. Until then, too, who
		// connects is asked (welcomed).
		if err = os.Chmod(path, mode); err != nil {
			l.Close()
		}
	}
	if err != nil {
		return nil, engine.Errorf(engine.Unavailable, "cannot listen on %s: %v", path, err)
	}
	return l, nil
}

// welcomed refuses connections to a unix socket from other users, whatever its file's mode became, unless they share this
// server; and from engines, which have a way of their own.
func (a *app) welcomed(l net.Listener) net.Listener {
	if u, ok := l.(*net.UnixListener); ok {
		l = &peerListener{u, a.users != nil}
	}
	return a.peers.ForPeople(l)
}

type peerListener struct {
	*net.UnixListener
	shared bool
}

func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if l.shared && here(c) || !l.shared && owner(c) {
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
	return here(c)
}

// here reports whether a process of this process namespace, in which no engine is, is at the other end.
func here(c *net.UnixConn) bool {
	here, err := peer.Here(c)
	return err == nil && here
}

// Package keeper is the small process that holds one session: it starts the inits of its engines, writes what they print
// to the console log, knows how they ended, and holds the session's lease. It survives the server; a new server connects
// to its socket and is told everything that happened so far. When the session ends, it ends all engines, whether a server
// lives or not; when the keeper is killed, end of file on the control sockets ends them.
//
// It is a program of its own (cmd/muster-keeper), so small that it starts in a millisecond: standard library and x/sys
// only. Nothing else imports this package.
package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muster/internal/console"
	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
	"muster/internal/linux/peer"
	"muster/internal/linux/pidfd"
	"muster/internal/linux/slice"
)

// endGrace is how long engines have between SIGTERM and SIGKILL when their session ends by itself. The promise is that
// everything is gone within a second.
const endGrace = 400 * time.Millisecond

// lastWords is how long workers may go on after their session's code came to its own end: a master that answers and exits
// must not take the answer's print with it. Workers that are done sooner end the session sooner.
const lastWords = 500 * time.Millisecond

// spawnerGrace is how long forked engines may take to end after they were killed.
const spawnerGrace = 400 * time.Millisecond

// limitGrace is the time between SIGTERM and SIGKILL for an engine at its time limit: as for one that is stopped on request.
const limitGrace = 2 * time.Second

// reasonTimeLimit is engine.ReasonTimeLimit.
const reasonTimeLimit = "time limit"

// syncDelay bounds what a power cut can take: output is on the disk's platter at most this much later.
const syncDelay = time.Second

// Keeper holds one session.
type Keeper struct {
	config  wire.KeeperConfig
	console *console.Writer
	hub     *os.File // nil on the plain rung
	lock    *os.File // held until this process ends
	done    chan struct{}
	over    chan struct{} // closed when nothing is started any more

	syncing atomic.Bool
	cleanup sync.WaitGroup // engines that have ended, until nothing of them is left
	noting  sync.Mutex     // held while the log of an engine that has ended is open
	spawner spawning
	strays  sync.RWMutex // held for reading while an init is started, for writing while strays are ended

	mu      sync.Mutex
	engines map[string]*engine // those that have not ended
	waiting map[string]*engine // those that have no work yet
	past    map[string]*past   // those that have
	order   []*past            // the same, in the order of their ends
	inits   map[int]bool       // process ids of inits that were not waited for yet
	main    string             // the session's own engine
	notices []wire.Event       // the last ones
	servers map[*server]bool
	ending  *wire.Exit  // why the session ends; nil while it does not
	final   *wire.Event // that it has ended
	ssh     sshState
	secret  []byte // a server's, for later ones; in memory alone
}

// Main runs the keeper of the session whose folder is dir and returns its exit code.
func Main(dir string) int {
	slice.Shorten() // and that of all inits
	k, err := open(dir)
	if err != nil {
		fmt.Fprintf(os.Stderr, "muster-keeper: %v\n", err)
		return 1
	}
	if err := k.run(); err != nil {
		fmt.Fprintf(os.Stderr, "muster-keeper: %v\n", err)
		return 1
	}
	return 0
}

func open(dir string) (*Keeper, error) {
	b, err := os.ReadFile(filepath.Join(dir, wire.ConfigName))
	if err != nil {
		return nil, err
	}
	k := &Keeper{
		done: make(chan struct{}), over: make(chan struct{}), engines: map[string]*engine{}, waiting: map[string]*engine{}, past: map[string]*past{}, inits: map[int]bool{},
		servers: map[*server]bool{},
	}
	if err := json.Unmarshal(b, &k.config); err != nil {
		return nil, fmt.Errorf("read %s: %w", wire.ConfigName, err)
	}
	// A relative name: the path of a unix socket must be short, the folder's may be long.
	if err := os.Chdir(dir); err != nil {
		return nil, err
	}
	if k.console, err = console.OpenWriter(k.config.ConsoleDir); err != nil {
		return nil, err
	}
	for fd := wire.KeeperConnFD; fd <= wire.KeeperLockFD; fd++ {
		unix.CloseOnExec(fd)
	}
	k.lock = os.NewFile(wire.KeeperLockFD, "lock")
	if k.config.HasHub {
		k.hub = os.NewFile(wire.KeeperHubFD, "hub")
	}
	if k.config.Attached != nil {
		if err := k.attach(*k.config.Attached); err != nil {
			return nil, fmt.Errorf("begin the session's log: %w", err)
		}
	}
	if k.config.Plain {
		// Descendants of an init that was killed come to us.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("become subreaper: %w", err)
		}
	}
	return k, nil
}

func (k *Keeper) run() error {
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: wire.SocketName, Net: "unixpacket"})
	if err != nil {
		return err
	}
	conn, err := wire.FileConn(os.NewFile(wire.KeeperConnFD, "server"))
	if err != nil {
		return err
	}
	go k.serve(conn)
	go k.accept(listener)
	if k.config.HasLease {
		go k.watchLease(os.NewFile(wire.KeeperLeaseFD, "lease"))
	}
	go k.watchSignals()
	<-k.done
	return k.finish(listener)
}

func (k *Keeper) accept(listener *net.UnixListener) {
	for {
		c, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		if !k.config.Plain {
			// Engines of servers with another state folder may find the socket: they must not end this session.
			if here, err := peer.Here(c); err != nil || !here {
				c.Close()
				continue
			}
		}
		go k.serve(wire.NewConn(c))
	}
}

// watchLease waits for the end of the process that holds the session.
func (k *Keeper) watchLease(holder *os.File) {
	defer holder.Close() // not before: the collector closes a file that nobody will use, and its number would be another one's
	pidfd.Ended(int(holder.Fd()), -1)
	k.end(endGrace, "the end of the process that held the session")
}

// watchSignals makes the keeper end its session when the machine shuts down. A terminal's signals are not meant for it.
func (k *Keeper) watchSignals() {
	// Not ignored but not listened to: what a process ignores its children ignore too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
	k.end(endGrace, "a request to the keeper to terminate")
}

// end ends the session: every engine, then the keeper. Only the first call counts.
func (k *Keeper) end(grace time.Duration, by string) {
	failpoint.Here("keeper: before end")
	k.mu.Lock()
	k.beginEndLocked(by)
	engines := make([]*engine, 0, len(k.engines))
	for _, e := range k.engines {
		engines = append(engines, e)
	}
	k.mu.Unlock()
	for _, e := range engines {
		e.stop(grace, "session ended", by)
	}
	// What a zygote has left behind in an engine's process namespace could hold up its end.
	time.AfterFunc(grace+spawnerGrace, k.spawner.kill)
	k.endIfEmpty()
}

// beginEndLocked makes sure that nothing is started any more.
func (k *Keeper) beginEndLocked(by string) {
	if k.ending == nil {
		k.ending = &wire.Exit{Reason: "session ended", By: by, Message: "ended by " + by, At: time.Now()}
		close(k.over)
		go k.dropAll(func(*server) bool { return true })
	}
}

// endAfter ends the session because its own engine ended: at once if it was killed, after lastWords if its code came to an
// end.
func (k *Keeper) endAfter(main *wire.Exit) {
	const by = "the end of its session"
	if main.Reason != "succeeded" && main.Reason != "exit code" {
		k.end(endGrace, by)
		return
	}
	k.mu.Lock()
	k.beginEndLocked(by)
	k.mu.Unlock()
	time.AfterFunc(lastWords, func() { k.end(endGrace, by) })
}

// endIfEmpty tells the servers that the session is over when it is ending and its last engine is gone.
func (k *Keeper) endIfEmpty() {
	k.mu.Lock()
	if k.ending == nil || len(k.engines) > 0 || len(k.waiting) > 0 || k.final != nil {
		k.mu.Unlock()
		return
	}
	exit := k.ending
	if main := k.past[k.main]; main != nil {
		exit = main.exit
	}
	k.final = &wire.Event{Kind: wire.EventEnded, Exit: exit, At: time.Now()}
	k.mu.Unlock()
	k.cleanup.Wait()
	if k.config.Attached != nil {
		k.farewell(exit)
	}
	k.sync()
	k.mu.Lock()
	k.tellLocked(*k.final)
	k.mu.Unlock()
	close(k.done)
}

// finish lets the connected servers read the last events, then removes what is the keeper's to remove.
func (k *Keeper) finish(listener *net.UnixListener) error {
	listener.Close() // removes the socket file too
	err := k.console.Close()
	k.mu.Lock()
	servers := make([]*server, 0, len(k.servers))
	for s := range k.servers {
		servers = append(servers, s)
	}
	k.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(s.finish)
	}
	wg.Wait()
	if k.config.Ephemeral && len(servers) == 0 {
		err = errors.Join(err, os.RemoveAll(k.config.ConsoleDir), os.RemoveAll(k.config.Dir))
	}
	return err
}

// wrote notes that the console log grew: readers are told, and the disk is asked to keep it within syncDelay.
func (k *Keeper) wrote() {
	k.mu.Lock()
	for s := range k.servers {
		s.wrote()
	}
	k.mu.Unlock()
	if k.syncing.CompareAndSwap(false, true) {
		time.AfterFunc(syncDelay, func() {
			k.syncing.Store(false)
			k.sync()
		})
	}
}

func (k *Keeper) sync() {
	if err := k.console.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		k.notice(fmt.Sprintf("the console log could not be written through to the disk: %v", err))
	}
}

// tellLocked sends an event to all connected servers. What later ones must know is kept elsewhere.
func (k *Keeper) tellLocked(e wire.Event) {
	for s := range k.servers {
		s.put(e)
	}
}

// started makes known that an engine's interpreter was started.
func (k *Keeper) started(e *engine) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e.startedAt = time.Now()
	k.tellLocked(wire.Event{Kind: wire.EventStarted, Engine: e.id, Pid: e.pid(), At: e.startedAt})
}

func (k *Keeper) notice(text string) {
	e := wire.Event{Kind: wire.EventNotice, Text: text, At: time.Now()}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notices = append(k.notices, e)
	if n := len(k.notices) - keptNotices; n > 0 {
		k.notices = append([]wire.Event(nil), k.notices[n:]...)
	}
	k.tellLocked(e)
}

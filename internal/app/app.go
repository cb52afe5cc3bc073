// Package app builds a server from its configuration: driver, kernels, manager, routes and listener; it runs it, and closes
// everything in reverse order. cmd/muster hands it to the command line; nothing else imports it. Everything else is wired
// here and nowhere else.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"muster/api"
	"muster/clients"
	"muster/engine"
	"muster/internal/audit"
	"muster/internal/cli"
	"muster/internal/driver"
	"muster/internal/driver/local"
	"muster/internal/keeper/embedded"
	"muster/internal/kernel"
	"muster/internal/linux/oom"
	"muster/internal/manager"
	"muster/internal/project"
	"muster/internal/quota"
	"muster/internal/server"
	"muster/internal/store"
	"muster/internal/token"
	"muster/internal/web"
)

// config is what the two kinds of server, the one of its own and the one inside "run", have in common.
type config struct {
	stateDir            string
	network             string
	rung                string
	refused             error // why this process is in no user namespace; see enter
	hardCPU             bool
	ephemeral           bool // sessions leave nothing behind
	memoryCapacityBytes int64
	gpus                string
	grace               time.Duration
	logsDays            int
	logsGB              float64
	tokenFile           string // of an earlier server, perhaps
	salvage             bool   // of damaged records what can be read
	web                 string // where browsers find engines; "": where it is free; see noWeb
	log                 io.Writer
	shared              bool   // by all users of the machine
	quota               string // a file; "": no quotas
	tls                 cli.TLSOptions
	addresses           []string // of the listeners: "tcp://host:port" and others
}

// app is a wired server without a listener.
type app struct {
	token   string
	state   string // its folder
	driver  driver.Driver
	manager *manager.Manager
	records *store.Store // nil: nothing outlives this process
	keep    bool         // sessions go on when this process ends
	server  *server.Server
	http    *http.Server
	gateway *web.Gateway
	peers   server.Peers
	web     net.Listener     // nil: none
	users   *users           // nil: the server has one
	cert    *tls.Certificate // of the TCP listeners; nil: they speak no TLS
	tokens  *token.Registry
	record  *audit.Log
}

// closeTimeout bounds how long the end of all sessions may take. Each is over within a second.
const closeTimeout = 20 * time.Second

// Deps are what the command line needs of this package.
func Deps() cli.Deps {
	return cli.Deps{Version: cli.Version, Embedded: serveEmbedded, Serve: serveUp, Doctor: doctor, Clients: installClients}
}

// open builds everything. After an error nothing is left.
func open(c config) (_ *app, err error) {
	log := slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	paths, err := findPaths(c.stateDir)
	if err != nil {
		return nil, err
	}
	oom.Protect() // this process, and the keepers that it starts
	drv, err := newDriver(paths, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, drv.Close())
		}
	}()
	for _, w := range drv.Capabilities().Warnings {
		fmt.Fprintf(c.log, "muster: %s\n", w)
	}
	told, err := drv.Sweep()
	for _, sentence := range told {
		fmt.Fprintf(c.log, "muster: %s\n", sentence)
	}
	if err != nil {
		fmt.Fprintf(c.log, "muster: what an earlier run left could not be removed: %v\n", err)
	}
	if err := mayShare(c, drv.Capabilities()); err != nil {
		return nil, err
	}
	ahead, err := aheadOf(os.Getenv(aheadVariable))
	if err != nil {
		return nil, err
	}
	table, err := kernels(paths, drv.Probe)
	if err != nil {
		return nil, err
	}
	capacity, err := machine(c)
	if err != nil {
		return nil, err
	}
	a := &app{token: ownerToken(c.tokenFile), state: paths.state, driver: drv}
	if a.cert, err = certificate(c.tls, paths.state); err != nil {
		return nil, err
	}
	if c.shared {
		a.users = newUsers()
	}
	if !c.ephemeral {
		if a.records, err = openRecords(paths.state, drv, c); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, a.closeAccess(), a.closeRecords())
			}
		}()
		if err = a.openAccess(paths.state); err != nil {
			return nil, err
		}
	}
	before, err := webBefore(a.records)
	if err != nil {
		return nil, endangered(err, paths.state, drv)
	}
	if a.web, err = listenWeb(c.web, before); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && a.web != nil {
			a.web.Close()
		}
	}()
	where := domain(c.web, a.web)
	who := caller()
	config := manager.Config{
		Driver: drv, Kernels: table, Capacity: capacity, HardCPU: c.hardCPU, Ahead: ahead, StateDir: paths.state, Ephemeral: c.ephemeral,
		OwnerToken: a.token, Serve: a.serveEngines, Web: where, User: who.Username, Home: who.HomeDir,
		UID: os.Getuid(), GID: os.Getgid(), Groups: groups(), Log: log, Records: a.records, Boot: bootID(), Own: own(paths),
		LeaseGrace: c.grace, Logs: project.Logs{Days: c.logsDays, Size: c.logsGB},
	}
	if a.users != nil {
		config.Behalf = a.users.behalf
	}
	if c.quota != "" {
		if config.Quotas, err = quota.Read(c.quota); err != nil {
			return nil, err
		}
	}
	a.manager, err = manager.New(config)
	if err != nil {
		return nil, err
	}
	door, names := a.accessible(log), a.hosts(where, c.addresses)
	a.server = server.New(server.Config{
		Manager: door.manager, Access: door.access, Version: cli.Version, Driver: drv.Capabilities().Name, Log: log, AllowedHosts: names, Local: a.localUser,
		Site: api.SiteConfig{
			MaxGPUs: len(capacity.GPUs), Accelerator: -1, MaxCPU: capacity.CPU, MaxMemory: float64(capacity.MemoryBytes) / 1e9,
		},
	})
	a.http = a.server.HTTP()
	a.gateway = newGateway(where, names, door, log, a.http.Handler)
	a.http.Handler = front(a.gateway, a.http.Handler)
	a.knowPersons(a.http)
	a.knowUsers(a.http)
	return a, nil
}

// hosts are the names that the server goes by: that of its web addresses, those that it was told to listen at, and those of its
// certificate.
func (a *app) hosts(domain string, addresses []string) []string {
	var names []string
	if domain != "" {
		names = append(names, domain)
	}
	for _, address := range addresses {
		hostport, isTCP := strings.CutPrefix(address, "tcp://")
		if host, _, err := net.SplitHostPort(hostport); isTCP && err == nil && host != "" {
			names = append(names, host)
		}
	}
	if a.cert != nil {
		names = append(names, a.cert.Leaf.DNSNames...)
		for _, ip := range a.cert.Leaf.IPAddresses {
			names = append(names, ip.String())
		}
	}
	return names
}

// abandon closes what open made, when it is not to be served.
func (a *app) abandon(ctx context.Context) error {
	if a.web != nil {
		a.web.Close()
	}
	return errors.Join(a.manager.Close(ctx), a.driver.Close(), a.closeAccess(), a.closeRecords())
}

func (a *app) closeRecords() error {
	if a.records == nil {
		return nil
	}
	return a.records.Close()
}

func newDriver(p paths, c config) (*local.Driver, error) {
	d, err := driverConfig(p, c)
	if err != nil {
		return nil, err
	}
	return local.New(d)
}

func driverConfig(p paths, c config) (local.Config, error) {
	keeper, err := embedded.Extract(p.cache)
	if err != nil {
		return local.Config{}, noCache(err, p.cache)
	}
	return local.Config{
		Dir: p.sessions, Keeper: keeper, Rung: local.Rung(c.rung), Refused: c.refused, Network: c.network,
		Hidden: []string{p.runtime, p.state, p.others}, ReadOnly: []string{p.cache},
	}, nil
}

// serveEngines answers the engines of a session on the listener in its network.
func (a *app) serveEngines(session engine.ID, l net.Listener) {
	a.http.Serve(server.ForEngines(session, l))
}

// serve answers on people's listeners until ctx ends, then ends everything in reverse order.
func (a *app) serve(ctx context.Context, listeners []net.Listener, ready func()) error {
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- a.http.Serve(l) }()
	}
	var browsers sync.WaitGroup
	if a.web != nil {
		browsers.Go(func() { a.http.Serve(a.peers.ForPeople(a.web)) })
	}
	ready()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		served <- nil
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if !a.keep {
		// Sessions first: whoever follows a console sees its end before the streams are closed.
		err = errors.Join(err, a.manager.EndAll(end, "the server's end"))
	}
	a.gateway.Close()
	asked := end
	if a.keep { // who waits for workers waits on with the next server: this one has no answer
		var cut context.CancelFunc
		asked, cut = context.WithTimeout(end, handOver)
		defer cut()
	}
	err = errors.Join(err, a.endHTTP(asked), a.manager.Close(end), a.driver.Close(), a.closeAccess(), a.closeRecords())
	for range listeners {
		<-served
	}
	browsers.Wait()
	return err
}

// handOver is how long requests may take that are being answered when a server lets its sessions go on.
const handOver = 500 * time.Millisecond

// endHTTP answers what is being asked, until ctx ends; whoever is left then is cut off.
func (a *app) endHTTP(ctx context.Context) error {
	err := a.http.Shutdown(ctx)
	if err == nil {
		return nil
	}
	if a.keep {
		return a.http.Close()
	}
	return errors.Join(err, a.http.Close())
}

// kernels is the table of languages, with our clients where engines can import them.
func kernels(p paths, run engine.RunProbe) (*kernel.Table, error) {
	python, err := clients.PythonDir(p.cache)
	if err != nil {
		return nil, noCache(engine.Errorf(engine.Unavailable, "the Python client cannot be put into %s: %v", p.cache, err), p.cache)
	}
	return kernel.NewTable(kernel.Config{
		Visible:    ownFiles(p),
		PythonPath: python,
		Run:        run,
		RLibrary: func(ctx context.Context, run engine.RunProbe, on *engine.Behalf, project, rscript string) (string, error) {
			return clients.RLibraryFor(ctx, run, on, project, rscript, p.cache)
		},
	}), nil
}

// own are the real places of what engines find of ours.
func own(p paths) (places []string) {
	for _, path := range ownFiles(p) {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			places = append(places, real)
		}
	}
	return places
}

func ownFiles(p paths) []string {
	files := []string{p.cache}
	if own, err := os.Executable(); err == nil {
		files = append(files, own) // scripts call muster, which may lie in /tmp
	}
	return files
}

// noCache says what to do where the cache cannot be filled.
func noCache(err error, dir string) error {
	if engine.HintOf(err) != "" {
		return err
	}
	return engine.Errorf(engine.KindOf(err), "%w", err).
		WithHint("make %s writable, with 20 MB of room, or set MUSTER_CACHE_DIR to a folder that is", dir)
}

// caller is the user that engines run as.
func caller() *user.User {
	if u, err := user.Current(); err == nil {
		return u
	}
	return &user.User{Username: fmt.Sprint(os.Getuid()), HomeDir: os.Getenv("HOME")}
}

func groups() []int {
	g, err := os.Getgroups()
	if err != nil {
		return nil
	}
	return g
}

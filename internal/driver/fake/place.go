package fake

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"muster/engine"
	"muster/internal/console"
	"muster/internal/driver"
)

// gateway is the address at which engines reach the session's listeners; engines get those after it.
var gateway = netip.AddrFrom4([4]byte{100, 100, 0, 1})

// place is where the engines of one session run.
type place struct {
	opts     Options
	spec     driver.SessionSpec
	writer   *console.Writer
	network  *network
	attached netip.Addr    // of the session's own process where that lives outside
	gone     chan struct{} // closed when nothing is left

	mu       sync.Mutex
	happened *sync.Cond // history grew, or a watcher stopped
	history  []driver.Observation
	watchers []*watcher
	procs    map[engine.ID]*proc // all that were ever accepted
	crews    map[driver.Kind]*crew
	last     netip.Addr // given last
	addrs    map[netip.Addr]bool
	lease    *lease
	closing  bool
	headless bool // the session's own engine has ended: who hears of that finds that nothing starts any more
	secret   []byte
	silent   atomic.Bool // nothing is written any more
}

func newPlace(o Options, spec driver.SessionSpec, w *console.Writer) *place {
	p := &place{
		opts: o, spec: spec, writer: w, network: newNetwork(), gone: make(chan struct{}),
		procs: map[engine.ID]*proc{}, crews: map[driver.Kind]*crew{}, last: gateway, addrs: map[netip.Addr]bool{},
	}
	p.happened = sync.NewCond(&p.mu)
	return p
}

// begin starts the end of the place, once. main and others say how the engines that still live end.
func (p *place) begin(grace time.Duration, why, main engine.Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return
	}
	p.closing = true
	procs := make([]*proc, 0, len(p.procs))
	for _, pr := range p.procs {
		procs = append(procs, pr)
	}
	go p.clear(procs, grace, why, main) // ends by closing p.gone
}

// end begins the end and waits for it.
func (p *place) end(ctx context.Context, grace time.Duration, why engine.Exit, by string) error {
	p.begin(grace, why, engine.Exit{Reason: engine.ReasonStopped, By: by})
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *place) clear(procs []*proc, grace time.Duration, why, main engine.Exit) {
	for _, pr := range procs {
		if pr.spec.Role == engine.RoleSession {
			pr.stop(grace, main.Reason, main.By)
		} else {
			pr.stop(grace, engine.ReasonSessionEnded, main.By)
		}
	}
	for _, pr := range procs {
		<-pr.done
	}
	p.network.close()
	p.dropLease()
	p.farewell(why)
	p.writer.Close()
	p.mu.Lock()
	clear(p.addrs) // reserved ones that were never used go with the place
	p.mu.Unlock()
	p.opts.World.remove(p.spec.ID)
	why.At = time.Now()
	p.observe(driver.Observation{Kind: driver.Ended, At: why.At, Exit: &why})
	close(p.gone)
}

// reserve gives n addresses, or none.
func (p *place) reserve(n int) ([]netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reserveLocked(n)
}

func (p *place) reserveLocked(n int) ([]netip.Addr, error) {
	if p.closing {
		return nil, engine.Errorf(engine.Conflict, "session %s has ended", p.spec.ID)
	}
	if len(p.addrs)+n > 65_000 {
		return nil, engine.Errorf(engine.Unavailable, "no %d addresses are free in 100.100.0.0/16: %d are in use", n, len(p.addrs))
	}
	given := make([]netip.Addr, 0, n)
	for len(given) < n {
		p.last = p.last.Next()
		if b := p.last.As4(); b[1] != 100 || b[2] == 255 && b[3] == 255 {
			p.last = gateway
			continue
		}
		if !p.addrs[p.last] {
			p.addrs[p.last] = true
			given = append(given, p.last)
		}
	}
	return given, nil
}

// settle frees what neither living engines nor engines to come have, and returns what is to be told of the living ones.
func (p *place) settle(coming []netip.Addr) (accepted []driver.Observation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := map[netip.Addr]bool{}
	if p.attached.IsValid() {
		keep[p.attached] = true
	}
	for _, a := range coming {
		keep[a] = true
	}
	for id, pr := range p.procs {
		select {
		case <-pr.done:
			continue
		default:
		}
		keep[pr.spec.Address] = true
		held := &driver.Held{Cores: pr.spec.CPUSet}
		for _, g := range pr.spec.GPUs {
			held.GPUs = append(held.GPUs, g.Index)
		}
		accepted = append(accepted, driver.Observation{Kind: driver.Accepted, Engine: id, At: time.Now(), Held: held})
	}
	p.addrs, p.crews = keep, map[driver.Kind]*crew{} // what waits ends with the process that wanted it
	return accepted
}

func (p *place) release(addrs ...netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range addrs {
		delete(p.addrs, a)
	}
}

func (p *place) proc(id engine.ID) (*proc, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pr := p.procs[id]; pr != nil {
		return pr, nil
	}
	return nil, engine.Errorf(engine.NotFound, "no engine %s in session %s", id, p.spec.ID)
}

// alive is an engine that has not ended.
func (p *place) alive(id engine.ID) (*proc, error) {
	pr, err := p.proc(id)
	if err != nil {
		return nil, err
	}
	if pr.ended.Load() {
		return nil, engine.Errorf(engine.NotFound, "engine %s has ended", id)
	}
	return pr, nil
}

func (p *place) count(n map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n["places"]++
	n["addresses"] += len(p.addrs)
	n["listeners"] += p.network.count()
	for _, pr := range p.procs {
		select {
		case <-pr.done:
		default:
			n["engines"]++
		}
	}
}

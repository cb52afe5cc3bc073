package manager

import (
	"context"
	"net"
	"net/netip"
	"time"

	"muster/engine"
	"muster/internal/driver"
)

// gone is the place of a session that an earlier process had and that has ended: nothing is there.
type gone struct{}

var _ driver.Session = gone{}

func errGone() error { return engine.Errorf(engine.Conflict, "the session has ended") }

func (gone) Handle() driver.Handle { return driver.Handle{} }

func (gone) Address() netip.Addr { return netip.Addr{} }

func (gone) Listen(context.Context, int) (net.Listener, netip.AddrPort, error) {
	return nil, netip.AddrPort{}, errGone()
}

func (gone) Reserve(int) ([]netip.Addr, error) { return nil, errGone() }

func (gone) Release(...netip.Addr) {}

func (gone) Keep(context.Context, []byte) ([]byte, error) { return nil, errGone() }

func (gone) Start(_ context.Context, specs []driver.Spec) []error {
	errs := make([]error, len(specs))
	for i := range errs {
		errs[i] = errGone()
	}
	return errs
}

func (gone) Signal(context.Context, engine.ID, int) error { return errGone() }

func (gone) Resize(context.Context, engine.ID, driver.TerminalSize) error { return errGone() }

func (gone) WriteStdin(context.Context, engine.ID, int64, []byte, bool) (driver.Stdin, error) {
	return driver.Stdin{}, errGone()
}

func (gone) Stop(context.Context, engine.ID, time.Duration, engine.Reason, string) error { return nil }

func (gone) Note(context.Context, engine.ID, []byte) error { return errGone() }

func (gone) Dial(context.Context, engine.ID, int) (net.Conn, error) { return nil, errGone() }

func (gone) End(context.Context, time.Duration, string) error { return nil }

package local

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/linux/cgroup"
	"muster/internal/linux/hub"
	"muster/internal/linux/userns"
)

// Rung is how much the machine lets us isolate.
type Rung string

const (
	Auto     Rung = "auto"     // the highest that works here
	Root     Rung = "root"     // namespaces, own addresses, limits
	Rootless Rung = "rootless" // the same in a user namespace, where this process must be; limits where they are delegated
	Plain    Rung = "plain"    // processes, no limits
)

// New finds out what this machine allows. Asked for a rung that it does not, it says why not.
func New(c Config) (*Driver, error) {
	d := &Driver{config: c, rung: c.Rung, sessions: map[*session]bool{}}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, engine.Errorf(engine.Unavailable, "the folder for sessions cannot be made: %v", err)
	}
	if err := d.choose(); err != nil {
		return nil, err
	}
	return d, nil
}

// choose settles for the highest rung that works, or the one that is asked for.
func (d *Driver) choose() error {
	switch asked := d.rung; {
	case asked == Plain:
		d.plainly(", as asked")
		return nil
	case !slices.Contains([]Rung{"", Auto, Root, Rootless}, asked):
		return engine.Errorf(engine.Invalid, "there is no rung %q", asked).WithHint("--rung is auto, root, rootless or plain")
	}
	err := d.isolate()
	switch {
	case err == nil:
		return nil
	case d.rung == Root, d.rung == Rootless, engine.KindOf(err) == engine.Invalid, engine.KindOf(err) == engine.Conflict:
		return err
	}
	why := fmt.Sprintf(": %v", err)
	if hint := engine.HintOf(err); hint != "" {
		why += " (" + hint + ")"
	}
	d.plainly(why)
	return nil
}

// plainly settles for the plain rung, with the one warning that says so.
func (d *Driver) plainly(why string) {
	d.rung = Plain
	d.caps = driver.Capabilities{Name: "plain", Survives: true, Attach: true, AttachReach: true, Terminal: true, Ahead: true, Warnings: []string{
		"engines are plain processes here, without isolation, own addresses or limits" + why,
	}}
}

// Try is the rung with isolation that works here, or the reason why none does: by it New decides, and others can tell beforehand.
func Try(refused error) (Rung, error) {
	d := &Driver{config: Config{Refused: refused}}
	err := d.isolate()
	return d.rung, err
}

// isolate checks everything that the two upper rungs need by making it once.
func (d *Driver) isolate() error {
	rung, err := d.right()
	if err != nil {
		return err
	}
	if err := d.tryNetwork(); err != nil {
		return err
	}
	tree, err := cgroup.Detect("", "")
	if err == nil {
		err = tree.Prepare()
	}
	if err != nil && rung == Root {
		return engine.Errorf(engine.Unavailable, "cgroups do not work: %v", err)
	}
	if err != nil {
		tree = &cgroup.Tree{} // on which nothing is usable
	}
	d.rung, d.tree = rung, tree
	d.declare(err)
	return nil
}

func (d *Driver) tryNetwork() error {
	network, err := hub.PickRange(d.config.Network)
	if err != nil {
		return err
	}
	h, err := hub.New(network)
	if err != nil {
		return engine.Errorf(engine.Unavailable, "network namespaces do not work: %v", err)
	}
	d.network = network
	return h.Close()
}

// declare says what the two upper rungs can do here, and warns of the limits that are not there. noGroups is why there are no
// control groups at all.
func (d *Driver) declare(noGroups error) {
	memory, cpu := d.tree.Has(cgroup.Memory), d.tree.Has(cgroup.CPU)
	d.caps = driver.Capabilities{
		Name: "local", OwnAddress: true, Isolation: true, GPU: true, Survives: true, ConnectWait: true, Loopback: true,
		Attach: true, AttachReach: true, AttachApart: d.rung == Root, Terminal: true, Ahead: true,
		MemoryLimit: memory, CPUShare: cpu, CPUCap: cpu,
	}
	if d.rung == Rootless {
		d.caps.Name = "rootless"
	}
	if warning := d.unlimited(noGroups); warning != "" {
		d.caps.Warnings = append(d.caps.Warnings, warning)
	}
}

// unlimited names what is not limited here, what harms others most first, and why; "" if all is.
func (d *Driver) unlimited(noGroups error) string {
	var what, controllers []string
	for _, limit := range []struct{ controller, what string }{
		{cgroup.Pids, "processes (a fork bomb takes all that the machine or its user may have)"}, {cgroup.Memory, "memory"}, {cgroup.CPU, "CPU"},
	} {
		if !d.tree.Has(limit.controller) {
			what, controllers = append(what, limit.what), append(controllers, limit.controller)
		}
	}
	if len(what) == 0 {
		return ""
	}
	why := "not usable here of cgroups: " + strings.Join(controllers, ", ")
	if noGroups != nil {
		why = noGroups.Error()
	}
	return fmt.Sprintf("engines are not limited in %s: %s (muster doctor says what to do)", strings.Join(what, ", "), why)
}

// right is the rung that this process has the rights for.
func (d *Driver) right() (Rung, error) {
	root := os.Geteuid() == 0
	switch {
	case root && d.rung != Rootless:
		return Root, nil
	case root:
		return "", engine.Errorf(engine.Unavailable, "root needs no user namespace").WithHint("--rung root")
	case d.rung == Root:
		return "", engine.Errorf(engine.Unavailable, "this needs root").WithHint("run as root, or with --rung rootless")
	case userns.Inside():
		return Rootless, nil
	case d.config.Refused != nil:
		return "", d.config.Refused
	}
	return "", engine.Errorf(engine.Unavailable, "this process is neither root nor in a user namespace of its own").
		WithHint("run as root for isolated workers")
}

// apart reports whether the engines of a session have a network of their own. An attached session's needs a link to the host's,
// which is root's to make: without, they share that of its process, as on the plain rung.
func (d *Driver) apart(spec driver.SessionSpec) bool {
	return d.rung == Root || d.rung == Rootless && spec.Attached == nil
}

// process is for what this process starts in a session of its own, to make engines: in a user namespace it has this one's
// capabilities.
func (d *Driver) process() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if d.rung == Rootless {
		userns.Keep(attr)
	}
	return attr
}

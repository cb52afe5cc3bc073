package local

import (
	"fmt"
	"os"
	"slices"
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
	d.caps = driver.Capabilities{Name: "plain", Survives: true, Attach: true, AttachReach: true, Terminal: true, Warnings: []string{
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

// declare says what the two upper rungs can do here, and warns of each limit that is not there. noGroups is why there are no
// control groups at all.
func (d *Driver) declare(noGroups error) {
	memory, cpu := d.tree.Has(cgroup.Memory), d.tree.Has(cgroup.CPU)
	d.caps = driver.Capabilities{
		Name: "local", OwnAddress: true, Isolation: true, GPU: true, Survives: true, ConnectWait: true, Loopback: true,
		Attach: true, AttachReach: true, AttachApart: d.rung == Root, Terminal: true,
		MemoryLimit: memory, CPUShare: cpu, CPUCap: cpu,
	}
	if d.rung == Rootless {
		d.caps.Name = "rootless"
	}
	why := func(controller string) string {
		text := fmt.Sprintf("the %s controller of cgroups is not usable here", controller)
		if noGroups != nil {
			text = noGroups.Error()
		}
		if d.rung == Rootless {
			text += " (muster doctor says what to do)"
		}
		return text
	}
	if !memory {
		d.caps.Warnings = append(d.caps.Warnings, "memory is not limited: "+why(cgroup.Memory))
	}
	if !cpu {
		d.caps.Warnings = append(d.caps.Warnings, "CPU is not shared by weight: "+why(cgroup.CPU))
	}
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

package keeper

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"muster/internal/keeper/wire"
)

// The keeper hands the work to an interpreter that waits as its init would, who is not woken for it. Where it cannot, the init is to do it, from
// the beginning. What is in the folder is the engine's user's doing, and the interpreter may not read: so nothing is followed, and nothing
// is waited for.

// writeFiles writes those of the work; false where the init is to do it.
func (e *engine) writeFiles(g wire.Given) bool {
	if len(g.Work) == 0 || e.ahead.work == nil {
		return false
	}
	for name, content := range g.Files {
		if e.writeFile(name, content) != nil {
			return false
		}
	}
	return true
}

// handLocked writes the work into the FIFO; false where the init is to do it. The caller holds mu.
func (e *engine) handLocked(work []byte) bool {
	fifo := int(e.ahead.work.Fd())
	if room, err := unix.FcntlInt(uintptr(fifo), unix.F_GETPIPE_SZ, 0); err != nil || room < len(work) || unix.SetNonblock(fifo, true) != nil {
		return false
	}
	n, err := unix.Write(fifo, work)
	return err == nil && n > 0 // what is cut short has not the number of words that it says: the interpreter declines it
}

// tellLocked tells the init of work that its interpreter has not taken yet, if there is any: it is to start one for it, or to end this one.
// With the FIFO it is to hand the work over as well. The caller holds mu.
func (e *engine) tellLocked(fifo ...*os.File) {
	if e.ahead == nil || e.ahead.spec == nil {
		return
	}
	err := e.control.SendWithin(orderWithin, wire.Order{Give: true}, append([]*os.File{e.ahead.spec}, fifo...)...)
	if err != nil {
		e.kill() // its init has just ended, or it would wait for ever
	}
	e.ahead.spec.Close()
	e.ahead.spec = nil
}

// lost notes that there is no interpreter any more that could take work, or no init.
func (e *engine) lost() {
	if e.ahead == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ahead.lost = true
	e.tellLocked()
}

// took notes that the interpreter has taken its work: its init need not know of that.
func (e *engine) took() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ahead.spec != nil {
		e.ahead.spec.Close()
		e.ahead.spec = nil
	}
}

// writeFile makes a file of the engine's private folder anew.
func (e *engine) writeFile(name string, content []byte) error {
	folder := int(e.ahead.folder.Fd())
	if strings.Contains(name, "/") {
		return unix.EINVAL
	}
	if err := unix.Unlinkat(folder, name, 0); err != nil && err != unix.ENOENT {
		return err
	}
	fd, err := unix.Openat(folder, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if !e.plain {
		if err := f.Chown(e.uid, e.gid); err != nil {
			return err
		}
	}
	_, err = f.Write(content)
	return err
}

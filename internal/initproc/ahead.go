package initproc

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"muster/internal/failpoint"
	"muster/internal/keeper/wire"
	"muster/internal/linux/sandbox"
)

// ahead is an interpreter that was started ahead of its work, and waits for it:
//
//	started ─► waits ─► work given ─► takes it ─► an interpreter like any
//	   └─────────┴─ ended ─┴─ ended before it took it ─► another one is started in its place, for the same work
//
// So it may decline, or die, and nobody is the wiser. What it may do meanwhile it does with the engine's rights, in the engine's
// private folder too: nothing here trusts what lies there.
type ahead struct {
	folder *os.Root
	shared []*os.File // /dev/shm, for who may set its size; none on the plain rung
	first  wire.EngineSpec
	waits  *os.File // FIFO that it writes to
	work   *os.File // FIFO that it reads: both ends until it waits, nil then
	output [2]int   // the engine's stdout and stderr, for one that is started in its place
	to     reports
	// started tells, once, that the work has begun: an interpreter took it, or was started for it.
	started func()
	given   chan struct{} // closed when there is work
	over    chan struct{} // closed when there will be none

	mu       sync.Mutex
	spec     wire.EngineSpec // the work's, when it was given
	taken    bool
	signaled bool // somebody wanted it to end, or whatever the signal means: it is not started again
	notices  int  // that it had for people
}

// newAhead makes the FIFOs, in the engine's private folder.
func newAhead(spec wire.EngineSpec) (_ *ahead, err error) {
	a := &ahead{first: spec, given: make(chan struct{}), over: make(chan struct{}), output: [2]int{-1, -1}}
	if a.folder, err = os.OpenRoot(privateFolder(spec)); err != nil {
		return nil, err
	}
	if !spec.Plain {
		fd, err := unix.Open("/dev/shm", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: "/dev/shm", Err: err}
		}
		a.shared = []*os.File{os.NewFile(uintptr(fd), "/dev/shm")}
	}
	if a.waits, err = a.fifo(wire.WaitsName); err != nil {
		return nil, err
	}
	if a.work, err = a.fifo(wire.WorkName); err != nil {
		return nil, err
	}
	if spec.Work != nil {
		if _, err := a.work.Write(spec.Work.Bytes); err != nil {
			return nil, err
		}
	}
	for i := range a.output {
		if a.output[i], err = unix.FcntlInt(uintptr(i+1), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func privateFolder(spec wire.EngineSpec) string {
	if spec.Plain {
		return filepath.Join(spec.PrivateDir, wire.PlainFilesName)
	}
	return sandbox.PrivateDir
}

// fifo makes one, and holds both ends, so that nobody waits for the other to open it.
func (a *ahead) fifo(name string) (*os.File, error) {
	path := filepath.Join(a.folder.Name(), name)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	if !a.first.Plain {
		if err := os.Lchown(path, a.first.UID, a.first.GID); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// reports are what an interpreter that waits has told of itself.
type reports struct {
	ready  func(apart bool, files ...*os.File) // it waits
	unfit  func()                              // it cannot be a zygote
	notice func(text string)                   // for people
}

// listen hears the interpreter until it has taken its work, or this process ends.
func (a *ahead) listen() {
	raw, err := a.waits.SyscallConn()
	if err != nil {
		return
	}
	waits := false
	raw.Read(func(fd uintptr) bool {
		for said := a.hear(int(fd)); ; {
			switch {
			case said == wire.Waits && !waits:
				waits = true // whatever else it says
				if a.first.Zygote && (a.printed() || len(children(os.Getpid())) != 1) {
					a.to.unfit()
					a.zygoteEnds()
				}
				said = a.hear(int(fd))
				a.nowWaits(said == wire.Apart)
			case said == wire.Takes:
				return true
			case said == 0:
				return a.isTaken() // by tookIt
			default:
				said = a.hear(int(fd))
			}
		}
	})
}

func (a *ahead) hear(fd int) byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hearLocked(fd)
}

func (a *ahead) isTaken() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.taken
}

// hearLocked reads what the interpreter said; 0 if it said nothing.
func (a *ahead) hearLocked(fd int) byte {
	var said [1]byte
	for {
		n, err := unix.Read(fd, said[:])
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			return 0
		}
		switch said[0] {
		case wire.Takes:
			a.takenLocked()
		case wire.Says:
			if text := line(fd); a.notices < mostNotices {
				a.notices++
				a.to.notice(text)
			}
		}
		return said[0]
	}
}

// mostNotices are told of what one interpreter has for people.
const mostNotices = 8

// line reads the rest of one, and returns its beginning.
func line(fd int) string {
	var text []byte
	for {
		var said [1]byte
		n, err := unix.Read(fd, said[:])
		if err == unix.EINTR {
			continue
		}
		if n != 1 || said[0] == '\n' {
			return strings.ToValidUTF8(string(text), "\ufffd")
		}
		if len(text) < wire.MaxSaid {
			text = append(text, said[0])
		}
	}
}

// nowWaits tells that the interpreter waits, and gives away what its work is handed over by. The interpreter, which has the FIFO open
// now, is left alone with reading it, so that it comes to an end there.
func (a *ahead) nowWaits(apart bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.first.Zygote {
		a.to.ready(apart)
		return
	}
	in, inErr := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", a.work.Fd()), os.O_WRONLY|unix.O_CLOEXEC, 0)
	folder, folderErr := a.folder.Open(".")
	if inErr != nil || folderErr != nil {
		os.Exit(exitFailed) // who waits is not to be given work that never ends
	}
	a.work.Close()
	a.work = nil
	a.to.ready(apart, append([]*os.File{in, folder}, a.shared...)...)
	in.Close()
	folder.Close()
}

func (a *ahead) takenLocked() {
	if a.taken {
		return
	}
	a.taken = true
	a.started()
	for i, fd := range a.output {
		unix.Close(fd)
		a.output[i] = -1
	}
	a.folder.Remove(wire.WaitsName)
	a.folder.Remove(wire.WorkName)
}

// tookIt reports, when the interpreter has ended, whether it had taken its work, or is not to be replaced for another reason.
func (a *ahead) tookIt() bool {
	raw, err := a.waits.SyscallConn()
	if err != nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	raw.Control(func(fd uintptr) {
		for !a.taken && a.hearLocked(int(fd)) != 0 {
		}
	})
	over := a.taken || a.signaled
	if over {
		a.startedIfGivenLocked()
	}
	return over
}

// startedIfGivenLocked tells that the work has begun, if there is any: it comes to nothing more than what was done of it. Not where an
// interpreter is to be started for it: what the one before has printed is taken back first.
func (a *ahead) startedIfGivenLocked() {
	select {
	case <-a.given:
		a.started()
	default:
	}
}

// giveUp says that there will be no work.
func (a *ahead) giveUp() {
	a.signal()
	close(a.over)
}

// signal notes that the interpreter was sent one.
func (a *ahead) signal() {
	a.mu.Lock()
	a.signaled = true
	a.mu.Unlock()
}

// give takes the work, the spec and the FIFO, or the spec alone where the keeper has written it all. What is to be handed over, is so while
// others of the keeper's orders are heard.
func (a *ahead) give(files []*os.File, p *process) {
	var work wire.EngineSpec
	err := wire.ReadMemoryFile(files[0], &work)
	files[0].Close()
	if err != nil {
		os.Exit(exitFailed) // there is nothing that could be started
	}
	spec := a.first
	spec.Argv, spec.Env, spec.Files, spec.Work = work.Argv, work.Env, work.Files, work.Work
	failpoint.Here("init: before work")
	handed := len(files) == 1
	if !handed {
		err = a.write(spec)
	}
	a.mu.Lock()
	a.spec = spec
	a.mu.Unlock()
	close(a.given)
	if !handed {
		go a.hand(spec, files[1], p, err)
	}
}

// hand hands the work over; with the error of its files, or without work for this interpreter, it ends it.
func (a *ahead) hand(spec wire.EngineSpec, fifo *os.File, p *process, err error) {
	defer fifo.Close()
	if err == nil && spec.Work != nil {
		err = a.feed(spec, fifo)
	}
	failpoint.Here("init: after work")
	if err != nil || spec.Work == nil {
		a.end(p)
	}
}

// end ends an interpreter that has not taken the work: another one is started in its place, which meets the same error, if it is one of
// the work's. One that took it may have had enough before it had read all, and so may be the one that was started already.
func (a *ahead) end(p *process) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.taken {
		p.kill()
	}
}

// write makes the files of the engine's private folder anew.
func (a *ahead) write(spec wire.EngineSpec) error {
	for name, content := range spec.Files {
		if err := a.folder.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f, err := a.folder.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(content)
		if err == nil && !spec.Plain {
			err = f.Chown(spec.UID, spec.GID)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// feed writes the work into the FIFO, where it ends with what is written.
func (a *ahead) feed(spec wire.EngineSpec, fifo *os.File) error {
	var more io.Reader
	if spec.Work.File != "" {
		f, err := openAs(spec, spec.Work.File)
		if err != nil {
			return err
		}
		defer f.Close()
		more = f
	}
	if _, err := fifo.Write(spec.Work.Bytes); err != nil {
		return err
	}
	if more == nil {
		return nil
	}
	_, err := io.Copy(fifo, more)
	return err
}

// openAs opens a file of the project's with the rights of the engine's user.
func openAs(spec wire.EngineSpec, name string) (f *os.File, err error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(spec.Dir, name)
	}
	open := func() { f, err = os.Open(name) }
	if look := looker(spec); look != nil {
		if lookErr := look(open); lookErr != nil {
			return nil, lookErr
		}
		return f, err
	}
	open()
	return f, err
}

// replace starts an interpreter for the work in the place of one that ended without it, as soon as there is work.
// With false there will be none.
func (p *process) replace() (again bool, err error) {
	a := p.ahead
	select {
	case <-a.given:
	case <-a.over:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.signaled { // meanwhile; giveUp is one, too
		a.startedIfGivenLocked()
		return false, nil
	}
	a.forgetOutput()
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(null)
	pid, pidfd, err := startInterpreter(a.spec, []uintptr{uintptr(null), uintptr(a.output[0]), uintptr(a.output[1])})
	if err != nil {
		return false, explain(a.spec, err)
	}
	p.is(pid, pidfd) // a.mu is held: who signals, or gives up, comes before all this, or finds this one
	a.takenLocked()
	return true, nil
}

// forgetOutput takes back what the interpreter that waited has printed, such as the words of a startup file: the one that is started in its
// place says it again. Nobody reads the engine's output before the work has begun.
func (a *ahead) forgetOutput() {
	buf := make([]byte, 64<<10)
	for _, fd := range a.output {
		in, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // then it is said twice
		}
		for {
			if n, err := unix.Read(in, buf); n <= 0 && err != unix.EINTR {
				break
			}
		}
		unix.Close(in)
	}
}

// zygoteEnds ends one whose children would not say what it has said, or that has started something which they would not have.
func (a *ahead) zygoteEnds() {
	EndDescendants(nil)
	os.Exit(exitFailed)
}

// printed reports whether there is output that nobody has read.
func (a *ahead) printed() bool {
	for _, fd := range a.output {
		if n, err := unix.IoctlGetInt(fd, unix.TIOCINQ); err != nil || n > 0 {
			return true
		}
	}
	return false
}

// is makes another process the interpreter.
func (p *process) is(pid, pidfd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pidfd != 0 {
		syscall.Close(p.pidfd)
	}
	p.pid, p.pidfd = pid, pidfd
}

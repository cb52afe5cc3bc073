package userns

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Enter replaces this process by the program at path, in the namespace and with all its capabilities. It returns only an
// error, when nothing has changed yet. Where the kernel refuses on the way (a filter of system calls may), the program is
// executed where this process is, with the environment refused.
func Enter(ns *os.File, path string, argv, env, refused []string) error {
	var p program
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	all := unix.CapUserData{Effective: ^uint32(0), Permitted: ^uint32(0), Inheritable: ^uint32(0)} // the kernel takes those it knows
	data := [2]unix.CapUserData{all, all}
	p.call(unix.SYS_SETNS, ns.Fd(), unix.CLONE_NEWUSER)
	p.call(unix.SYS_CAPSET,
		p.data(unsafe.Slice((*byte)(unsafe.Pointer(&header)), unsafe.Sizeof(header))),
		p.data(unsafe.Slice((*byte)(unsafe.Pointer(&data)), unsafe.Sizeof(data))))
	for _, c := range capabilities() {
		p.call(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0)
	}
	file, args := p.text(path), p.texts(argv)
	p.call(unix.SYS_EXECVE, file, args, p.texts(env))
	p.otherwise()
	p.call(unix.SYS_EXECVE, file, args, p.texts(refused))
	last := path + " cannot be executed\n"
	p.call(unix.SYS_WRITE, 2, p.text(last), uintptr(len(last)))
	image, err := p.image(runtime.GOARCH)
	if err != nil {
		return err
	}
	f, err := memoryFile(image)
	if err != nil {
		return fmt.Errorf("write the program that enters the user namespace: %w", err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(ns.Fd(), unix.F_SETFD, 0); err != nil { // it is to be there for that program
		return err
	}
	err = unix.Exec(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), argv[:1], nil)
	unix.CloseOnExec(int(ns.Fd()))
	runtime.KeepAlive(ns)
	return fmt.Errorf("execute the program that enters the user namespace: %w", err)
}

// memoryFile is a file in memory that can be executed. Linux before 6.3 knows no word for that: there all can.
func memoryFile(content []byte) (*os.File, error) {
	const name = "enter user namespace"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		f.Close()
		return nil, err
	}
	// Executable by a descriptor of its own for reading: the kernel executes nothing that is open for writing.
	r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	f.Close()
	return r, err
}

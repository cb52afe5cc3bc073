package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessage bounds a message. Whatever may be larger (code, environment) travels in a memory file.
const maxMessage = 64 << 10

// smallMessage bounds the messages between keeper and init.
const smallMessage = 4 << 10

// ErrTooLong is returned by Send for a message that no peer would take.
var ErrTooLong = errors.New("the message is too long")

// maxFDs bounds the descriptors of one message.
const maxFDs = 16

// Conn is one end of a connection. Send may be called concurrently; Receive by one goroutine at a time.
type Conn struct {
	c     *net.UnixConn
	limit int
	send  sync.Mutex
	buf   []byte
	oob   []byte
}

// NewConn takes over c, which must be of network "unixpacket".
func NewConn(c *net.UnixConn) *Conn { return &Conn{c: c, limit: maxMessage} }

// Small makes c keep room for small messages only: a keeper has one connection for each engine.
func (c *Conn) Small() *Conn {
	c.limit = smallMessage
	return c
}

// FileConn takes over the descriptor of a connected SOCK_SEQPACKET socket.
func FileConn(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("descriptor %s is no unix socket", f.Name())
	}
	return NewConn(u), nil
}

// Pair returns the two ends of a new connection; the second as a file, to be inherited by a child.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	conn, err := FileConn(os.NewFile(uintptr(fds[0]), "control"))
	if err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	return conn, os.NewFile(uintptr(fds[1]), "control peer"), nil
}

// Peer is the process that is at the other end, or that listened there.
func (c *Conn) Peer() (pid int, err error) {
	raw, err := c.c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, controlErr); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// Send sends message as JSON, with files beside it (they stay the caller's). It blocks while the peer does not read.
func (c *Conn) Send(message any, files ...*os.File) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(b) > c.limit {
		return fmt.Errorf("%w: %d bytes, %d are allowed", ErrTooLong, len(b), c.limit)
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	c.send.Lock()
	defer c.send.Unlock()
	_, _, err = c.c.WriteMsgUnix(b, oob, nil)
	return err
}

// SendWithin is Send that gives up after a time, for a peer that may never read.
func (c *Conn) SendWithin(limit time.Duration, message any, files ...*os.File) error {
	c.c.SetWriteDeadline(time.Now().Add(limit))
	return c.Send(message, files...)
}

// ReceiveWithin is Receive with a limit, for a peer that may never answer.
func (c *Conn) ReceiveWithin(limit time.Duration, message any) ([]*os.File, error) {
	c.c.SetReadDeadline(time.Now().Add(limit))
	return c.Receive(message)
}

// Receive waits for the next message, decodes it into message and returns the files that came with it. At the end of the
// connection it returns io.EOF.
func (c *Conn) Receive(message any) ([]*os.File, error) {
	if c.buf == nil {
		c.buf = make([]byte, c.limit)
		c.oob = make([]byte, unix.CmsgSpace(4*maxFDs))
	}
	n, oobn, flags, _, err := c.c.ReadMsgUnix(c.buf, c.oob)
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) || errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, err
	}
	files, err := filesOf(c.oob[:oobn])
	if err != nil {
		return nil, err
	}
	if n == 0 && oobn == 0 {
		return nil, io.EOF
	}
	if flags&unix.MSG_TRUNC != 0 || flags&unix.MSG_CTRUNC != 0 {
		closeAll(files)
		return nil, errors.New("a message was cut short")
	}
	if err := json.Unmarshal(c.buf[:n], message); err != nil {
		closeAll(files)
		return nil, fmt.Errorf("decode message: %w", err)
	}
	return files, nil
}

// CloseRead makes Receive return what was sent so far, and then the end of the connection; sending to it fails from now on.
func (c *Conn) CloseRead() error { return c.c.CloseRead() }

// Close closes the connection. A blocked Receive returns.
func (c *Conn) Close() error { return c.c.Close() }

func filesOf(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// MemoryFile returns an anonymous file in memory that holds message as JSON, positioned at its beginning. It is its user's alone: by
// its descriptor's name in /proc a thread that took another user's rights would open what everybody may (memfd_create(2): mode 0777).
func MemoryFile(name string, message any) (*os.File, error) {
	b, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Chmod(0o600); err != nil {
		f.Close()
		return nil, fmt.Errorf("keep memory file: %w", err)
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, fmt.Errorf("write memory file: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadMemoryFile decodes what MemoryFile wrote, whatever the file's position is.
func ReadMemoryFile(f *os.File, message any) error {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, message)
}

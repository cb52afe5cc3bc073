package drivertest

import (
	"fmt"
	"strings"
)

// Python returns an Express for drivers whose engines are real processes. The interpreter is an absolute path of a
// Python 3; visible are paths that it needs and that may lie in /tmp.
func Python(interpreter string, visible ...string) func(steps ...Step) (Program, error) {
	return func(steps ...Step) (Program, error) {
		var b strings.Builder
		b.WriteString(pythonPrelude)
		for _, s := range steps {
			line, err := pythonStep(s)
			if err != nil {
				return Program{}, err
			}
			b.WriteString(line + "\n")
		}
		return Program{
			Argv:    []string{interpreter, "-I", "-u", Private + "/program.py"},
			Files:   map[string][]byte{"program.py": []byte(b.String())},
			Visible: visible,
		}, nil
	}
}

// pythonPrelude defines what a step needs more than a line for. Imports are few: a program starts in 10 ms.
const pythonPrelude = `import os, signal, time
def out(s, fd=1):
    b = (s + "\n").encode()
    while b: b = b[os.write(fd, b):]
def host():
    import socket
    out(socket.gethostname() + " " + socket.gethostbyname(socket.gethostname()))
def cat():
    while True:
        b = os.read(0, 65536)
        if not b: return
        while b: b = b[os.write(1, b):]
def line():
    while os.read(0, 1) not in (b"\n", b""): pass
def size():
    import fcntl, struct
    try: out("%d %d" % struct.unpack("hh4x", fcntl.ioctl(0, 0x5413, bytes(8))))
    except OSError: out("no terminal")
def hang(): # a sleep does not see a signal that comes right before it; this pipe does
    r, w = os.pipe()
    os.set_blocking(w, False)
    signal.set_wakeup_fd(w)
    while True: os.read(r, 1)
def trap(n, text):
    def f(*a):
        out(text)
        os._exit(0)
    signal.signal(n, f)
def allocate(n):
    global kept
    kept = bytearray(n)
    for i in range(0, n, 4096): kept[i] = 1
def spin(n):
    while time.process_time() < n: pass
def serve(port, text):
    import socket
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", port))
    s.listen(64)
    out("listening")
    while True:
        c, _ = s.accept()
        c.sendall((text + "\n").encode())
        c.close()
def connect(addr, port):
    import socket
    try:
        c = socket.create_connection((addr, port), 20)
        line = c.makefile().readline()
    except OSError as e:
        return out("no connection: " + str(e))
    out("got " + line.rstrip("\n"))
def grandchild(fifo):
    r, w = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            f = os.open(fifo, os.O_WRONLY)
            os.write(w, b"x")
            for fd in (0, 1, 2, r, w): os.close(fd)
            hang()
        os._exit(0)
    os.wait()
    os.read(r, 1)
    out("grandchild")
def write(path, text):
    with open(path, "w") as f: f.write(text)
`

// pythonStep expresses one step. Go's %q of plain text is a Python string.
func pythonStep(s Step) (string, error) {
	switch s := s.(type) {
	case Print:
		return fmt.Sprintf("out(%q)", s.Text), nil
	case PrintErr:
		return fmt.Sprintf("out(%q, 2)", s.Text), nil
	case Numbers:
		return fmt.Sprintf("for i in range(%d): out(str(i))", s.N), nil
	case PrintEnv:
		return `for k in sorted(os.environ): out(k + "=" + os.environ[k])`, nil
	case PrintDir:
		return "out(os.getcwd())", nil
	case PrintHost:
		return "host()", nil
	case CountProcesses:
		return `out("processes %d" % len([p for p in os.listdir("/proc") if p.isdigit()]))`, nil
	case CopyStdin:
		return "cat()", nil
	case TerminalSize:
		return "size()", nil
	case ReadLine:
		return "line()", nil
	case Exit:
		return fmt.Sprintf("os._exit(%d)", s.Code), nil
	case Die:
		return fmt.Sprintf("os.kill(os.getpid(), %d)", s.Signal), nil
	case Hang:
		return "hang()", nil
	case IgnoreTerm:
		return "signal.signal(signal.SIGTERM, signal.SIG_IGN)", nil
	case Trap:
		return fmt.Sprintf("trap(%d, %q)", s.Signal, s.Text), nil
	case Allocate:
		return fmt.Sprintf("allocate(%d)", s.Bytes), nil
	case Spin:
		return fmt.Sprintf("spin(%g)", s.CPUSeconds), nil
	case Serve:
		return fmt.Sprintf("serve(%d, %q)", s.Port, s.Text), nil
	case Connect:
		return fmt.Sprintf("connect(%q, %d)", s.Addr, s.Port), nil
	case Grandchild:
		return fmt.Sprintf("grandchild(%q)", s.FIFO), nil
	case WriteFile:
		return fmt.Sprintf("write(%q, %q)", s.Path, s.Text), nil
	case AwaitFile:
		return fmt.Sprintf("while not os.path.exists(%q): time.sleep(0.01)", s.Path), nil
	case Exists:
		return fmt.Sprintf(`out(("yes " if os.path.exists(%[1]q) else "no ") + %[1]q)`, s.Path), nil
	default:
		return "", fmt.Errorf("step %T: %w", s, ErrCannot)
	}
}

package fake

import (
	"bufio"
	"context"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"muster/engine"
	"muster/internal/console"
)

// cat copies stdin until its end.
func (pr *proc) cat(string) *outcome {
	if pr.in == nil {
		return nil
	}
	buf := make([]byte, 4096)
	for {
		n, err := pr.in.Read(buf)
		if n > 0 {
			pr.write(console.Stdout, buf[:n])
		}
		if !pr.sleep(0) {
			out := pr.killed()
			return &out
		}
		if err != nil {
			return pr.endOfInput()
		}
	}
}

// readLine reads stdin up to the next newline.
func (pr *proc) readLine(string) *outcome {
	if pr.in == nil {
		return nil
	}
	b := make([]byte, 1)
	for {
		_, err := pr.in.Read(b)
		if !pr.sleep(0) {
			out := pr.killed()
			return &out
		}
		if err != nil {
			return pr.endOfInput()
		}
		if b[0] == '\n' {
			return nil
		}
	}
}

// awaitFile goes on when there is a file.
func (pr *proc) awaitFile(path string) *outcome {
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		if !pr.sleep(10 * time.Millisecond) {
			out := pr.killed()
			return &out
		}
	}
}

// endOfInput goes on, or is hung up on if stdin is a terminal.
func (pr *proc) endOfInput() *outcome {
	if pr.spec.Terminal == nil {
		return nil
	}
	return &outcome{signal: int(syscall.SIGHUP)}
}

// serve answers every connection to the engine's address until the engine ends.
func (pr *proc) serve(arg string) *outcome {
	port, text, _ := strings.Cut(arg, " ")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return pr.mistake("serve", arg)
	}
	l, err := pr.place.network.listen(pr.spec.Address, int(n))
	if err != nil {
		pr.write(console.Stderr, []byte(err.Error()+"\n"))
		return &outcome{code: 1}
	}
	defer l.Close()
	pr.print(console.Stdout, "listening\n")
	for {
		select {
		case c := <-l.conns:
			pr.hold(c)
			pr.group.Go(func() {
				c.Write([]byte(text + "\n"))
				c.Close()
			})
		case <-pr.fatal:
			out := pr.killed()
			return &out
		}
	}
}

// connect prints what a server answers, or that nobody does.
func (pr *proc) connect(arg string) *outcome {
	host, port, _ := strings.Cut(arg, " ")
	addr, err := netip.ParseAddr(host)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil {
		return pr.mistake("connect", arg)
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectWait)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	pr.group.Go(func() {
		select {
		case <-pr.fatal:
			cancel()
		case <-stop:
		}
	})
	wait := addr == pr.spec.Master && pr.spec.Role == engine.RoleWorker
	c, err := pr.place.network.dial(ctx, netip.AddrPortFrom(addr, uint16(n)), wait)
	if !pr.sleep(0) {
		if c != nil {
			c.Close()
		}
		out := pr.killed()
		return &out
	}
	if err != nil {
		return pr.print(console.Stdout, "no connection: "+err.Error()+"\n")
	}
	pr.hold(c)
	defer context.AfterFunc(ctx, func() { c.Close() })()
	line, err := bufio.NewReader(c).ReadString('\n')
	c.Close()
	if err != nil {
		return pr.print(console.Stdout, "no answer: "+err.Error()+"\n")
	}
	return pr.print(console.Stdout, "got "+line)
}

// grandchild stands for a descendant that left its parents and process group: it holds a FIFO open for writing.
func (pr *proc) grandchild(arg string) *outcome {
	f, err := os.OpenFile(arg, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		pr.write(console.Stderr, []byte(err.Error()+"\n"))
		return &outcome{code: 1}
	}
	pr.hold(f)
	return pr.print(console.Stdout, "grandchild\n")
}

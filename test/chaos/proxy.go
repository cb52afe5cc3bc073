package main

import (
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// proxy is a link to the server that can be cut, held up and half closed.
type proxy struct {
	path, to string
	listener net.Listener
	delay    atomic.Int64 // nanoseconds that each piece is held back
	wg       sync.WaitGroup

	mu    sync.Mutex
	links map[*link]bool
}

// link is one connection through the proxy.
type link struct{ client, server *net.UnixConn }

func (w *world) newProxy() (*proxy, error) {
	p := &proxy{path: filepath.Join(w.root, "link.sock"), to: w.socket(), links: map[*link]bool{}}
	l, err := net.Listen("unix", p.path)
	if err != nil {
		return nil, err
	}
	p.listener = l
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.carry(c.(*net.UnixConn)) })
		}
	})
	return p, nil
}

func (p *proxy) carry(client *net.UnixConn) {
	defer client.Close()
	c, err := net.Dial("unix", p.to)
	if err != nil {
		return
	}
	l := &link{client: client, server: c.(*net.UnixConn)}
	defer l.server.Close()
	p.mu.Lock()
	p.links[l] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	var both sync.WaitGroup
	both.Go(func() { p.copy(l.server, l.client) })
	both.Go(func() { p.copy(l.client, l.server) })
	both.Wait()
}

// copy carries one direction, in small pieces, so that a cut comes anywhere in a record.
func (p *proxy) copy(to, from *net.UnixConn) {
	buf := make([]byte, 777)
	for {
		n, err := from.Read(buf)
		if d := p.delay.Load(); d > 0 {
			time.Sleep(time.Duration(d))
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				from.Close()
				return
			}
		}
		if err == io.EOF {
			to.CloseWrite()
			return
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

func (p *proxy) each(f func(*link)) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		f(l)
	}
	return len(p.links)
}

// cut breaks every connection.
func (p *proxy) cut() int {
	return p.each(func(l *link) { l.client.Close(); l.server.Close() })
}

// halfClose ends what the server sends, as if it had nothing more to say; the other direction stays.
func (p *proxy) halfClose() int {
	return p.each(func(l *link) { l.client.CloseWrite(); l.server.CloseRead() })
}

// slow holds each piece back for a while.
func (p *proxy) slow(piece, length time.Duration) {
	p.delay.Store(int64(piece))
	time.Sleep(length)
	p.delay.Store(0)
}

func (p *proxy) close() {
	p.listener.Close()
	p.cut()
	p.wg.Wait()
}

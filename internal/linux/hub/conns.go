package hub

import (
	"net"
	"sync"
)

// conns are the open connections of a service, so that its end ends them too.
type conns struct {
	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

// add remembers c. It closes c and returns false when the service has ended.
func (s *conns) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	if s.open == nil {
		s.open = map[net.Conn]bool{}
	}
	s.open[c] = true
	return true
}

// remove closes and forgets c.
func (s *conns) remove(c net.Conn) {
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
	c.Close()
}

// close closes all, also those to come.
func (s *conns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		c.Close()
	}
}

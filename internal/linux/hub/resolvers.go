package hub

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// resolvers are the host's name servers, read again whenever the file changes.
type resolvers struct {
	path string

	mu      sync.Mutex
	changed time.Time
	size    int64
	read    bool
	servers []netip.AddrPort
}

func (r *resolvers) list() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Stat(r.path)
	if err != nil {
		r.servers, r.read = nil, false
		return nil
	}
	if r.read && info.ModTime().Equal(r.changed) && info.Size() == r.size {
		return r.servers
	}
	text, err := os.ReadFile(r.path)
	if err != nil {
		r.servers, r.read = nil, false
		return nil
	}
	r.servers, r.changed, r.size, r.read = parseResolvers(text), info.ModTime(), info.Size(), true
	return r.servers
}

// parseResolvers reads the name servers of a resolv.conf: the first three, as the C library does.
func parseResolvers(text []byte) []netip.AddrPort {
	const most = 3
	var servers []netip.AddrPort
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() && len(servers) < most {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, 53))
		}
	}
	return servers
}

package peer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// established is the state, in /proc/net/tcp, of a socket whose connection is open. In other states a socket may belong to no
// process any more, and then it is listed as root's.
const established = "01"

// TCPUser is the user id of the program at the other end of a TCP connection that does not leave this machine and this
// network namespace: of the socket, that is whoever made it, with the connection's two ends the other way round.
func TCPUser(local, remote netip.AddrPort) (uid int, err error) {
	local, remote = unmap(local), unmap(remote)
	files := map[string]func(netip.Addr) netip.Addr{"tcp6": as16}
	if local.Addr().Is4() { // which sockets for both protocols can have too
		files["tcp"] = func(a netip.Addr) netip.Addr { return a }
	}
	for name, form := range files {
		theirs := inProc(form(remote.Addr()), remote.Port()) + " " + inProc(form(local.Addr()), local.Port()) + " " + established
		if uid, err := userOf("/proc/self/net/"+name, theirs); err != nil || uid >= 0 {
			return uid, err
		}
	}
	return -1, fmt.Errorf("no open socket here leads from %s to %s", remote, local)
}

// userOf finds a line by its addresses and state; -1 if there is none.
func userOf(path, theirs string) (uid int, err error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return -1, nil // a kernel without IPv6
	}
	if err != nil {
		return -1, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 7 && strings.Join(fields[1:4], " ") == theirs {
			return strconv.Atoi(fields[7])
		}
	}
	return -1, lines.Err()
}

// listening is the state of a socket that waits for connections.
const listening = "0A"

// TCPListeners are the user ids of those who listen on a TCP port of this network namespace, at whatever address.
func TCPListeners(port uint16) (uids []int, err error) {
	end := fmt.Sprintf(":%04X", port)
	for _, name := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile("/proc/self/net/" + name)
		if err != nil && !os.IsNotExist(err) { // a kernel without IPv6
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) > 7 && strings.HasSuffix(fields[1], end) && fields[3] == listening {
				uid, err := strconv.Atoi(fields[7])
				if err != nil {
					return nil, err
				}
				uids = append(uids, uid)
			}
		}
	}
	return uids, nil
}

// inProc is an end of a connection as /proc/net/tcp writes it: words in the machine's order.
func inProc(a netip.Addr, port uint16) string {
	var text strings.Builder
	for b := a.AsSlice(); len(b) > 0; b = b[4:] {
		fmt.Fprintf(&text, "%08X", binary.NativeEndian.Uint32(b))
	}
	return fmt.Sprintf("%s:%04X", text.String(), port)
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func as16(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }

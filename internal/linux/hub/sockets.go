package hub

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// socket is one that listens.
type socket struct {
	addr  netip.Addr
	inode uint64
}

// listening lists the sockets that listen on a TCP port in the network namespace of a process.
func listening(pid int, port uint16) ([]socket, error) {
	var all []socket
	for _, name := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if errors.Is(err, fs.ErrNotExist) && name == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("list the sockets of process %d: %w", pid, err)
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if at, s, ok := parseListening(lines.Text()); ok && at == port {
				all = append(all, s)
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("list the sockets of process %d: %w", pid, err)
		}
	}
	return all, nil
}

// parseListening reads a line of /proc/net/tcp or tcp6; false if it is none of a socket that listens.
func parseListening(line string) (port uint16, s socket, ok bool) {
	const listen = "0A"
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != listen {
		return 0, s, false
	}
	host, at, _ := strings.Cut(f[1], ":")
	b, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(at, 16, 16)
	inode, err3 := strconv.ParseUint(f[9], 10, 64)
	if err := errors.Join(err, err2, err3); err != nil {
		return 0, s, false
	}
	for i := 0; i+4 <= len(b); i += 4 { // words in the machine's order
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	addr, ok := netip.AddrFromSlice(b)
	return uint16(n), socket{addr.Unmap(), inode}, ok
}

// held says whose the sockets are.
type held struct {
	ours  map[uint64]bool // inodes
	other string          // a process that holds one and is not ours; "": none was found
}

// holders finds out which of the sockets belong to a process, its descendants and what says that it is of the session.
func holders(pid int, session string, all []socket) (held, error) {
	h := held{ours: map[uint64]bool{}}
	wanted := map[string]uint64{}
	for _, s := range all {
		wanted[fmt.Sprintf("socket:[%d]", s.inode)] = s.inode
	}
	pids, family, err := processes(pid)
	if err != nil {
		return h, err
	}
	for _, p := range pids {
		inodes := socketsOf(p, wanted)
		switch {
		case len(inodes) == 0:
		case family[p] && ofUser(p, pid) || saysSession(p, pid, session):
			for _, i := range inodes {
				h.ours[i] = true
			}
		case h.other == "":
			h.other = fmt.Sprintf("%s, pid %d", commandOf(p), p)
		}
	}
	return h, nil
}

// processes lists all processes, and which of them are root or descend from it.
func processes(root int) (pids []int, family map[int]bool, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, nil, fmt.Errorf("list processes: %w", err)
	}
	parent := map[int]int{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
			parent[pid] = parentOf(pid)
		}
	}
	family = map[int]bool{}
	for _, pid := range pids {
		// A parent that ended while the list was made can close a circle, but no longer one than the list.
		for p, n := pid, len(pids); p > 0 && n > 0; p, n = parent[p], n-1 {
			if p == root {
				family[pid] = true
				break
			}
		}
	}
	return pids, family, nil
}

// parentOf is 0 for a process that is gone.
func parentOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	text := string(b)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // the command may hold anything
	if len(f) < 2 {
		return 0
	}
	p, _ := strconv.Atoi(f[1])
	return p
}

// socketsOf lists the wanted sockets that a process holds. Of processes that we may not look at there are none.
func socketsOf(pid int, wanted map[string]uint64) (inodes []uint64) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			continue
		}
		if inode, ok := wanted[to]; ok {
			inodes = append(inodes, inode)
		}
	}
	return inodes
}

// ofUser reports whether a descendant's sockets are its ancestor's to give away: not if it became another user's, as by su. Those
// that root's programs made are.
func ofUser(pid, ancestor int) bool {
	var a, b unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d", pid), &a) != nil || unix.Stat(fmt.Sprintf("/proc/%d", ancestor), &b) != nil {
		return false
	}
	return a.Uid == b.Uid || b.Uid == 0
}

// saysSession reports whether a process of the same user was started with the session's id in its environment.
func saysSession(pid, owner int, session string) bool {
	var a, b unix.Stat_t
	if session == "" || unix.Stat(fmt.Sprintf("/proc/%d", pid), &a) != nil || unix.Stat(fmt.Sprintf("/proc/%d", owner), &b) != nil || a.Uid != b.Uid {
		return false
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && slices.Contains(strings.Split(string(env), "\x00"), "CDSW_ENGINE_ID="+session)
}

// commandOf is a process's name for people. Whose it is may have put there what would steer their terminal.
func commandOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "unknown"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.TrimSpace(string(b)))
}

// targets are the addresses at which a connection meets a socket of ours, the best one first. A socket that is bound to
// everything is met at the process's own address in the session's network, where that of others cannot be; unless it is one
// for IPv6, which may leave IPv4 to others.
func targets(own netip.Addr, all []socket, ours map[uint64]bool) []netip.Addr {
	var to []netip.Addr
	for _, s := range all {
		if !ours[s.inode] {
			continue
		}
		a := s.addr
		switch {
		case a == netip.IPv4Unspecified():
			to = append(to, own, netip.AddrFrom4([4]byte{127, 0, 0, 1}))
		case a == netip.IPv6Unspecified():
			to = append(to, netip.IPv6Loopback(), own)
		default:
			to = append(to, a)
		}
	}
	to = slices.DeleteFunc(to, func(a netip.Addr) bool {
		// Of sockets that share a port the one with exactly the address is met; at a shared address, any of them.
		return metByOthers(a, all, ours)
	})
	return slices.Compact(to)
}

// metByOthers reports whether a connection to a may meet a socket that is not ours.
func metByOthers(a netip.Addr, all []socket, ours map[uint64]bool) bool {
	any := netip.IPv4Unspecified()
	if a.Is6() {
		any = netip.IPv6Unspecified()
	}
	for _, level := range []netip.Addr{a, any} {
		exact, others := false, false
		for _, s := range all {
			if s.addr == level {
				exact = true
				others = others || !ours[s.inode]
			}
		}
		if exact {
			return others
		}
	}
	return false
}

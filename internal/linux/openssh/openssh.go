// Package openssh writes what OpenSSH's programs need so that the machines of one group reach each other without password
// or question, and nobody else does: one key for the group, which is the identity of each client and the host key of each
// server; a client configuration for the group's addresses; the arguments of a server that serves one connection (sshd -i)
// as the calling user. Nothing of the host's or the user's own SSH files is changed: the files lie in a folder that only
// the machine's user may read, and what must stand in /etc is a cover that the caller mounts over the host's file.
//
// It knows nothing of engines and makes texts only; the local driver imports it. Standard library only.
package openssh

import (
	"fmt"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"
)

// Port is where the servers listen.
const Port = 2222

// Names of the files in the machine's private folder.
const (
	keyFile        = "ssh_key"
	knownHostsFile = "ssh_known_hosts"
	authorizedFile = "ssh_authorized_keys"
	runFile        = "ssh_run"
	logFile        = "ssh_log"
)

// hostAlias is the one name under which all servers of a group are known: addresses are used again and again.
const hostAlias = "muster"

// sftpCommand is how the server names the subsystem to the run file, which finds the program.
const sftpCommand = "muster-sftp"

// Group is one group of machines.
type Group struct {
	Key     Key
	Network netip.Prefix // their addresses
	Folder  string       // where each finds its Files
	// NoTTY says that terminals cannot belong to the group tty, as in a user namespace that has no such group.
	NoTTY bool
}

// Files are the content of a machine's private folder. Sessions start in dir and have the environment env.
func (g Group) Files(dir string, env []string) map[string][]byte {
	public := g.Key.Public()
	return map[string][]byte{
		keyFile:        g.Key.Private(),
		knownHostsFile: []byte(hostAlias + " " + public + "\n"),
		authorizedFile: []byte(public + "\n"),
		runFile:        runScript(dir, env),
	}
}

// Programs are the places where distributions install the server.
func Programs() []string {
	return []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd", "/usr/local/bin/sshd", "/sbin/sshd"}
}

// Server is the first of Programs that this host has; empty if it has none.
func Server() string {
	for _, p := range Programs() {
		if info, err := os.Stat(p); err == nil && info.Mode()&0o111 != 0 {
			return p
		}
	}
	return ""
}

// ServerArgs are the arguments of a server for the one connection that is its standard input. Whoever holds the group's key
// may come in, as the user whose folder it is. StrictModes is off because the folder is no home; PAM is because it needs
// rights that containers lack. Environment and working folder are made by the run file: the server hands on neither.
func (g Group) ServerArgs() []string {
	args := []string{"-i", "-f", "/dev/null", "-E", path.Join(g.Folder, logFile)}
	for _, option := range []string{
		"HostKey=" + path.Join(g.Folder, keyFile),
		"AuthorizedKeysFile=" + path.Join(g.Folder, authorizedFile),
		"ForceCommand=/bin/sh " + path.Join(g.Folder, runFile),
		"Subsystem=sftp " + sftpCommand,
		"PubkeyAuthentication=yes",
		"PasswordAuthentication=no",
		"KbdInteractiveAuthentication=no",
		"PermitRootLogin=prohibit-password",
		"StrictModes=no",
		"UsePAM=no",
		"UseDNS=no",
		"PrintMotd=no",
		"PrintLastLog=no",
		"MaxAuthTries=100", // people's own configuration may offer many keys before ours
		"MaxSessions=1000",
	} {
		args = append(args, "-o", option)
	}
	return args
}

// ClientConfig is a system-wide client configuration: the group's, then the host's own. The first value that is found for
// an option counts, and people's ~/.ssh/config is read before either.
func (g Group) ClientConfig(host []byte) []byte {
	var b strings.Builder
	b.WriteString("# The engines of this session; the host's own file follows.\n")
	prefixes := dotted(g.Network)
	block := func(match string) {
		fmt.Fprintf(&b, "Match %s\n", match)
		for _, line := range []string{
			"Port " + strconv.Itoa(Port),
			"IdentityFile " + path.Join(g.Folder, keyFile),
			"IdentitiesOnly yes",
			"PreferredAuthentications publickey",
			"HostKeyAlias " + hostAlias,
			"GlobalKnownHostsFile " + path.Join(g.Folder, knownHostsFile),
			"UserKnownHostsFile /dev/null",
			"StrictHostKeyChecking yes",
			"UpdateHostKeys no",
			"CheckHostIP no",
		} {
			b.WriteString("  " + line + "\n")
		}
	}
	block("host localhost,127.0.0.1," + strings.Join(prefixes, "*,") + "*") // the machine itself has a server as well
	// Names of machines are 16 letters and digits. Others have such names too: the address decides. The name cannot break out
	// of the quotes, as it has none, and is no option, as it has no dash.
	block(fmt.Sprintf(`host "????????????????,!*.*,!*-*,!*'*" exec "getent ahostsv4 '%%h' | grep -Eq '^(%s)'"`,
		strings.ReplaceAll(strings.Join(prefixes, "|"), ".", "[.]")))
	b.WriteString("Match all\n\n")
	b.Write(host)
	return []byte(b.String())
}

// dotted lists the beginnings, in whole octets, that the addresses of a network have: the client's patterns know no prefix
// lengths.
func dotted(network netip.Prefix) []string {
	octets := (network.Bits() + 7) / 8
	first := network.Masked().Addr().As4()
	var list []string
	for i := range 1 << (8*octets - network.Bits()) {
		var b strings.Builder
		for o := range octets {
			value := int(first[o])
			if o == octets-1 {
				value += i
			}
			fmt.Fprintf(&b, "%d", value)
			if o < 3 {
				b.WriteByte('.')
			}
		}
		list = append(list, b.String())
	}
	return list
}

package openssh

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ClientFile is the client's configuration for all users.
const ClientFile = "/etc/ssh/ssh_config"

// HostFiles are those of the host that Covers are made of.
var HostFiles = []string{ClientFile, "/etc/group", "/etc/passwd", "/etc/shadow"}

// Covers are files of the host that must show something else in a machine whose user is uid: the client's configuration,
// only where the server would turn the user away, the user's own entry of the account files, and where it could make no
// terminals, those of the groups.
func (g Group) Covers(uid int) map[string][]byte {
	covers := map[string][]byte{}
	if host, err := os.ReadFile(ClientFile); err == nil { // without it there is no client
		covers[ClientFile] = g.ClientConfig(host)
	}
	if groups, err := os.ReadFile("/etc/group"); err == nil && g.NoTTY {
		covers["/etc/group"] = withoutGroup(groups, "tty")
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return covers
	}
	user, withShell := shellFor(passwd, uid, usable)
	if withShell != nil {
		covers["/etc/passwd"] = withShell
	}
	// Only a server of root's can read the passwords, and so looks whether the account is locked.
	if uid != 0 || user == "" {
		return covers
	}
	if shadow, err := os.ReadFile("/etc/shadow"); err == nil {
		if open := unlocked(shadow, user); open != nil {
			covers["/etc/shadow"] = open
		}
	}
	return covers
}

// withoutGroup returns the file without a group: the server gives terminals to that of this name, and gives up where it cannot.
func withoutGroup(file []byte, name string) []byte {
	lines := bytes.SplitAfter(file, []byte("\n"))
	return bytes.Join(slices.DeleteFunc(lines, func(l []byte) bool { return bytes.HasPrefix(l, []byte(name+":")) }), nil)
}

// shellFor returns the name of the user and, if the user's shell lets nobody in, the file with one that does.
func shellFor(passwd []byte, uid int, usable func(string) bool) (user string, changed []byte) {
	changed = edit(passwd, func(fields []string) (found, edited bool) {
		if len(fields) != 7 || fields[2] != strconv.Itoa(uid) {
			return false, false
		}
		user = fields[0]
		if usable(fields[6]) {
			return true, false
		}
		fields[6] = "/bin/sh"
		return true, true
	})
	return user, changed
}

// unlocked returns the file with "no password" where the user's is "locked": the server takes that for "nobody may come in,
// by whatever means". It returns nil if the user's is not locked.
func unlocked(shadow []byte, user string) []byte {
	return edit(shadow, func(fields []string) (found, edited bool) {
		if len(fields) < 2 || fields[0] != user {
			return false, false
		}
		if !strings.HasPrefix(fields[1], "!") {
			return true, false
		}
		fields[1] = "*"
		return true, true
	})
}

// edit changes the first line of an account file that is found, which is the one that counts.
func edit(file []byte, change func(fields []string) (found, edited bool)) []byte {
	lines := bytes.Split(file, []byte("\n"))
	for i, line := range lines {
		fields := strings.Split(string(line), ":")
		found, edited := change(fields)
		if edited {
			lines[i] = []byte(strings.Join(fields, ":"))
			return bytes.Join(lines, []byte("\n"))
		}
		if found {
			break
		}
	}
	return nil
}

// usable reports whether a shell runs commands. None at all means /bin/sh.
func usable(shell string) bool {
	if shell == "" {
		return true
	}
	if base := filepath.Base(shell); base == "nologin" || base == "false" || base == "true" {
		return false
	}
	info, err := os.Stat(shell)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

package openssh

import (
	"slices"
	"strings"
)

// ofConnection are variables that the server sets for each connection: those of the machine's environment would be another
// connection's, the one by which a person came to this host.
var ofConnection = []string{"SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "SSH_ORIGINAL_COMMAND", "SSH_AUTH_SOCK"}

// sftpServers are the places where distributions install the program for file transfer.
const sftpServers = "/usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server " +
	"/usr/libexec/sftp-server /usr/lib/sftp-server"

// runScript is what the server runs in place of every command: it goes to dir, sets env, and runs the command that was
// asked for, by the user's shell as ever. By env(1), because a shell cannot export all names that an environment may have.
// A terminal's shell is no login shell: /etc/profile would set PATH anew. For the same reason a command's shell is no
// outermost one (SHLVL): in that, if it comes by SSH, bash reads ~/.bashrc (its manual, "Invoked by remote shell daemon").
func runScript(dir string, env []string) []byte {
	var b strings.Builder
	b.WriteString("command=$SSH_ORIGINAL_COMMAND\nunset SSH_ORIGINAL_COMMAND\ncd " + quote(dir) + " || exit\nset --")
	term := ""
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "TERM":
			term = kv
		case name != "" && !slices.Contains(ofConnection, name):
			b.WriteString(" \\\n" + quote(kv))
		}
	}
	b.WriteString("\n")
	if term != "" {
		b.WriteString("[ -n \"$SSH_TTY\" ] || set -- \"$@\" " + quote(term) + "\n")
	}
	b.WriteString(`case $command in
"") exec env -- "$@" "$SHELL" ;;
` + sftpCommand + `)
	for server in ` + sftpServers + `; do
		[ -x "$server" ] && exec env -- "$@" "$server"
	done
	echo "sftp and scp need openssh-sftp-server: apt-get install openssh-sftp-server" >&2
	exit 127 ;;
*) exec env -- "$@" SHLVL=1 "$SHELL" -c "$command" ;;
esac
`)
	return []byte(b.String())
}

// quote makes one word of a text, for any shell of POSIX's.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

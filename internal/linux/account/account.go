// Package account looks users up in the machine's user database: /etc/passwd, and for those who are not in it, such as those of
// LDAP or a directory, the programs getent and id, which ask whatever the machine asks. (The C library's own functions are not
// at hand in a static program.) Standard library only; package app imports it.
package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Account is a user.
type Account struct {
	Name        string
	UID, GID    int
	Groups      []int // all, the first one too
	Home, Shell string
}

// ErrUnknown says that there is no such user.
var ErrUnknown = errors.New("the machine knows no such user")

// Files and programs; tests have their own.
var (
	passwdFile = "/etc/passwd"
	searchPath = []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin"} // not PATH: the caller may be a service of root's
	patience   = 20 * time.Second                                   // a directory on the network may be slow
)

// ByUID finds a user by number.
func ByUID(ctx context.Context, uid int) (Account, error) {
	a, err := find(ctx, strconv.Itoa(uid), func(a Account) bool { return a.UID == uid })
	if err != nil {
		return a, err
	}
	return withGroups(ctx, a)
}

// NameOf is the name of a user, which is found without asking for the groups.
func NameOf(ctx context.Context, uid int) (string, error) {
	a, err := find(ctx, strconv.Itoa(uid), func(a Account) bool { return a.UID == uid })
	return a.Name, err
}

// ByName finds a user by name.
func ByName(ctx context.Context, name string) (Account, error) {
	if name == "" || strings.HasPrefix(name, "-") || strings.ContainsAny(name, ":\n\x00/") {
		return Account{}, ErrUnknown
	}
	a, err := find(ctx, name, func(a Account) bool { return a.Name == name })
	if err != nil {
		return a, err
	}
	return withGroups(ctx, a)
}

func find(ctx context.Context, key string, wanted func(Account) bool) (Account, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	file, err := os.ReadFile(passwdFile)
	if err != nil {
		file = nil // a machine may have none
	}
	a, ok := search(file, wanted)
	if !ok {
		out, err := ask(ctx, "getent", "passwd", key)
		if err != nil {
			return Account{}, fmt.Errorf("user %s: %w", key, err)
		}
		if a, ok = search(out, wanted); !ok {
			return Account{}, fmt.Errorf("user %s: %w", key, ErrUnknown)
		}
	}
	return a, nil
}

func withGroups(ctx context.Context, a Account) (Account, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var err error
	if a.Groups, err = groupsOf(ctx, a); err != nil {
		return Account{}, fmt.Errorf("groups of user %s: %w", a.Name, err)
	}
	return a, nil
}

// search finds the first user that is wanted in lines of passwd(5).
func search(lines []byte, wanted func(Account) bool) (Account, bool) {
	for line := range bytes.Lines(lines) {
		f := strings.Split(strings.TrimRight(string(line), "\r\n"), ":")
		if len(f) != 7 {
			continue
		}
		uid, err := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err != nil || err2 != nil || uid < 0 || gid < 0 || f[0] == "" {
			continue
		}
		if a := (Account{Name: f[0], UID: uid, GID: gid, Home: f[5], Shell: f[6]}); wanted(a) {
			return a, true
		}
	}
	return Account{}, false
}

// groupsOf asks id, for also users of /etc/passwd can be in groups of a directory.
func groupsOf(ctx context.Context, a Account) ([]int, error) {
	out, err := ask(ctx, "id", "-G", "--", a.Name)
	if err != nil {
		return nil, err
	}
	groups := []int{a.GID}
	for _, field := range strings.Fields(string(out)) {
		gid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("id -G says %q", field)
		}
		if gid != a.GID {
			groups = append(groups, gid)
		}
	}
	return groups, nil
}

// ask runs a program of the system. That getent finds nobody is told by its exit code 2.
func ask(ctx context.Context, program string, args ...string) ([]byte, error) {
	path := ""
	for _, dir := range searchPath {
		if info, err := os.Stat(dir + "/" + program); err == nil && info.Mode()&0o111 != 0 {
			path = dir + "/" + program
			break
		}
	}
	if path == "" {
		return nil, fmt.Errorf("%w, as far as /etc/passwd tells (the program %s, which would ask further, is not installed)", ErrUnknown, program)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir, cmd.WaitDelay = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}, "/", time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s does not answer: %w", path, ctx.Err())
	case errors.As(err, &exit) && program == "getent" && exit.ExitCode() == 2:
		return nil, ErrUnknown
	case errors.As(err, &exit):
		return nil, fmt.Errorf("%s: %w: %s", path, err, strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

package account

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const lines = "root:x:0:0:root:/root:/bin/bash\n\n# no user\nbroken:x:a:b\nada:x:1815:1815:Ada,,,:/home/ada:/bin/zsh\nsecond:x:1815:1:other name:/:\n"

// world gives the machine a user database: a file, and programs that know more.
func world(t *testing.T, getent, id string) {
	t.Helper()
	dir := t.TempDir()
	file, path := passwdFile, searchPath
	t.Cleanup(func() { passwdFile, searchPath = file, path })
	passwdFile, searchPath = filepath.Join(dir, "passwd"), []string{dir}
	if err := os.WriteFile(passwdFile, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{"getent": getent, "id": id} {
		if script == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUsersOfTheFile(t *testing.T) {
	world(t, "exit 2", `test "$1 $2 $3" = "-G -- ada" && echo 1815 27 100`)
	a, err := ByUID(t.Context(), 1815)
	if err != nil || a.Name != "ada" || a.GID != 1815 || a.Home != "/home/ada" || a.Shell != "/bin/zsh" || !slices.Equal(a.Groups, []int{1815, 27, 100}) {
		t.Errorf("%+v %v", a, err)
	}
	if b, err := ByName(t.Context(), "ada"); err != nil || b.UID != 1815 {
		t.Errorf("%+v %v", b, err)
	}
	for _, bad := range []string{"nobody-here", "", "-x", "a:b", "a\nb", "../ada"} {
		if _, err := ByName(t.Context(), bad); !errors.Is(err, ErrUnknown) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := ByUID(t.Context(), 4711); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
}

func TestUsersOfADirectory(t *testing.T) {
	world(t, `test "$1" = passwd && case $2 in 5000|eve) echo "eve:*:5000:100:Eve:/net/eve:/bin/sh";; *) exit 2;; esac`, "echo 100 5001")
	for _, find := range []func() (Account, error){
		func() (Account, error) { return ByUID(t.Context(), 5000) }, func() (Account, error) { return ByName(t.Context(), "eve") },
	} {
		a, err := find()
		if err != nil || a.Name != "eve" || a.UID != 5000 || !slices.Equal(a.Groups, []int{100, 5001}) {
			t.Errorf("%+v %v", a, err)
		}
	}
}

// A directory that cannot be asked is another thing than a user that is not known: nobody is taken for somebody else.
func TestDirectoryThatFails(t *testing.T) {
	world(t, "echo no route to the directory >&2; exit 1", "exit 1")
	if _, err := ByUID(t.Context(), 5000); err == nil || errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "no route") {
		t.Errorf("%v", err)
	}
	if _, err := ByUID(t.Context(), 1815); err == nil || !strings.Contains(err.Error(), "groups of user") {
		t.Errorf("without groups: %v", err)
	}
	world(t, "echo 'ada:x:0:0:::'", "echo 0") // it answers about another user
	if a, err := ByUID(t.Context(), 5000); !errors.Is(err, ErrUnknown) {
		t.Errorf("%+v %v", a, err)
	}
	world(t, "", "")
	if _, err := ByUID(t.Context(), 5000); !errors.Is(err, ErrUnknown) {
		t.Errorf("without programs: %v", err)
	}
}

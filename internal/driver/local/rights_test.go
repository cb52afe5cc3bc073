package local

import (
	"os"
	"path/filepath"
	"testing"

	"muster/engine"
	"muster/internal/driver"
)

// usersRights are those of an engine of an ordinary user: none. What bounds a program of root's is no right.
const usersRights = `Uid: 65534 65534 65534 65534
Gid: 65534 65534 65534 65534
Groups: 65533
CapInh: 0000000000000000
CapPrm: 0000000000000000
CapEff: 0000000000000000
CapBnd: 00000000800405fb
CapAmb: 0000000000000000
NoNewPrivs: 1
Seccomp: 2
`

// An ordinary user's engine has that user's rights alone, with the groups that it was given; a program of root's with
// set-user-ID, or one with capabilities, changes nothing.
func TestRightsOfUsersEngines(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: nobody else can make a program that is root's and set-user-ID")
	}
	_, _, w := openRoot(t)
	dir, err := os.MkdirTemp("/var/lib", "muster-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/bin/dash")
	if err != nil {
		t.Fatal(err)
	}
	suid := filepath.Join(dir, "suid")
	if err := os.WriteFile(suid, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(suid, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	const tell = `grep -E "^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)" /proc/self/status | tr -s "\t " " " | sed "s/ \$//"`
	for _, how := range []driver.Spec{
		w.engine(engine.RoleWorker, "/bin/sh", "-c", tell),
		w.engine(engine.RoleWorker, suid, "-c", tell),
		w.engine(engine.RoleWorker, suid, "-pc", tell), // keeps what set-user-ID gives
	} {
		how.UID, how.GID, how.Groups = 65534, 65534, []int{65533}
		w.start(how)
		w.await(driver.Exited, how.ID)
		if got := w.stdout(how.ID); got != usersRights {
			t.Errorf("%q:\n%swant\n%s", how.Argv[:2], got, usersRights)
		}
	}
}

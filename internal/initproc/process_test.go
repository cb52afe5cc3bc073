package initproc

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test's own program as a process that many are below, all of which it ends.
const underTest = "MUSTER_TEST_END_DESCENDANTS"

func TestMain(m *testing.M) {
	if os.Getenv(underTest) != "" {
		if err := endMany(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	manyChildren    = 600
	readsForOne     = 40 // a process has a folder with its threads, and for each of those a file
	deadline        = 30 * time.Second
	manyDescendants = `
i=0
while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done
sh -c 'i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done; echo ready; wait' &
wait`
)

// endMany ends descendants, of which some lost their parent and some did not, and says how often it read for that.
func endMany() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	shell := exec.Command("sh", "-c", manyDescendants)
	out, err := shell.StdoutPipe()
	if err != nil {
		return err
	}
	if err := shell.Start(); err != nil {
		return err
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		return err
	}
	before, err := reads()
	if err != nil {
		return err
	}
	EndDescendants(nil)
	after, err := reads()
	if err != nil {
		return err
	}
	if left := children(os.Getpid()); len(left) > 0 {
		return fmt.Errorf("children %v are left", left)
	}
	fmt.Println(after - before)
	return nil
}

// reads is how often this process has called read.
func reads() (n int, err error) {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "syscr: ")
	_, err = fmt.Sscan(rest, &n)
	return n, err
}

// Ending them takes a bounded effort for each, however many there are.
func TestEndDescendants(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), underTest+"=1")
	cmd.WaitDelay = deadline
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	var n int
	if _, err := fmt.Sscan(string(out), &n); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%d reads for %d processes", n, manyChildren)
	if n > manyChildren*readsForOne {
		t.Errorf("%d reads to end %d processes: more than %d for each", n, manyChildren, readsForOne)
	}
}

package store

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"

	"muster/engine"
)

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_WRITE"); dir != "" {
		writeForEver(dir)
	}
	os.Exit(m.Run())
}

// writeForEver records sessions and says the id of each one that is recorded.
func writeForEver(dir string) {
	s, err := Open(dir)
	for err == nil {
		id := engine.NewID()
		if err = s.AddSession(Session{ID: id}, nil); err == nil {
			os.Stdout.WriteString(string(id) + "\n")
		}
	}
	panic(err)
}

// kill -9 at any moment loses nothing that was recorded, and the file is whole and free.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	var told []string
	for round := range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "STORE_WRITE="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for i := 0; i < 20+7*round && lines.Scan(); i++ {
			told = append(told, lines.Text())
		}
		cmd.Process.Kill()
		for lines.Scan() {
			if id := lines.Text(); engine.ID(id).Valid() { // the last may be cut short
				told = append(told, id)
			}
		}
		cmd.Wait()
	}
	all, err := open(t, dir).Sessions()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, s := range all {
		there[string(s.ID)] = true
	}
	for _, id := range told {
		if !there[strings.TrimSpace(id)] {
			t.Errorf("%s was recorded and is not there", id)
		}
	}
	t.Logf("%d recorded, %d there", len(told), len(all))
}

package console

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

const killedWriter = "CONSOLE_TEST_KILLED_WRITER" // the folder; set in the child that TestKilledWriter starts

// writeUntilKilled appends numbered records to five engines and says each number on stdout once it is appended.
func writeUntilKilled(dir string) {
	w, err := OpenWriter(dir)
	for i := 0; err == nil; i++ {
		var l *EngineLog
		if l, err = w.Log(fmt.Sprintf("engine%d", i%5)); err != nil {
			break
		}
		payload := fmt.Appendf(make([]byte, i%7000), "%d", i)
		if err = l.Append(Stdout, 0, time.Now(), payload); err == nil {
			fmt.Println(i)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// The writer is killed while it appends, again and again: what it had appended is there, once and in order.
func TestKilledWriter(t *testing.T) {
	for round := range 5 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedWriter+"="+dir)
		cmd.Stderr = os.Stderr
		said, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, last := bufio.NewScanner(said), -1
		for lines.Scan() {
			if last++; last == 1000+round*37 {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		if last < 1000 {
			t.Fatalf("the writer ended after %d records", last)
		}
		check := func(n int, when string) int {
			all := readAll(t, session(t, dir, ""))
			if len(all) <= last || n >= 0 && len(all) != n {
				t.Fatalf("%s: %d records, said were %d", when, len(all), last+1)
			}
			for i, p := range all {
				if want := fmt.Appendf(make([]byte, i%7000), "%d", i); string(p.Payload) != string(want) {
					t.Fatalf("%s: record %d is %.50q", when, i, p.Payload)
				}
			}
			return len(all)
		}
		n := check(-1, "after the kill")
		w := openWriter(t, dir)
		if repaired := int(orderSize(w) / entrySize); repaired != n && repaired != n+1 {
			t.Fatalf("the repair made %d records of %d", repaired, n)
		}
		check(int(orderSize(w)/entrySize), "after the repair")
	}
}

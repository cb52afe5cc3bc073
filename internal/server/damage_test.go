package server

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muster/api"
	"muster/internal/console"
)

// A log that is damaged in its middle: each form of a stream has what is before it, tells of it, and ends properly.
func TestDamagedLog(t *testing.T) {
	m := &stub{}
	dir := damagedTape(t, m)
	_, base := start(t, m)
	for _, test := range []struct{ path, accept, text string }{
		{"/engines/wa1/log?", "", "line 0\nline 1\n"},
		{"/engines/wa1/log?stream=stdout", "", "line 0\nline 1\n"},
		{"/engines/wa1/log?follow=true", "", "line 0\nline 1\n"},
		{"/engines/wa1/log?tail=1", "", "line 1\n"},
		{"/engines/wa1/log?", "application/x-ndjson", "line 0\nline 1\n"},
		{"/engines/wa1/log?raw=true", "", "line 0\nline 1\n"},
		{"/sessions/self/console?", "", "line 0\nline 1\nline 3\nother\n"},
	} {
		resp := get(t, base+test.path, test.accept)
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%s: %v", test.path, err)
		}
		var text, told string
		switch {
		case test.accept != "":
			text = "line 0\nline 1\n"
			if !strings.Contains(string(body), `"text":"line 1\n"`) || strings.Contains(string(body), "line 2") {
				t.Errorf("%s: %s", test.path, body)
			}
			told = string(body)
		case strings.Contains(test.path, "raw"):
			text, told = string(body), resp.Trailer.Get(api.HeaderDamaged)
		default:
			frames := console.NewFrameReader(bytes.NewReader(body))
			for r, _, err := frames.Next(); err == nil; r, _, err = frames.Next() {
				if message, is := console.Damage(r); is {
					told += message
				} else {
					text += string(r.Payload)
				}
			}
		}
		if text != test.text || strings.Count(told, "11.log is damaged at byte ") != 1 || !strings.Contains(told, dir) {
			t.Errorf("%s %s: %q, told %q", test.path, test.accept, text, told)
		}
	}
}

// What an engine that ran has printed cannot be nothing.
func TestRemovedConsole(t *testing.T) {
	m := &stub{over: true}
	dir := damagedTape(t, m)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	_, base := start(t, m)
	for path, want := range map[string]string{
		"/engines/wa1/log?raw=true":    "the output of " + string(workerA) + " is not there any more: " + filepath.Join(dir, string(workerA)+".log"),
		"/sessions/self/console?":      "the session's output is not there any more: " + dir,
		"/sessions/self/console?x=yes": "",
	} {
		if m.over = want != ""; !m.over { // engines that never ran have printed nothing
			path = strings.TrimSuffix(path, "x=yes")
		}
		resp := get(t, base+path, "application/x-ndjson")
		body, err := io.ReadAll(resp.Body)
		if got := string(body) + resp.Trailer.Get(api.HeaderDamaged); err != nil || !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q %v", path, got, err)
		}
	}
}

// damagedTape is a console in which the third line of four of worker A is damaged; nobody writes to it any more.
func damagedTape(t *testing.T, m *stub) (dir string) {
	c := withTape(t, m)
	for i := range 4 {
		c.print(workerA, console.Stdout, fmt.Sprintf("line %d\n", i))
	}
	c.print(sessionA, console.Stdout, "other\n")
	close(m.done)
	dir = c.dir
	path := filepath.Join(dir, string(workerA)+".log")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte("line 2"))] ^= 0xff
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

package wire

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// FuzzMessages: every kind of message is read or refused; what was read says the same to the next reader.
func FuzzMessages(f *testing.F) {
	for _, m := range []any{
		Request{Seq: 1, Op: OpStart, Engine: "a", HasNet: true, Note: json.RawMessage(`{"a":1}`), Key: []byte{0, 255}, Size: &TerminalSize{}},
		Event{Seq: 1, Kind: EventExited, At: time.Unix(1, 2).UTC(), Exit: &Exit{Reason: "signal", Signal: 9, At: time.Unix(3, 4).UTC()}},
		Report{Started: true}, Report{Notice: "x"},
		EngineSpec{ID: "a", Argv: []string{"python3"}, Env: []string{"A=b"}, Files: map[string][]byte{"code.py": {0, 255}}, TimeLimit: time.Second},
		KeeperConfig{Version: Version, Session: "s", Network: "100.100.0.0/16"},
	} {
		b, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"exit":{"at":"x"},"files":{"a":"="},"seq":1e3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "message")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for _, fresh := range []func() any{
			func() any { return new(Request) }, func() any { return new(Event) }, func() any { return new(Report) },
			func() any { return new(Order) }, func() any { return new(EngineSpec) }, func() any { return new(KeeperConfig) },
		} {
			one, two := fresh(), fresh()
			if ReadMemoryFile(file, one) != nil {
				continue
			}
			memory, err := MemoryFile("again", one)
			if err != nil {
				continue // a time of the year 10000
			}
			err = ReadMemoryFile(memory, two)
			memory.Close()
			first, _ := json.Marshal(one)
			second, _ := json.Marshal(two)
			if err != nil || string(first) != string(second) || reflect.TypeOf(one) != reflect.TypeOf(two) {
				t.Fatalf("%q was read as %s, and then as %s, %v", b, first, second, err)
			}
		}
	})
}

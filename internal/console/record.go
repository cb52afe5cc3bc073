package console

import (
	"fmt"
	"time"
)

// Stream says where a record comes from. Values are on disk and on the wire: they never change their meaning.
type Stream uint8

const (
	Stdout  Stream = 1
	Stderr  Stream = 2
	Stdin   Stream = 3 // what was typed or fed to the engine
	Event   Stream = 4 // JSON about the engine, from us and not from it
	Display Stream = 5 // rich output of a kernel
)

var streamNames = [...]string{Stdout: "stdout", Stderr: "stderr", Stdin: "stdin", Event: "event", Display: "display"}

func (s Stream) valid() bool { return s >= Stdout && s <= Display }

// String is the stream's name: "stdout", "stderr", "stdin", "event" or "display".
func (s Stream) String() string {
	if !s.valid() {
		return fmt.Sprintf("stream(%d)", uint8(s))
	}
	return streamNames[s]
}

// ParseStream is the inverse of String.
func ParseStream(name string) (Stream, error) {
	for s := Stdout; s <= Display; s++ {
		if streamNames[s] == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("unknown console stream %q: use stdout, stderr, stdin, event or display", name)
}

// MaxPayload is the largest payload of one record.
const MaxPayload = 64 << 10

// Record is a piece of what one engine printed, or of what happened to it.
type Record struct {
	Engine  string
	Stream  Stream
	Flags   uint8 // kept and handed on; no meaning here
	Time    time.Time
	Payload []byte // at most MaxPayload bytes
}

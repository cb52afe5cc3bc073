package hub

import (
	"os"
	"strings"
	"testing"
	"unicode"
)

// A process names itself as it likes, also one of another user's, and the name is shown in a session's console.
func TestCommandIsPrintable(t *testing.T) {
	const file = "/proc/self/comm"
	before, err := os.ReadFile(file)
	must(t, err)
	defer os.WriteFile(file, before, 0)
	must(t, os.WriteFile(file, []byte("a\x1b]0;b\x07\nc\xffd"), 0))
	if name := commandOf(os.Getpid()); strings.ContainsFunc(name, unicode.IsControl) || !strings.HasPrefix(name, "a") || !strings.HasSuffix(name, "d") {
		t.Errorf("%q", name)
	}
}

package local

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"muster/internal/keeper/wire"
)

// One look is for all that are started right after it, and for nobody who may be to see what was changed since.
func TestLook(t *testing.T) {
	file := filepath.Join(t.TempDir(), "interpreter")
	write := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reads, spec := []string{file}, wire.EngineSpec{Visible: []string{"/"}}
	for _, c := range []struct {
		name   string
		change func(s *session, l *look)
		again  bool
	}{
		{"right after it", func(*session, *look) {}, false},
		{"later", func(_ *session, l *look) { l.begun = l.begun.Add(-lookLasts) }, true},
		{"an engine has ended before it", func(s *session, l *look) { s.stirs.ended = l.begun.Add(-time.Millisecond) }, false},
		{"an engine has ended since", func(s *session, l *look) { s.stirs.ended = time.Now() }, true},
		{"at other files", func(_ *session, l *look) { l.reads = nil }, true},
		{"with other eyes", func(_ *session, l *look) { l.at.UID = 1 }, true},
		{"that saw nothing", func(_ *session, l *look) { l.found = nil }, true},
	} {
		s := &session{driver: &Driver{}}
		write("one")
		before := s.find(t.Context(), reads, spec)
		l := s.beginLook(&slot{reads: reads, spec: spec})
		<-l.done
		write("another")
		l.begun = time.Now() // however slow this machine is
		c.change(s, l)
		got := s.looked(t.Context(), reads, spec, l)
		if got == nil {
			t.Fatalf("%s: nothing was found", c.name)
		}
		if again := !slices.Equal(got.reads, before.reads); again != c.again {
			t.Errorf("%s: looked again: %v, want %v", c.name, again, c.again)
		}
	}
}

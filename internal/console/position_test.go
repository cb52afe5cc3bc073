package console

import (
	"errors"
	"strings"
	"testing"
)

func TestPositions(t *testing.T) {
	for _, p := range []Position{"", "0", sessionPosition(0), sessionPosition(3200),
		enginePosition("a", 77), enginePosition("abcdefghijklmnop", maxOffset-1)} {
		kind, off, id, err := p.split()
		again := map[byte]Position{'s': sessionPosition(off), 'e': enginePosition(id, off)}[kind]
		if err != nil || kind != 0 && again != p {
			t.Errorf("%q: %q, %v", p, again, err)
		}
	}
	for _, bad := range []string{"1", "x", "s", "s1", "-1", "s00000000000G", "s000000000001", "s00000000002A", "s000000000020x",
		"e000000000020", "e000000000020-", "e000000000020-a/b", "x000000000020", " 0", strings.Repeat("0", 13)} {
		if _, _, _, err := Position(bad).split(); !errors.Is(err, ErrPosition) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestPositionsGrowAsStrings(t *testing.T) {
	last := Position("0")
	for off := int64(entrySize); off < 1<<47; off *= 3 {
		p := sessionPosition(off / entrySize * entrySize)
		if p <= last {
			t.Fatalf("%q follows %q", p, last)
		}
		last = p
	}
}

func TestPositionOfAnotherThing(t *testing.T) {
	dir := t.TempDir()
	w := openWriter(t, dir)
	mustAppend(t, engineLog(t, w, "a"), Stdout, at(1), "x")
	mustAppend(t, engineLog(t, w, "b"), Stdout, at(1), "x")
	r, _ := Open(dir)
	inSession := readAll(t, session(t, dir, ""))[0].pos
	inEngine := readAll(t, engine(t, dir, "a", ""))[0].pos
	for name, c := range map[string]struct {
		open func() (*Cursor, error)
		want string
	}{
		"engine's in the session":  {func() (*Cursor, error) { return r.Session(inEngine) }, "belongs to the log of engine a, not to the session"},
		"session's in an engine":   {func() (*Cursor, error) { return r.Engine("a", inSession) }, "belongs to the session"},
		"another engine's":         {func() (*Cursor, error) { return r.Engine("b", inEngine) }, "belongs to the log of engine a, not to that of b"},
		"beyond the session's end": {func() (*Cursor, error) { return r.Session(sessionPosition(9600)) }, "beyond the end"},
		"beyond the engine's end":  {func() (*Cursor, error) { return r.Engine("a", enginePosition("a", 26)) }, "beyond the end"},
		"of no engine":             {func() (*Cursor, error) { return r.Engine("c", enginePosition("c", 26)) }, "beyond the end"},
		"rubbish":                  {func() (*Cursor, error) { return r.Session("rubbish") }, `"rubbish"`},
	} {
		if _, err := c.open(); !errors.Is(err, ErrPosition) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

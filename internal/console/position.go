package console

import (
	"errors"
	"fmt"
	"strconv"
)

// Position is a place in a console, given by a Cursor: pass it to Session or Engine to go on after that record. It is
// opaque and grows (as a string too). "" and "0" are the beginning. A position in the session's merged order and one in
// an engine's own log are different things; each is refused where the other belongs.
type Position string

// ErrPosition is in the chain of every error about a position that cannot be used.
var ErrPosition = errors.New("invalid console position")

// The letter says what the position counts, twelve hexadecimal digits where: 's' bytes of the order file, 'e' bytes of an
// engine's log, and then "-" and the engine's id.
const positionDigits = 12

func sessionPosition(off int64) Position {
	return Position(appendPosition(make([]byte, 0, 1+positionDigits), 's', off))
}

func enginePosition(id string, off int64) Position {
	b := appendPosition(make([]byte, 0, 2+positionDigits+len(id)), 'e', off)
	return Position(append(append(b, '-'), id...))
}

func appendPosition(b []byte, kind byte, off int64) []byte {
	b = append(b, kind)
	for shift := (positionDigits - 1) * 4; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[off>>shift&15])
	}
	return b
}

// split returns kind 0 for the beginning, and ErrPosition for anything that no cursor can have given.
func (p Position) split() (kind byte, off int64, id string, err error) {
	if p == "" || p == "0" {
		return 0, 0, "", nil
	}
	bad := fmt.Errorf("%w %q: pass one that the console gave, or 0 for the beginning", ErrPosition, string(p))
	if len(p) < 1+positionDigits {
		return 0, 0, "", bad
	}
	digits, rest := string(p[1:1+positionDigits]), string(p[1+positionDigits:])
	for _, c := range []byte(digits) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return 0, 0, "", bad
		}
	}
	n, _ := strconv.ParseInt(digits, 16, 64) // twelve digits that were checked
	switch {
	case p[0] == 's' && rest == "" && n%entrySize == 0:
		return 's', n, "", nil
	case p[0] == 'e' && len(rest) > 1 && rest[0] == '-' && ValidID(rest[1:]):
		return 'e', n, rest[1:], nil
	}
	return 0, 0, "", bad
}

// inSession is the offset in the order file.
func (p Position) inSession() (int64, error) {
	kind, off, id, err := p.split()
	if err == nil && kind == 'e' {
		err = fmt.Errorf("%w %q: it belongs to the log of engine %s, not to the session", ErrPosition, string(p), id)
	}
	return off, err
}

// inEngine is the offset in the log of the engine.
func (p Position) inEngine(engine string) (int64, error) {
	kind, off, id, err := p.split()
	switch {
	case err != nil || kind == 0:
	case kind == 's':
		err = fmt.Errorf("%w %q: it belongs to the session, not to the log of engine %s", ErrPosition, string(p), engine)
	case id != engine:
		err = fmt.Errorf("%w %q: it belongs to the log of engine %s, not to that of %s", ErrPosition, string(p), id, engine)
	}
	return off, err
}

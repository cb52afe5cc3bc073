package engine

import (
	"errors"
	"os"
	"testing"
)

// A cause is told once and can be found.
func TestErrorsKeepTheirCause(t *testing.T) {
	told := Errorf(Invalid, "read it: %w", os.ErrNotExist)
	besides := &Error{Kind: Invalid, Message: "read it", Err: os.ErrNotExist}
	for _, e := range []*Error{told, besides, told.WithHint("look")} {
		if want := "read it: " + os.ErrNotExist.Error(); e.Error() != want || !errors.Is(e, os.ErrNotExist) {
			t.Errorf("%q, want %q; its cause is found: %v", e, want, errors.Is(e, os.ErrNotExist))
		}
	}
	if e := Errorf(NotFound, "no %d", 1); e.Error() != "no 1" || errors.Unwrap(e) != nil {
		t.Errorf("%q wraps %v", e, errors.Unwrap(e))
	}
}

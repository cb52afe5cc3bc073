package engine

import (
	"errors"
	"fmt"
)

// Kind is the class of an error: what a program decides on. The message is for people.
type Kind string

const (
	Invalid      Kind = "invalid"      // the request cannot be right: change it
	Unauthorized Kind = "unauthorized" // no token, or one that is not known
	NotFound     Kind = "not_found"    // there is no such thing, or it is not yours
	Conflict     Kind = "conflict"     // it is not possible in the present state
	NoCapacity   Kind = "no_capacity"  // it can never fit on this machine
	Unavailable  Kind = "unavailable"  // something that is needed is not there right now
	Internal     Kind = "internal"     // a mistake of ours
)

// Error is an error that people see: what went wrong, with the value, and what to do next.
type Error struct {
	Kind    Kind
	Message string
	Hint    string // what to do next; may be empty
	Err     error  // the cause, told after the message; may be nil
	cause   error  // one that the message tells already
}

func (e *Error) Error() string {
	s := e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error {
	if e.Err != nil {
		return e.Err
	}
	return e.cause
}

// Errorf makes an Error without a hint. %w wraps a cause as fmt.Errorf does.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), cause: errors.Unwrap(err)}
}

// WithHint returns e with the user's next step.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// KindOf returns the kind of the first Error in err's chain, Internal if there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// HintOf returns the hint of the first Error in err's chain that has one, or "".
func HintOf(err error) string {
	var e *Error
	for errors.As(err, &e) {
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

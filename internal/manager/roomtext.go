package manager

import (
	"fmt"
	"strings"

	"muster/engine"
)

// neverFits says why a request cannot fit on this machine even when nothing else runs, "" if it can. held is what its own
// session's engine keeps as long as the worker could wait.
func neverFits(want, held, all amount, hard bool) string {
	own := func(n bool, what string) string {
		if !n {
			return ""
		}
		return ", of which the session itself holds " + what
	}
	switch {
	case want.memory > all.memory-held.memory:
		return fmt.Sprintf("asks for %s, this machine has %s", gigabytes(want.memory), gigabytes(all.memory)) +
			own(held.memory > 0 && want.memory <= all.memory, gigabytes(held.memory))
	case want.gpus > all.gpus-held.gpus:
		return fmt.Sprintf("asks for %s, this machine has %d", count(want.gpus, "GPU"), all.gpus) +
			own(held.gpus > 0 && want.gpus <= all.gpus, fmt.Sprint(held.gpus))
	case hard && want.cpu > all.cpu-held.cpu:
		return fmt.Sprintf("asks for %s, this machine has %s", cores(coresOf(want.cpu)), number(coresOf(all.cpu))) +
			own(held.cpu > 0 && want.cpu <= all.cpu, number(coresOf(held.cpu)))
	}
	return ""
}

// shortage says what of a request is not free, "" if all of it is.
func shortage(want amount, s standing) string {
	var parts []string
	if want.memory > s.free.memory {
		parts = append(parts, fmt.Sprintf("%s memory: %s of %s is free", gigabytes(want.memory), freeGigabytes(s.free.memory), gigabytes(s.all.memory)))
	}
	if want.gpus > s.free.gpus {
		parts = append(parts, fmt.Sprintf("%s: %d of %d %s free", count(want.gpus, "GPU"), s.free.gpus, s.all.gpus, isAre(s.free.gpus)))
	}
	if s.hard && want.cpu > s.free.cpu {
		parts = append(parts, fmt.Sprintf("%s: %s of %s are free", cores(coresOf(want.cpu)), number(coresOf(max(s.free.cpu, 0))), number(coresOf(s.all.cpu))))
	}
	return strings.Join(parts, "; ")
}

// outlasts says what of a request sessions' own engines hold, "" if the ends of workers can make room for it.
func outlasts(want amount, s standing) string {
	var parts []string
	rest := s.all.minus(s.owned)
	if want.memory > rest.memory {
		parts = append(parts, fmt.Sprintf("%s memory, sessions themselves hold %s of %s", gigabytes(want.memory), gigabytes(s.owned.memory), gigabytes(s.all.memory)))
	}
	if want.gpus > rest.gpus {
		parts = append(parts, fmt.Sprintf("%s, sessions themselves hold %d of %d", count(want.gpus, "GPU"), s.owned.gpus, s.all.gpus))
	}
	if s.hard && want.cpu > rest.cpu {
		parts = append(parts, fmt.Sprintf("%s, sessions themselves hold %s of %s", cores(coresOf(want.cpu)), number(coresOf(s.owned.cpu)), number(coresOf(s.all.cpu))))
	}
	return strings.Join(parts, "; ")
}

// waitsFor says what a waiting request waits for.
func waitsFor(t *ticket, s standing) string {
	want := t.want
	if what := t.waitsInShare(); what != "" {
		return what
	}
	if what := outlasts(want, s); what != "" {
		return "waits for a session to end: asks for " + what
	}
	if what := shortage(want, s); what != "" {
		return "waits for " + what
	}
	if s.head != nil {
		if what := shortage(*s.head, s); what != "" {
			return "waits for its turn: the first in the queue waits for " + what
		}
	}
	return "waits for its turn"
}

// noRoom is the error for a session that asks for what is not free.
func noRoom(want amount, s standing) error {
	if never := neverFits(want, amount{}, s.all, s.hard); never != "" {
		return engine.Errorf(engine.NoCapacity, "the session %s", never).WithHint("ask for less")
	}
	return engine.Errorf(engine.Unavailable, "the session asks for %s", shortage(want, s)).
		WithHint("stop something that runs (muster ps), or ask for less")
}

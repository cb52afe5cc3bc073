//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const variable = "MUSTER_FAILPOINTS"

type point struct {
	pause time.Duration // 0: kill
	nth   int64         // 0: each time
	met   atomic.Int64
}

var points = read(os.Getenv(variable))

func read(text string) map[string]*point {
	all := map[string]*point{}
	for one := range strings.SplitSeq(text, ",") {
		name, action, ok := strings.Cut(strings.TrimSpace(one), "=")
		if !ok {
			continue
		}
		p := &point{}
		var err error
		if what, nth, counted := strings.Cut(action, "@"); counted {
			action = what
			p.nth, err = strconv.ParseInt(nth, 10, 64)
		}
		if pause, sleeps := strings.CutPrefix(action, "sleep:"); sleeps && err == nil {
			p.pause, err = time.ParseDuration(pause)
		} else if action != "kill" && err == nil {
			err = fmt.Errorf("unknown action %q", action)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %s: %v\n", variable, one, err)
			os.Exit(2)
		}
		all[name] = p
	}
	return all
}

// Here is a point.
func Here(name string) {
	p := points[name]
	if p == nil {
		return
	}
	if n := p.met.Add(1); p.nth != 0 && n != p.nth {
		return
	}
	if p.pause > 0 {
		time.Sleep(p.pause)
		return
	}
	fmt.Fprintf(os.Stderr, "killed at %q\n", name)
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	os.Exit(137) // the first process of its namespace cannot kill itself
}

// Env is what a child process needs to have the same points.
func Env() []string { return []string{variable + "=" + os.Getenv(variable)} }

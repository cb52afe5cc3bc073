// Package oom says who goes first when the memory of the whole machine is used up: engines. Then the kernel looks for the process
// that frees most, by its size and its oom_score_adj, a number from -1000 to 1000 that children inherit: a thousandth of the
// machine's memory is added to the size, or taken away, for each point. What holds sessions (server, keepers) is small and stays.
//
// The small processes use it: standard library only.
package oom

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	// protected is for server and keepers, where there is a right to it: as little as what the kernel spares a message bus.
	protected = -900
	// offered is for engines: an engine goes before whatever of the rest of the machine has half its memory less.
	offered = 500
	most    = 1000
)

const file = "/proc/self/oom_score_adj"

// Protect asks the kernel to spare the calling process, and what it starts. That takes CAP_SYS_RESOURCE, which root has outside of
// containers; without it, and where the process is better off already, nothing changes: what matters is that engines are offered.
func Protect() {
	if now, err := read(); err == nil && now > protected {
		write(protected)
	}
}

// Offer makes the calling process, and what it starts, go before what started it.
func Offer() error {
	now, err := read()
	if err != nil {
		return err
	}
	return write(offer(now))
}

// offer keeps a distance to those who were offered already: a server that is a container's own, or another's engine.
func offer(now int) int { return max(offered, min(now+100, most)) }

// Kills is how many processes of this machine the kernel has killed for want of memory, or at a limit, since it runs; 0 where it
// does not tell.
func Kills() int64 {
	text, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\noom_kill ")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.ParseInt(line, 10, 64)
	return n
}

func read() (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func write(value int) error {
	if err := os.WriteFile(file, []byte(strconv.Itoa(value)), 0); err != nil {
		return fmt.Errorf("offer it to the kernel: %w", err)
	}
	return nil
}

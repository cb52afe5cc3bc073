// Package pidfd waits for the end of a process by a descriptor that means this process alone, whoever gets its number later.
// Linux mechanics only; everybody may import it.
package pidfd

import (
	"time"

	"golang.org/x/sys/unix"
)

// Ended waits until the process of a pidfd has ended, at most for a time (0: it only looks; less: without limit), and reports
// whether it has. An interrupted call says nothing of the process: it is made again. An error that should not be, such as a
// descriptor that is none, counts as its end: what depends on a process must not outlive it unnoticed.
func Ended(fd int, atMost time.Duration) bool {
	until := time.Now().Add(atMost)
	for {
		wait := -1
		if atMost >= 0 {
			wait = int(max(0, time.Until(until)+time.Millisecond-1) / time.Millisecond)
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, wait)
		if err != unix.EINTR {
			return err != nil || n > 0
		}
	}
}

// Package slice says for how long a thread may run before it is another's turn. Linux lets who asks for a short one run as soon as it is
// woken, before who has a longer one, and not sooner again than its share allows (since 6.12: kernel/sched/fair.c, PREEMPT_SHORT; before,
// all have the same). Keepers and inits wake for a moment to pass something on: without that they wait, for milliseconds, until the
// worker that has just written has had its slice, because a writer's processor is where Linux wakes the reader of a pipe.
//
// The small processes use it: standard library and x/sys only.
package slice

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// short is the least that Linux takes (kernel/sched/syscalls.c).
const short = 100 * time.Microsecond

// resetOnFork is SCHED_FLAG_RESET_ON_FORK of sched_setattr(2).
const resetOnFork = 1

// Shorten gives this process's threads, and what they start, short slices. Where that cannot be they keep theirs: all is late then, and
// nothing is wrong.
func Shorten() {
	set(0, 0)
	if self, err := os.Readlink("/proc/self"); err != nil || self != fmt.Sprint(os.Getpid()) {
		return // another process namespace's
	}
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			set(tid, 0)
		}
	}
}

// UsualForChildren gives processes that the calling thread starts from now on the usual slice. The caller has locked its goroutine to it.
func UsualForChildren() { set(0, resetOnFork) }

// set shortens a thread's slice, 0 being the caller's, and leaves its policy and niceness as they are. Who has a negative niceness goes first
// anyway, and resetOnFork would take that from its children.
func set(tid int, flags uint64) {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil || attr.Nice < 0 || attr.Policy != unix.SCHED_NORMAL && attr.Policy != unix.SCHED_BATCH {
		return
	}
	attr.Size, attr.Runtime = unix.SizeofSchedAttr, uint64(short)
	attr.Flags |= flags
	unix.SchedSetAttr(tid, attr, 0)
}

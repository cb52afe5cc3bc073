// Package rights lets a process of root's look at files with another user's rights: what that user may not see does not exist
// for it, whatever links lead where. The server asks it before it follows a path that a user named, and init before it opens
// what an engine is to see. Linux mechanics only, standard library and x/sys; everybody may import it.
//
// Ideas. Rights belong to threads: the work runs on one of its own, which is thrown away with its rights. The thread takes the
// user's identity for files only (fsuid): were its own user another, that user could end the whole process by a signal to the
// thread. And it has no capability at all, for root's, as that to trace other processes, open the links in /proc that lead
// around all permissions.
package rights

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// User is whose rights are taken.
type User struct {
	UID, GID int
	Groups   []int
}

// atOnce is how many threads one user's requests may hold: a file system of the user's own, or one that hangs, can keep each for
// as long as it likes.
const atOnce = 16

// Takers bounds the threads of each user. The zero Takers is ready for use.
type Takers struct {
	mu sync.Mutex
	of map[int]*taker
}

type taker struct {
	slots chan struct{}
	users int
}

// As runs do with a user's rights to files, and returns when it has ended: on another thread than the caller's, to which nothing
// is done. It waits, until ctx ends, while that user has too many at work. A panic of do is the caller's.
func (t *Takers) As(ctx context.Context, u User, do func()) error {
	leave, err := t.enter(ctx, u.UID)
	if err != nil {
		return err
	}
	defer leave()
	return As(u, do)
}

func (t *Takers) enter(ctx context.Context, uid int) (leave func(), err error) {
	t.mu.Lock()
	if t.of == nil {
		t.of = map[int]*taker{}
	}
	mine := t.of[uid]
	if mine == nil {
		mine = &taker{slots: make(chan struct{}, atOnce)}
		t.of[uid] = mine
	}
	mine.users++
	t.mu.Unlock()
	forget := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(t.of, uid)
		}
	}
	select {
	case mine.slots <- struct{}{}:
		return func() { <-mine.slots; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, context.Cause(ctx)
	}
}

// As is Takers.As without bound.
func As(u User, do func()) error {
	type outcome struct {
		err   error
		panic any
	}
	done := make(chan outcome, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine. New threads are not made from a locked one, so that none inherits
		// what this one has become.
		runtime.LockOSThread()
		var o outcome
		defer func() {
			o.panic = recover()
			done <- o
		}()
		if o.err = take(u); o.err == nil {
			do()
		}
	}()
	o := <-done
	if o.panic != nil {
		panic(o.panic)
	}
	return o.err
}

// take gives the calling thread the user's rights to files. The calls are made raw, for the wrappers of package syscall change
// all threads.
func take(u User) error {
	groups := make([]uint32, len(u.Groups))
	for i, g := range u.Groups {
		groups[i] = uint32(g)
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
	if errno != 0 {
		return fmt.Errorf("take the groups of user %d: %w", u.UID, errno)
	}
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(u.GID), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(u.UID), 0, 0)
	// They tell no errors; asked for what cannot be, they tell what is.
	const none = ^uintptr(0)
	gid, _, _ := unix.RawSyscall(unix.SYS_SETFSGID, none, 0, 0)
	uid, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, none, 0, 0)
	if int(gid) != u.GID || int(uid) != u.UID {
		return fmt.Errorf("take the rights of user %d: the kernel refuses", u.UID)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var nothing [2]unix.CapUserData
	_, _, errno = unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&nothing)), 0)
	if errno != 0 {
		return errors.Join(errors.New("give up the rights of root"), errno)
	}
	return nil
}

package console

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// Twenty engines append, each from two goroutines as stdout and stderr do, while followers read: each follower sees
// every record exactly once, each stream's in order, and all of them the same order.
func TestFollowWhileTwentyAppend(t *testing.T) {
	const engines, records, followers = 20, 300, 3
	dir := t.TempDir()
	w := openWriter(t, dir)
	bell, done := NewBell(), make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var appending, following sync.WaitGroup
	orders := make([][]string, followers)
	for f := range followers {
		c := session(t, dir, "")
		following.Go(func() {
			err := Follow(ctx, c, bell, done, func(r Record, _ Position) error {
				orders[f] = append(orders[f], fmt.Sprintf("%s %s %s", r.Engine, r.Stream, r.Payload))
				return nil
			}, nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	ofOne, one := 0, engine(t, dir, "engine0", "")
	following.Go(func() {
		if err := Follow(ctx, one, bell, done, func(Record, Position) error { ofOne++; return nil }, nil); err != nil {
			t.Error(err)
		}
	})
	for e := range engines {
		l := engineLog(t, w, fmt.Sprintf("engine%d", e))
		for _, stream := range []Stream{Stdout, Stderr} {
			appending.Go(func() {
				for i := range records {
					buf := fmt.Appendf(make([]byte, HeaderSize), "%d", i)
					if err := l.AppendBuffer(stream, 0, time.Now(), buf); err != nil {
						t.Error(err)
					}
					bell.Ring()
					if i%100 == 0 {
						w.Sync()
					}
				}
			})
		}
	}
	appending.Wait()
	close(done)
	following.Wait()
	if ofOne != 2*records {
		t.Errorf("the follower of one engine saw %d records", ofOne)
	}
	next := map[string]int{}
	for i, got := range orders[0] {
		var id, stream string
		var n int
		fmt.Sscan(got, &id, &stream, &n)
		if next[id+stream] != n {
			t.Fatalf("%s %s: %d where %d should be", id, stream, n, next[id+stream])
		}
		next[id+stream]++
		for f := range followers {
			if len(orders[f]) != engines*2*records || orders[f][i] != got {
				t.Fatalf("follower %d saw another order, or %d records", f, len(orders[f]))
			}
		}
	}
}

func TestFollowEnds(t *testing.T) {
	dir := t.TempDir()
	l := engineLog(t, openWriter(t, dir), "a")
	mustAppend(t, l, Stdout, at(1), "x")
	mine := errors.New("enough")
	err := Follow(t.Context(), session(t, dir, ""), NewBell(), nil, func(Record, Position) error { return mine }, nil)
	if err != mine {
		t.Errorf("got %v, want fn's error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = Follow(ctx, session(t, dir, ""), NewBell(), nil, func(Record, Position) error { cancel(); return nil }, nil)
	if err != context.Canceled {
		t.Errorf("got %v, want context.Canceled", err)
	}
	done := make(chan struct{})
	close(done)
	n := 0
	err = Follow(t.Context(), session(t, dir, ""), nil, done, func(Record, Position) error { n++; return nil }, nil)
	if err != nil || n != 1 {
		t.Errorf("%d records, %v", n, err)
	}
}

// Records appended after the last ring, but before done, are seen.
func TestFollowReadsToTheEndAfterDone(t *testing.T) {
	dir := t.TempDir()
	l := engineLog(t, openWriter(t, dir), "a")
	mustAppend(t, l, Stdout, at(1), "first")
	done := make(chan struct{})
	var got []string
	err := Follow(t.Context(), engine(t, dir, "a", ""), NewBell(), done, func(r Record, _ Position) error {
		got = append(got, string(r.Payload))
		if len(got) == 1 {
			mustAppend(t, l, Stdout, at(1), "last")
			close(done)
		}
		return nil
	}, nil)
	if err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestBell(t *testing.T) {
	var b Bell
	b.Ring()
	one, two := b.Chan(), b.Chan()
	select {
	case <-one:
		t.Fatal("a ring from before Chan was heard")
	default:
	}
	b.Ring()
	for _, ch := range []<-chan struct{}{one, two} {
		select {
		case <-ch:
		default:
			t.Fatal("a ring was not heard")
		}
	}
}

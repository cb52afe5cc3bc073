package manager

import (
	"fmt"
	"testing"
)

// In hard mode whole cores are pinned, evenly, and given back; fractions and the whole machine are not.
func TestWholeCoresArePinnedInHardMode(t *testing.T) {
	r := newRoom(Capacity{MemoryBytes: 1e9, CPU: 4, Cores: []int{0, 1, 4, 5}}, true)
	ask := func(cores float64) *ticket { return &ticket{want: amount{1, coreUnits(cores), 0}} }
	a, b, c, d := ask(2), ask(1), ask(0.5), ask(1)
	for _, x := range []*ticket{a, b, c} {
		if _, ok := r.take(x); !ok {
			t.Fatal("no room")
		}
	}
	if fmt.Sprint(a.cores, b.cores, c.cores) != "[0 1] [4] []" {
		t.Errorf("pinned to %v %v %v", a.cores, b.cores, c.cores)
	}
	r.release([]*ticket{a, b, c})
	if _, ok := r.take(d); !ok || fmt.Sprint(d.cores, r.pinned) != "[0] [1 0 0 0]" {
		t.Errorf("after giving back: %v, %v", d.cores, r.pinned)
	}
	r.release([]*ticket{d})
	all := ask(4)
	if _, ok := r.take(all); !ok || all.cores != nil {
		t.Errorf("the whole machine is pinned to %v", all.cores)
	}
}

// What has given its room back already is counted no more: it may end just when it is taken up again.
func TestWhatHasEndedIsNotCountedAgain(t *testing.T) {
	r := newRoom(Capacity{MemoryBytes: 1e9, CPU: 4}, false)
	s := &session{project: "/p"}
	w := &worker{session: s, batch: &batch{memory: 1}}
	w.ticket = ticket{want: amount{1, 0, 0}, worker: w}
	s.main = &worker{session: s}
	r.release([]*ticket{&w.ticket})
	r.recount([]*ticket{&w.ticket})
	if len(r.projects) != 0 {
		t.Errorf("%+v", r.projects)
	}
}

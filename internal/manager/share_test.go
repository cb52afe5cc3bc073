package manager

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"muster/internal/quota"
)

// shareModel is what a room with quotas promises, counted anew from who is admitted.
type shareModel struct {
	r       *room
	users   [][]*share // of each session: its user's, its own
	tickets []*ticket  // in the order of entering; those that were released are gone
}

func (m *shareModel) admitted() (list []*ticket) {
	for _, t := range m.tickets {
		if t.state == ticketAdmitted {
			list = append(list, t)
		}
	}
	return list
}

func (m *shareModel) check(t *rapid.T) {
	var sum amount
	used := map[*share]shareSize{}
	for _, a := range m.admitted() {
		sum = sum.plus(a.want)
		for _, s := range a.shares {
			used[s] = used[s].plus(a.counts())
		}
	}
	if sum != m.r.used || !sum.fits(m.r.all, m.r.hard) {
		t.Fatalf("the room says %+v, in use is %+v of %+v", m.r.used, sum, m.r.all)
	}
	for _, of := range m.users {
		for _, s := range of {
			if used[s] != s.used || s.now() != s.used || !used[s].within(s.most) {
				t.Fatalf("%s: counted %+v, in use %+v, at most %+v", s.whose, s.used, used[s], s.most)
			}
		}
	}
	// Whoever waits has a reason.
	for i, w := range m.tickets {
		if w.state != ticketWaits {
			continue
		}
		reason := len(w.overLocked()) > 0 || !w.want.fits(m.r.all.minus(m.r.used), m.r.hard)
		for _, before := range m.tickets[:i] {
			if before.state != ticketWaits {
				continue
			}
			over := before.overLocked()
			shared := slices.ContainsFunc(over, func(s *share) bool { return slices.Contains(w.shares, s) })
			reason = reason || shared || len(over) == 0 // the machine has no room for it, or its own turn has not come
		}
		if !reason {
			t.Fatalf("%+v of %s waits for nothing", w.want, w.shares[0].whose)
		}
	}
}

// Never over a quota, nobody waits for nothing, nobody waits because of another user's quota, and all comes back.
func TestSharesAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hard := rapid.Bool().Draw(t, "hard")
		m := &shareModel{r: newRoom(Capacity{MemoryBytes: rapid.Int64Range(5, 30).Draw(t, "memory") * 1e9, CPU: 8}, hard)}
		limit := rapid.Custom(func(t *rapid.T) quota.Limits {
			return quota.Limits{
				Workers: rapid.IntRange(1, 6).Draw(t, "workers"), Memory: float64(rapid.IntRange(1, 12).Draw(t, "memory")), CPU: float64(rapid.IntRange(1, 8).Draw(t, "cpu")),
			}
		})
		for u := range 3 {
			of := newShare(fmt.Sprint("user ", u), limit.Draw(t, "of a user"))
			for range 2 {
				m.users = append(m.users, []*share{of, newShare("a session", limit.Draw(t, "of a session"))})
			}
		}
		draw := func(t *rapid.T) *ticket {
			s := rapid.IntRange(0, len(m.users)-1).Draw(t, "session")
			return &ticket{shares: m.users[s], want: amount{
				memory: rapid.Int64Range(1, 8).Draw(t, "memory") * 1e9, cpu: coreUnits(float64(rapid.IntRange(1, 4).Draw(t, "cpu"))),
			}}
		}
		fitsAlone := func(k *ticket) bool {
			for _, s := range k.shares {
				if !k.counts().within(s.most) {
					return false
				}
			}
			return k.want.fits(m.r.all, hard)
		}
		t.Repeat(map[string]func(*rapid.T){
			"": m.check,
			"launch": func(t *rapid.T) {
				var ts []*ticket
				for range rapid.IntRange(1, 4).Draw(t, "n") {
					if k := draw(t); fitsAlone(k) { // others are refused before they get here
						ts = append(ts, k)
					}
				}
				m.tickets = append(m.tickets, ts...)
				m.r.enter(ts)
			},
			"open": func(t *rapid.T) {
				k := draw(t)
				if _, ok := m.r.take(k); ok {
					m.tickets = append(m.tickets, k)
				} else if fitsAlone(k) && len(k.overLocked()) == 0 && k.want.fits(m.r.all.minus(m.r.used), hard) {
					t.Fatal("a session was refused that has room")
				}
			},
			"end": func(t *rapid.T) {
				if len(m.tickets) == 0 {
					t.Skip("nothing is there")
				}
				i := rapid.IntRange(0, len(m.tickets)-1).Draw(t, "which")
				m.r.release(m.tickets[i : i+1])
				m.tickets = slices.Delete(slices.Clone(m.tickets), i, i+1)
			},
		})
		// When all that is admitted has ended, again and again, nobody waits: whoever fits alone gets his turn.
		for len(m.tickets) > 0 {
			ended := m.admitted()
			if len(ended) == 0 {
				t.Fatalf("%d wait for ever", len(m.tickets))
			}
			m.tickets = slices.DeleteFunc(m.tickets, func(k *ticket) bool { return slices.Contains(ended, k) })
			m.r.release(ended)
			m.check(t)
		}
		for _, of := range m.users {
			for _, s := range of {
				if s.used != (shareSize{}) || s.owned != (amount{}) {
					t.Fatalf("%s keeps %+v, %+v", s.whose, s.used, s.owned)
				}
			}
		}
	})
}

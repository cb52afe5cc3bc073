package manager

import (
	"fmt"
	"strings"

	"muster/engine"
	"muster/internal/project"
)

// holding is what the engines of a project that have not ended have or wait for, over all of its sessions.
type holding struct {
	amount
	engines int
	workers int
}

// count adds engines of one project to what it holds, all of them or none; release takes them back. Over the quota is
// refused, and not made to wait: it is the project's own word, and no other's end makes room.
func (r *room) count(q bounds, ts []*ticket) error {
	if len(ts) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	folder := ts[0].worker.session.holds()
	h := r.projects[folder]
	for _, t := range ts {
		h.engines++
		if t.worker != t.worker.session.main {
			h.workers++
		}
		h.amount = h.plus(t.want)
	}
	if over := q.over(h); over != "" {
		return engine.Errorf(engine.NoCapacity, "the project would have %s", over).
			WithHint("stop some of its engines, or change limits in %s", project.FileName)
	}
	r.projects[folder] = h
	for _, t := range ts {
		t.counted = true
	}
	return nil
}

// holds is the key under which a project's engines are counted: for each user apart, for who can read a folder could use its
// limits up.
func (s *session) holds() string { return s.user().Name + "\x00" + s.project }

// countLocked adds an engine without looking at the quota.
func (r *room) countLocked(t *ticket) {
	folder := t.worker.session.holds()
	h := r.projects[folder]
	h.engines++
	if t.worker != t.worker.session.main {
		h.workers++
	}
	h.amount = h.plus(t.want)
	t.counted = true
	r.projects[folder] = h
}

// uncountLocked takes an engine back that count has added.
func (r *room) uncountLocked(t *ticket) {
	if !t.counted {
		return
	}
	t.counted = false
	folder := t.worker.session.holds()
	h := r.projects[folder]
	h.amount = h.minus(t.want)
	if t.worker != t.worker.session.main {
		h.workers--
	}
	if h.engines--; h.engines == 0 {
		delete(r.projects, folder)
		return
	}
	r.projects[folder] = h
}

// over says in what a project would be over its quota, "" if it is not.
func (q bounds) over(h holding) string {
	var parts []string
	if q.workers > 0 && h.workers > q.workers {
		parts = append(parts, fmt.Sprintf("%s, its settings allow %d", count(h.workers, "worker"), q.workers))
	}
	if q.memory > 0 && h.memory > q.memory {
		parts = append(parts, fmt.Sprintf("%s of memory, its settings allow %s", gigabytes(h.memory), gigabytes(q.memory)))
	}
	if q.cpu > 0 && h.cpu > q.cpu {
		parts = append(parts, fmt.Sprintf("%s, its settings allow %s", cores(coresOf(h.cpu)), number(coresOf(q.cpu))))
	}
	if q.gpus > 0 && h.gpus > q.gpus {
		parts = append(parts, fmt.Sprintf("%s, its settings allow %d", count(h.gpus, "GPU"), q.gpus))
	}
	return strings.Join(parts, "; ")
}

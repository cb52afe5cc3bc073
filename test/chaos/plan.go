package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
)

// plan says what the workers of one launch do. The seed decides, before they begin.
type plan struct {
	Name   string  `json:"name"`
	N      int     `json:"n"`      // workers launched at once
	Kind   string  `json:"kind"`   // chatty, deaf (to SIGTERM), forker (leaves a child of a child behind)
	Rate   float64 `json:"rate"`   // lines a second
	Burst  int     `json:"burst"`  // lines in a row
	Errors int     `json:"errors"` // each so many lines one goes to stderr; 0: none
	Pad    int     `json:"pad"`    // bytes of a line that say nothing
	Long   int     `json:"long"`   // the same of a long line, one in 23
	Lines  int     `json:"lines"`  // ends after so many; 0: never by itself
	Code   int     `json:"code"`   // exit code of an end by itself
}

// plansFor makes the plans of one session, more than it will need.
func plansFor(r *rand.Rand, session string, n int) []plan {
	kinds := []string{"chatty", "chatty", "chatty", "deaf", "forker"}
	plans := make([]plan, n)
	for i := range plans {
		p := plan{
			Name: fmt.Sprintf("%s-%d", session, i), N: 1 + r.Intn(4), Kind: kinds[r.Intn(len(kinds))], Rate: []float64{1, 2, 3, 10}[r.Intn(4)],
			Burst: []int{1, 1, 1, 50}[r.Intn(4)], Errors: []int{0, 3, 10}[r.Intn(3)], Pad: r.Intn(120), Long: 1000 * r.Intn(7),
		}
		if r.Intn(3) == 0 {
			p.Lines, p.Code = 20+r.Intn(150), []int{0, 0, 1, 3, 42, 255}[r.Intn(6)]
			p.Burst = 1
		}
		plans[i] = p
	}
	return plans
}

func (w *world) writePlans(session string, plans []plan) error {
	b, err := json.Marshal(plans)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.project, "plans", session+".json"), b, 0o600)
}

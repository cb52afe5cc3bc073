package main

import (
	"encoding/json"
	"os"
	"time"
)

// write leaves what -adopt measured for programs, such as make bench.
func (r report) write(name string) error {
	milliseconds := func(what string) []float64 {
		all := []float64{}
		for _, d := range r.times[what] {
			all = append(all, float64(d)/float64(time.Millisecond))
		}
		return all
	}
	b, err := json.Marshal(map[string]any{
		"answers_ms": milliseconds(answersAgain), "adopted_ms": milliseconds(allListed), "lines": r.lines, "violations": append([]string{}, r.violations...),
	})
	if err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o600)
}

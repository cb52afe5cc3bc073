package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// table prints what was done, how often, and how long each kind of ending took.
func (c *chaos) table() {
	out := c.o.log
	fmt.Fprintf(out, "\nseed %d: %d faults in %v against %d workers\n\n%-58s %7s\n", c.o.seed, c.made(), time.Since(c.started).Round(time.Second),
		c.o.workers, "fault", "count")
	for _, name := range sorted(c.counts) {
		fmt.Fprintf(out, "%-58s %7d\n", name, c.counts[name])
	}
	fmt.Fprintf(out, "%-58s %7d\n", "together", c.made())
	c.timesTable()
	fmt.Fprintf(out, "\n%d sessions, %d workers launched, %d launches refused (full disk), %d servers started\n", len(c.crew.sessions), c.launches,
		c.refused, c.operator.starts)
	fmt.Fprintf(out, "%d lines in the logs, each once and in order; %d of them were shown by commands; followers resumed %d times\n",
		c.lines, c.shown, c.resumed)
	fmt.Fprint(out, "ends: ")
	for _, reason := range sorted(c.ends) {
		fmt.Fprintf(out, "%s %d  ", reason, c.ends[reason])
	}
	fmt.Fprintf(out, "\n\n")
	c.verdict()
}

// timesTable prints what was measured.
func (c *chaos) timesTable() {
	out := c.o.log
	fmt.Fprintf(out, "\n%-76s %6s %9s %9s %9s\n", "from … to", "count", "p50", "p99", "max")
	for _, what := range sorted(c.times) {
		all := c.times[what]
		slices.Sort(all)
		fmt.Fprintf(out, "%-76s %6d %9s %9s %9s\n", what, len(all), show(quantile(all, 0.5)), show(quantile(all, 0.99)), show(all[len(all)-1]))
	}
	fmt.Fprintln(out)
}

func (c *chaos) verdict() {
	out := c.o.log
	if len(c.violations) == 0 {
		fmt.Fprintln(out, "no promise was broken")
		return
	}
	fmt.Fprintf(out, "%d times a promise was broken:\n%s\nfiles are left in %s\n", len(c.violations), strings.Join(c.violations, "\n"), c.root)
}

func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// quantile of sorted values: the smallest that so many are not above.
func quantile(all []time.Duration, q float64) time.Duration {
	return all[min(len(all)-1, int(q*float64(len(all))))]
}

func show(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/1e6) }

func splitLines(s string) []string { return strings.Split(s, "\n") }

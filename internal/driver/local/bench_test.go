package local

import (
	"slices"
	"testing"
	"time"

	"muster/engine"
	"muster/internal/driver"
)

// BenchmarkColdStart starts one engine at a time, with a pause before each: without pauses the kernel's slow path of
// entering a cgroup of version 1 does not show. The metrics are medians, in microseconds: what each step of the server
// took, the keeper until it answered, and from the call of Start until the interpreter was observed to run.
func BenchmarkColdStart(b *testing.B) {
	for _, name := range rungs() {
		b.Run(string(name), func(b *testing.B) {
			r := newRung(b, name)
			d := r.driver(b)
			b.Cleanup(func() { d.Close() })
			w := r.open(b, d)
			took := map[string][]time.Duration{}
			var last time.Time
			var step string
			d.Driver.fail = func(next string, _ *attempt) error {
				now := time.Now()
				took[step] = append(took[step], now.Sub(last))
				last, step = now, next
				return nil
			}
			for b.Loop() {
				time.Sleep(100 * time.Millisecond)
				spec := w.engine(engine.RoleWorker, "/bin/true")
				begin := time.Now()
				last, step = begin, "begin"
				w.start(spec)
				took[step] = append(took[step], time.Since(last))
				o := w.await(driver.Started, spec.ID)
				took["running"] = append(took["running"], o.At.Sub(begin))
				w.await(driver.Exited, spec.ID)
				took["exited"] = append(took["exited"], time.Since(begin))
			}
			b.ReportMetric(0, "ns/op")
			for name, times := range took {
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2].Microseconds()), name+"-µs")
			}
		})
	}
}

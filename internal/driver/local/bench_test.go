package local

import (
	"slices"
	"testing"
	"time"

	"muster/engine"
	"muster/internal/driver"
	"muster/internal/driver/drivertest"
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

// BenchmarkAheadStart gives an engine that was started ahead its work, one after the other: from Start until its end was observed.
// What starts another one in its place counts for the profile, not for the time.
func BenchmarkAheadStart(b *testing.B) {
	kind := driver.Kind{Name: "of the benchmark"}
	interpreter := python(b)
	for _, name := range rungs() {
		b.Run(string(name), func(b *testing.B) {
			r := newRung(b, name)
			d := r.driver(b)
			b.Cleanup(func() { d.Close() })
			w := r.open(b, d)
			warmer := w.s.(driver.Warmer)
			spec := w.engine(engine.RoleWorker, drivertest.PythonAhead(interpreter)...)
			w.s.Release(spec.Address)
			spec.Private, spec.Work = drivertest.Private, &driver.Work{}
			at := func(seat driver.Seat) driver.Spec {
				mine := spec
				mine.ID, mine.Address, mine.Master, mine.Hostname = seat.ID, seat.Address, seat.Address, string(seat.ID)
				return mine
			}
			for b.Loop() {
				b.StopTimer()
				warmer.Warm(kind, 1, at)
				for warmer.Waiting(kind) == 0 {
					time.Sleep(time.Millisecond)
				}
				work := at(warmer.Take(kind, 1)[0])
				work.Work = &driver.Work{Bytes: []byte("1\x00/bin/true\x00")}
				b.StartTimer()
				w.start(work)
				w.await(driver.Exited, work.ID)
			}
		})
	}
}

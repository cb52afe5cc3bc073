package keeper

import (
	"bytes"
	"testing"

	"muster/internal/console"
)

// benchLine is what an engine writes at once, as an unbuffered print does; benchLines are in one console.
var benchLine = append(bytes.Repeat([]byte("x"), 79), '\n')

const benchLines = 20_000

// BenchmarkOutput carries lines from an engine's pipe into its log and the order file.
func BenchmarkOutput(b *testing.B) {
	b.SetBytes(benchLines * int64(len(benchLine)))
	b.ReportAllocs()
	for b.Loop() {
		w, err := console.OpenWriter(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		e := &engine{keeper: &Keeper{console: w}, id: "a234567890123456"}
		if e.log, err = w.Log(e.id); err != nil {
			b.Fatal(err)
		}
		p, in, err := newPump(e, console.Stdout, nil)
		if err != nil {
			b.Fatal(err)
		}
		go p.run()
		for range benchLines {
			if _, err := in.Write(benchLine); err != nil {
				b.Fatal(err)
			}
		}
		in.Close()
		<-p.done
		e.log.Close()
		w.Close()
	}
}

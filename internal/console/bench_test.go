package console

import (
	"fmt"
	"io"
	"os"
	"testing"
)

var benchSizes = []int{100, 4 << 10, MaxPayload}

// benchLimit is how much a benchmark writes before it begins a fresh console, so that it measures no disk.
const benchLimit = 256 << 20

func BenchmarkAppend(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			buf := make([]byte, HeaderSize+size)
			b.SetBytes(int64(size))
			var l *EngineLog
			dir, written := "", benchLimit
			for b.Loop() {
				if written += size; written > benchLimit {
					b.StopTimer()
					os.RemoveAll(dir)
					dir, written = b.TempDir(), 0
					l = engineLog(b, openWriter(b, dir), "a")
					b.StartTimer()
				}
				if err := l.AppendBuffer(Stdout, 0, at(1), buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReplay(b *testing.B) {
	for _, size := range benchSizes {
		for _, engines := range []int{1, 20} {
			dir := b.TempDir()
			w := openWriter(b, dir)
			total := min(size*20_000, 64<<20)
			buf := make([]byte, HeaderSize+size)
			for i := 0; i < total/size; i++ {
				l := engineLog(b, w, fmt.Sprintf("engine%d", i%engines))
				if err := l.AppendBuffer(Stdout, 0, at(1), buf); err != nil {
					b.Fatal(err)
				}
			}
			w.Close()
			b.Run(fmt.Sprintf("session/%d/engines=%d", size, engines), func(b *testing.B) {
				benchRead(b, total/size, size, func() *Cursor { return session(b, dir, "") })
			})
			if engines == 1 {
				b.Run(fmt.Sprintf("engine/%d", size), func(b *testing.B) {
					benchRead(b, total/size, size, func() *Cursor { return engine(b, dir, "engine0", "") })
				})
			}
		}
	}
}

func benchRead(b *testing.B, records, size int, open func() *Cursor) {
	b.SetBytes(int64(records) * int64(size))
	buf := make([]byte, HeaderSize+MaxPayload)
	for b.Loop() {
		c, n := open(), 0
		for {
			_, _, err := c.Next(buf)
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		c.Close()
		if n != records {
			b.Fatalf("%d records, want %d", n, records)
		}
	}
}

package console

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFrames(t *testing.T) {
	var want []placed
	for i, size := range []int{0, 1, 100, MaxPayload} {
		r := Record{strings.Repeat("e", i*5), Stream(i + 1), uint8(i), at(int64(i)), bytes.Repeat([]byte{0xff, 0}, size)[:size]}
		want = append(want, placed{r, Position(strings.Repeat("p", i*85))})
	}
	var wire []byte
	for _, p := range want {
		wire = AppendFrame(wire, p.Record, p.pos)
	}
	for name, in := range map[string]io.Reader{
		"at once": bytes.NewReader(wire), "byte by byte": iotest.OneByteReader(bytes.NewReader(wire)),
	} {
		f := NewFrameReader(in)
		for i := range want {
			r, pos, err := f.Next()
			if err != nil {
				t.Fatalf("%s, frame %d: %v", name, i, err)
			}
			same(t, []placed{{r, pos}}, want[i:i+1])
		}
		if _, _, err := f.Next(); err != io.EOF {
			t.Fatalf("%s: at the end: %v", name, err)
		}
	}
}

func TestFramesRefused(t *testing.T) {
	good := AppendFrame(nil, Record{"abc", Stdout, 0, at(1), []byte("hello")}, "p")
	with := func(i int, c byte) []byte {
		b := bytes.Clone(good)
		b[i] = c
		return b
	}
	for name, c := range map[string]struct {
		wire []byte
		want string
	}{
		"huge":           {binary.LittleEndian.AppendUint32(nil, maxFrame+1), "this is no console stream"},
		"small":          {binary.LittleEndian.AppendUint32(nil, 13), "this is no console stream"},
		"HTML":           {[]byte("<html><body>not found"), "this is no console stream"},
		"other version":  {with(4, 2), "update it"},
		"unknown stream": {with(6, 0), "unknown stream"},
		"id too long":    {with(16, 200), "do not fit"},
		"position":       {with(20, 200), "do not fit"},
		"payload":        {longFrame(), "do not fit"},
	} {
		if _, _, err := NewFrameReader(bytes.NewReader(c.wire)).Next(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for cut := 1; cut < len(good); cut++ {
		if _, _, err := NewFrameReader(bytes.NewReader(good[:cut])).Next(); err != io.ErrUnexpectedEOF {
			t.Errorf("cut after %d bytes: %v", cut, err)
		}
	}
}

// longFrame is a frame within the bounds of a frame whose payload is not within those of a payload.
func longFrame() []byte {
	b := AppendFrame(nil, Record{"", Stdout, 0, at(1), make([]byte, MaxPayload)}, "")
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4+1))
	return append(b, 0)
}

func FuzzFrameReader(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendFrame(nil, Record{"abc", Stdout, 0, at(1), []byte("hello")}, "s000000000020"))
	f.Add(append(AppendFrame(nil, Record{"", Event, 7, at(1), nil}, ""), 1, 2, 3))
	f.Add(AppendFrame(AppendFrame(nil, Record{"a", Stdout, 0, at(1), []byte{0}}, "1"), Record{"a", Stderr, 0, at(1), []byte{0}}, "2"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		frames := NewFrameReader(bytes.NewReader(wire))
		var back []byte
		for {
			r, pos, err := frames.Next()
			if err != nil {
				break
			}
			back = AppendFrame(back, r, pos)
		}
		if !bytes.HasPrefix(wire, back) {
			t.Fatalf("frames read and written again differ:\n%x\n%x", wire, back)
		}
	})
}

package console

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// A frame is one record and its position on the wire, little endian:
//
//	0 length of what follows it     6 stream                  16 length of the engine's id, and the id
//	4 version of the format (2)     7 flags                      length of the position, and the position
//	                                8 time, Unix nanoseconds     payload
const (
	frameFixed   = 16
	frameVersion = 1
	maxFrame     = MaxPayload + 1<<10
)

// AppendFrame appends the wire form of a record and the position after it. Records of a Cursor always fit; one that
// does not is a mistake in the program, and panics.
func AppendFrame(dst []byte, r Record, pos Position) []byte {
	if len(r.Payload) > MaxPayload || len(r.Engine) > 255 || len(pos) > 255 {
		panic(fmt.Sprintf("console frame: payload of %d bytes, engine %q, position %q do not fit",
			len(r.Payload), r.Engine, string(pos)))
	}
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, uint32(frameFixed-4+1+len(r.Engine)+1+len(pos)+len(r.Payload)))
	dst = append(le.AppendUint16(dst, frameVersion), byte(r.Stream), r.Flags)
	dst = le.AppendUint64(dst, uint64(r.Time.UnixNano()))
	dst = append(append(dst, byte(len(r.Engine))), r.Engine...)
	dst = append(append(dst, byte(len(pos))), pos...)
	return append(dst, r.Payload...)
}

// FrameReader reads frames from a stream. However long a frame says it is, memory is bounded.
type FrameReader struct {
	in     *bufio.Reader
	buf    []byte
	engine string // the last one, kept so that its records share one string
}

// NewFrameReader returns a FrameReader, which reads ahead.
func NewFrameReader(r io.Reader) *FrameReader {
	return &FrameReader{in: bufio.NewReaderSize(r, 64<<10)}
}

// Next returns the next record and the position after it. The payload is valid until the next call. io.EOF is the end
// of the stream between two frames, io.ErrUnexpectedEOF one within a frame.
func (f *FrameReader) Next() (Record, Position, error) {
	var head [4]byte
	if _, err := io.ReadFull(f.in, head[:]); err != nil {
		return Record{}, "", err
	}
	n := int(binary.LittleEndian.Uint32(head[:]))
	if n < frameFixed-4+2 || n > maxFrame {
		return Record{}, "", fmt.Errorf("console frame of %d bytes, at most %d are possible: this is no console stream", n, maxFrame)
	}
	if cap(f.buf) < n {
		f.buf = make([]byte, n, max(n, 4<<10))
	}
	b := f.buf[:n]
	if _, err := io.ReadFull(f.in, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Record{}, "", err
	}
	return f.parse(b)
}

var errFrame = errors.New("console frame: its parts do not fit its length")

func (f *FrameReader) parse(b []byte) (Record, Position, error) {
	if v := binary.LittleEndian.Uint16(b); v != frameVersion {
		return Record{}, "", fmt.Errorf("console frame of version %d: this program knows version %d; update it", v, frameVersion)
	}
	r := Record{Stream: Stream(b[2]), Flags: b[3], Time: time.Unix(0, int64(binary.LittleEndian.Uint64(b[4:]))).UTC()}
	if !r.Stream.valid() {
		return Record{}, "", fmt.Errorf("console frame of unknown stream %d", b[2])
	}
	engine, rest, ok := cutShort(b[frameFixed-4:])
	if !ok {
		return Record{}, "", errFrame
	}
	pos, payload, ok := cutShort(rest)
	if !ok || len(payload) > MaxPayload {
		return Record{}, "", errFrame
	}
	if f.engine != string(engine) {
		f.engine = string(engine)
	}
	r.Engine, r.Payload = f.engine, payload[:len(payload):len(payload)]
	return r, Position(pos), nil
}

// cutShort cuts a string with a length byte off b.
func cutShort(b []byte) (s, rest []byte, ok bool) {
	if len(b) == 0 || len(b) <= int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n], b[n:], true
}

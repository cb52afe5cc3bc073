package console

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// On disk, little endian:
//
//	record   0 crc32c of all that follows, payload included     entry   0 engine id, padded with zero bytes
//	         4 length of the payload                                   16 offset of the record in the engine's log
//	         8 time, Unix nanoseconds                                  24 length of the record, header included
//	        16 stream                                                  28 crc32c of the above
//	        17 flags
//	        18 version of the format
//	        19 zero
//	        20 crc32c of bytes 4 to 19
//	        24 payload
//
// The header's own checksum makes its length trustworthy: without it a damaged length could not be told from a record
// that is not complete yet.
const (
	// HeaderSize is the number of bytes before the payload of a record on disk.
	HeaderSize = 24

	maxRecord     = HeaderSize + MaxPayload
	entrySize     = 32
	maxOffset     = 1 << (4 * positionDigits)
	maxID         = 16
	formatVersion = 1
)

// checksum makes its table when it is first called (crc32 keeps it): inits have this package, and never call it.
func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// ValidID reports whether id can name an engine here: 1 to 16 letters, digits, "-" and "_".
func ValidID(id string) bool {
	if len(id) == 0 || len(id) > maxID {
		return false
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

type header struct {
	length int // of the payload
	nanos  int64
	stream Stream
	flags  uint8
}

// sealRecord fills the header at the front of rec, whose payload is in place.
func sealRecord(rec []byte, stream Stream, flags uint8, t time.Time) {
	le := binary.LittleEndian
	le.PutUint32(rec[4:], uint32(len(rec)-HeaderSize))
	le.PutUint64(rec[8:], uint64(t.UnixNano()))
	rec[16], rec[17], rec[18], rec[19] = byte(stream), flags, formatVersion, 0
	le.PutUint32(rec[20:], checksum(rec[4:20]))
	le.PutUint32(rec[0:], checksum(rec[4:]))
}

// parseHeader returns false if b, of HeaderSize bytes or more, does not begin with a header.
func parseHeader(b []byte) (header, bool) {
	le := binary.LittleEndian
	length := le.Uint32(b[4:])
	h := header{length: int(length), nanos: int64(le.Uint64(b[8:])), stream: Stream(b[16]), flags: b[17]}
	ok := le.Uint32(b[20:]) == checksum(b[4:20]) && b[18] == formatVersion && b[19] == 0 &&
		length <= MaxPayload && h.stream.valid()
	return h, ok
}

// wholeRecord reports whether rec, a header and its payload, is as it was written.
func wholeRecord(rec []byte) bool {
	return binary.LittleEndian.Uint32(rec) == checksum(rec[4:])
}

// entry is one step of the order: which record of which engine comes next.
type entry struct {
	id     string
	offset int64
	length int // of the record, header included
}

func (e entry) appendTo(b []byte) []byte {
	le, start := binary.LittleEndian, len(b)
	var id [maxID]byte
	copy(id[:], e.id)
	b = append(b, id[:]...)
	b = le.AppendUint64(b, uint64(e.offset))
	b = le.AppendUint32(b, uint32(e.length))
	return le.AppendUint32(b, checksum(b[start:]))
}

// parseEntry returns false if b, of entrySize bytes, is no entry. The id is a part of b.
func parseEntry(b []byte) (id []byte, offset int64, length int, ok bool) {
	le := binary.LittleEndian
	n := 0
	for n < maxID && b[n] != 0 {
		n++
	}
	id, offset, length = b[:n], int64(le.Uint64(b[16:])), int(le.Uint32(b[24:]))
	ok = le.Uint32(b[28:]) == checksum(b[:28]) && ValidID(string(id)) &&
		offset >= 0 && offset < maxOffset && length >= HeaderSize && length <= maxRecord
	return id, offset, length, ok
}

package hub

import (
	"encoding/binary"
	"errors"
	"strings"
)

// The little of DNS messages (RFC 1035) that is needed to answer for the names of a session's engines and to say that
// something went wrong. Everything else is passed on as it is.

const (
	headerSize = 12
	typeA      = 1
	typePTR    = 12
	typeAny    = 255
	classIN    = 1

	codeFormat   = 1
	codeServer   = 2
	codeNoDomain = 3
	codeRefused  = 5

	bitResponse      = 0x8000
	bitAuthoritative = 0x0400
	bitRecursion     = 0x0100 // desired
	bitAvailable     = 0x0080 // recursion available
	maskOpcode       = 0x7800

	// answerSeconds is how long engines may remember a name of ours: an address is not given again so soon.
	answerSeconds = 5
)

// question is the first question of a query.
type question struct {
	name       string // lower case, without the final dot
	kind       uint16
	class      uint16
	end        int // where the question ends in the message
	opcodeZero bool
}

var errMessage = errors.New("not a DNS query")

// parseQuestion reads a query with exactly one question.
func parseQuestion(msg []byte) (question, error) {
	var q question
	if len(msg) < headerSize {
		return q, errMessage
	}
	flags := binary.BigEndian.Uint16(msg[2:])
	if flags&bitResponse != 0 || binary.BigEndian.Uint16(msg[4:]) != 1 {
		return q, errMessage
	}
	var name strings.Builder
	at := headerSize
	for {
		if at >= len(msg) {
			return q, errMessage
		}
		n := int(msg[at])
		at++
		if n == 0 {
			break
		}
		if n > 63 || at+n > len(msg) || at+n-headerSize > 254 { // more than 63 would be a pointer, which no question needs
			return q, errMessage
		}
		if name.Len() > 0 {
			name.WriteByte('.')
		}
		for _, c := range msg[at : at+n] {
			if c == '.' { // part of a label, and not what a dot in a name means
				c = 0
			}
			name.WriteByte(lower(c))
		}
		at += n
	}
	if at+4 > len(msg) {
		return q, errMessage
	}
	q.name = name.String()
	q.kind = binary.BigEndian.Uint16(msg[at:])
	q.class = binary.BigEndian.Uint16(msg[at+2:])
	q.end = at + 4
	q.opcodeZero = flags&maskOpcode == 0
	return q, nil
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// reply makes an answer without records: the query's header and question with a code.
func reply(query []byte, q question, code uint16) []byte {
	msg := make([]byte, headerSize, headerSize+64)
	copy(msg, query[:2])
	flags := binary.BigEndian.Uint16(query[2:])&(maskOpcode|bitRecursion) | bitResponse | bitAvailable | code
	binary.BigEndian.PutUint16(msg[2:], flags)
	if q.end > 0 {
		msg[5] = 1
		msg = append(msg, query[headerSize:q.end]...)
	}
	return msg
}

// answer makes an answer with one record of the question's name.
func answer(query []byte, q question, kind uint16, data []byte) []byte {
	msg := reply(query, q, 0)
	msg[2] |= bitAuthoritative >> 8
	msg[7] = 1
	msg = append(msg, 0xc0, headerSize) // the name: where the question has it
	msg = binary.BigEndian.AppendUint16(msg, kind)
	msg = binary.BigEndian.AppendUint16(msg, classIN)
	msg = binary.BigEndian.AppendUint32(msg, answerSeconds)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(data)))
	return append(msg, data...)
}

// encodeName writes a name as labels; the name must have passed checkName.
func encodeName(name string) []byte {
	var b []byte
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}

package main

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
)

// A line of talk.py: ~NAME:STREAM:NUMBER:PADDING:CHECKSUM~, the checksum (CRC-32) of all between ~ and the last colon.

// parseLine takes such a line apart, which is without its newline.
func parseLine(line []byte) (name, stream string, number int, err error) {
	body, ok := bytes.CutPrefix(line, []byte("~"))
	body, ok2 := bytes.CutSuffix(body, []byte("~"))
	at := bytes.LastIndexByte(body, ':')
	if !ok || !ok2 || at < 0 {
		return "", "", 0, fmt.Errorf("%.80q is no line of ours", line)
	}
	text := body[:at]
	if want := fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)); want != string(body[at+1:]) {
		return "", "", 0, fmt.Errorf("%.80q has not its checksum", line)
	}
	parts := bytes.SplitN(text, []byte(":"), 4)
	if len(parts) != 4 {
		return "", "", 0, fmt.Errorf("%.80q has %d parts", line, len(parts))
	}
	number, err = strconv.Atoi(string(parts[2]))
	return string(parts[0]), string(parts[1]), number, err
}

// counter takes the bytes of one stream of one engine as they come, and says what is wrong with them.
type counter struct {
	name, stream string
	client       bool   // our client writes there too: that the server is away
	lines        int    // whole ones, contiguous from 0
	rest         []byte // of a line that is not complete
	wrong        error  // the first thing
}

func (c *counter) add(payload []byte) {
	c.rest = append(c.rest, payload...)
	for c.wrong == nil {
		at := bytes.IndexByte(c.rest, '\n')
		if at < 0 {
			return
		}
		if !c.client || !bytes.HasPrefix(c.rest, []byte("muster: ")) {
			c.line(c.rest[:at])
		}
		c.rest = c.rest[at+1:]
	}
}

func (c *counter) line(line []byte) {
	name, stream, number, err := parseLine(line)
	switch {
	case err != nil:
		c.wrong = fmt.Errorf("after line %d: %w", c.lines-1, err)
	case name != c.name || stream != c.stream:
		c.wrong = fmt.Errorf("after line %d: a line of %s, stream %s", c.lines-1, name, stream)
	case number < c.lines:
		c.wrong = fmt.Errorf("line %d stands there twice", number)
	case number > c.lines:
		c.wrong = fmt.Errorf("lines %d to %d are missing", c.lines, number-1)
	default:
		c.lines++
	}
}

// end says what is wrong with the stream as a whole. noted lines were printed, or one more; of those that somebody took with
// him (unread) they may be less.
func (c *counter) end(noted int, unread bool) error {
	switch {
	case c.wrong != nil:
		return c.wrong
	case c.lines > noted+1:
		return fmt.Errorf("%d lines, of which only %d were printed", c.lines, noted)
	case c.lines < noted && !unread:
		return fmt.Errorf("%d lines, and %d were printed: the last ones are missing", c.lines, noted)
	}
	return nil
}

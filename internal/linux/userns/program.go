package userns

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// program is a list of system calls with constant arguments, made one after the other by a process with one thread. If one
// fails, those after otherwise are made, whether they fail or not. It is made for exec, so that nothing has to be freed.
//
// Its image is the smallest file that the kernel executes (elf(5)): one segment, mapped for reading and execution at a fixed
// address, that holds the headers, then the data, then the code.
type program struct {
	bytes []byte // the data
	calls []call // in order
	other int    // index of the first call to be made after a failure
}

// call is a system call's number and up to six arguments.
type call struct {
	number uintptr
	args   []uintptr
}

const (
	base       = 0x400000
	headers    = 64 + 2*56 // the file's, and two of segments
	dataAt     = base + headers
	exitNumber = 126 // "cannot execute", as shells say
)

func (p *program) call(number uintptr, args ...uintptr) {
	p.calls = append(p.calls, call{number, args})
}

func (p *program) otherwise() { p.other = len(p.calls) }

// data gives the address of a copy.
func (p *program) data(b []byte) uintptr {
	for len(p.bytes)%8 != 0 {
		p.bytes = append(p.bytes, 0)
	}
	at := dataAt + uintptr(len(p.bytes))
	p.bytes = append(p.bytes, b...)
	return at
}

func (p *program) text(s string) uintptr { return p.data(append([]byte(s), 0)) }

// texts gives the address of a list of texts as execve(2) wants it.
func (p *program) texts(list []string) uintptr {
	var addresses []byte
	for _, s := range list {
		addresses = binary.LittleEndian.AppendUint64(addresses, uint64(p.text(s)))
	}
	return p.data(binary.LittleEndian.AppendUint64(addresses, 0))
}

// image is the program as a file.
func (p *program) image(arch string) ([]byte, error) {
	m, known := machines64[arch]
	if !known {
		return nil, fmt.Errorf("entering a user namespace is not known for %s", arch)
	}
	p.call(m.exitGroup, exitNumber)
	p.data(nil) // align
	entry := dataAt + uint64(len(p.bytes))
	code := m.code(p.calls, p.other)
	size := headers + uint64(len(p.bytes)+len(code))
	var f bytes.Buffer
	f.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00") // 64 bit, little endian, version 1
	for _, field := range []any{
		uint16(2), m.elf, uint32(1), entry, uint64(64), uint64(0), // executable; machine; version; where segments are told
		uint32(0), uint16(64), uint16(56), uint16(2), uint16(0), uint16(0), uint16(0), // flags, sizes, two segments, no sections
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x10000), // loaded, to read and execute
		uint32(0x6474e551), uint32(6), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(16), // the stack: not to execute
	} {
		binary.Write(&f, binary.LittleEndian, field)
	}
	f.Write(p.bytes)
	f.Write(code)
	return f.Bytes(), nil
}

// machine writes system calls in a processor's language.
type machine struct {
	elf       uint16
	exitGroup uintptr
	code      func(calls []call, other int) []byte
}

var machines64 = map[string]machine{
	"amd64": {62, 231, amd64Code},
	"arm64": {183, 94, arm64Code},
}

// amd64Code: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9; a failure is negative (System V ABI, AMD64 supplement, A.2).
func amd64Code(calls []call, other int) []byte {
	load := [][]byte{{0x48, 0xbf}, {0x48, 0xbe}, {0x48, 0xba}, {0x49, 0xba}, {0x49, 0xb8}, {0x49, 0xb9}} // mov register, value
	one := func(c call) (code []byte) {
		for i, a := range c.args {
			code = binary.LittleEndian.AppendUint64(append(code, load[i]...), uint64(a))
		}
		code = binary.LittleEndian.AppendUint64(append(code, 0x48, 0xb8), uint64(c.number))
		return append(code, 0x0f, 0x05, 0x48, 0x85, 0xc0) // syscall; test rax, rax
	}
	jump := func(by int) []byte { return binary.LittleEndian.AppendUint32([]byte{0x0f, 0x88}, uint32(int32(by))) } // if negative
	return linked(calls, other, one, jump, func(by int) int { return by - 6 })
}

// arm64Code: number in x8, arguments in x0 to x5; a failure is negative in x0 (syscall(2); instructions: Arm ARM, C6.2).
func arm64Code(calls []call, other int) []byte {
	word := binary.LittleEndian.AppendUint32
	load := func(code []byte, register uint32, value uint64) []byte {
		code = word(code, 0xd2800000|uint32(value&0xffff)<<5|register) // movz
		for part := uint32(1); part < 4; part++ {
			code = word(code, 0xf2800000|part<<21|uint32(value>>(16*part)&0xffff)<<5|register) // movk
		}
		return code
	}
	one := func(c call) (code []byte) {
		for i, a := range c.args {
			code = load(code, uint32(i), uint64(a))
		}
		return word(load(code, 8, uint64(c.number)), 0xd4000001) // svc
	}
	jump := func(by int) []byte { return word(nil, 0xb7f80000|uint32(by/4)&0x3fff<<5) } // tbnz x0, #63
	return linked(calls, other, one, jump, func(by int) int { return by })
}

// linked puts the calls together, each followed by a jump to where it goes on after a failure. distance makes what the jump
// says of how far it is from the jump's beginning.
func linked(calls []call, other int, one func(call) []byte, jump func(by int) []byte, distance func(int) int) (code []byte) {
	starts := []int{0}
	for _, c := range calls {
		starts = append(starts, starts[len(starts)-1]+len(one(c))+len(jump(0)))
	}
	for i, c := range calls {
		code = append(code, one(c)...)
		to := starts[other]
		if i >= other {
			to = starts[i+1]
		}
		code = append(code, jump(distance(to-len(code)))...)
	}
	return code
}

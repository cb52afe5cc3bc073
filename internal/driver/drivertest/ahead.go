package drivertest

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"muster/engine"
	"muster/internal/driver"
)

// Drivers that start engines ahead pass the suite a second time with workers that were, and a third time with such as were forked:
// whatever a worker does, it does the same when all but its work was there before. Their interpreter waits, and executes what a worker's spec says when its work comes.

// aheadKind is of all that the suite has wait.
var aheadKind = driver.Kind{Name: "of the suite"}

// PythonAhead is a Factory.Ahead for drivers whose engines are real processes. The interpreter is an absolute path of a Python 3.
func PythonAhead(interpreter string) []string {
	return []string{interpreter, "-I", "-c", pythonAhead, Private}
}

// PythonFork is a Factory.Fork for such drivers, whose zygotes are Python: its source defines serve(folder, apart), which returns in
// forked children.
func PythonFork(interpreter string, source []byte) []string {
	return []string{interpreter, "-I", "-c", string(source) + "\nserve(sys.argv[1], False)\n" + pythonAhead, Private}
}

const pythonAhead = `import os, sys
says = os.open(sys.argv[1] + "/waits", os.O_WRONLY)
work = os.open(sys.argv[1] + "/work", os.O_RDONLY)
os.write(says, b"w")
read = b""
while part := os.read(work, 65536): read += part
if not read: sys.exit(1)
words = read.split(b"\0")
n = int(words[0])
env = dict(e.replace(b"\1", b"").split(b"=", 1) for e in words[1 + n:-1])
os.write(says, b"t")
os.execve(words[1], words[1:1 + n], env)
`

// aheadWork is what that interpreter reads.
func aheadWork(spec driver.Spec) *driver.Work {
	var b bytes.Buffer
	b.WriteString(strconv.Itoa(len(spec.Argv)) + "\x00")
	for _, w := range spec.Argv {
		b.WriteString(w + "\x00")
	}
	for _, v := range spec.Env { // whose text stands for no folder
		b.WriteString(strings.ReplaceAll(v, Private, Private[:1]+"\x01"+Private[1:]) + "\x00")
	}
	return &driver.Work{Kind: aheadKind, Bytes: b.Bytes()}
}

// seat waits for an engine that was started ahead, and is one like spec but for its work.
func (p *place) seat(spec driver.Spec) driver.Seat {
	p.t.Helper()
	warmer := p.s.(driver.Warmer)
	warmer.Warm(aheadKind, 1, func(s driver.Seat) driver.Spec { return p.aheadOf(spec, s) })
	p.awaitWaiting(1)
	seats := warmer.Take(aheadKind, 1)
	if len(seats) != 1 {
		p.t.Fatalf("one engine waits, and %d were given", len(seats))
	}
	warmer.Warm(aheadKind, 0, nil)
	if p.seats == nil {
		p.seats = map[engine.ID]driver.Spec{}
	}
	p.seats[seats[0].ID] = spec
	return seats[0]
}

func (p *place) works(specs []driver.Spec) []driver.Spec {
	for i := range specs {
		specs[i] = p.work(specs[i])
	}
	return specs
}

// work says anew what an engine's work is, of which the case may have changed something. One that is to see other files is for no
// engine that waits.
func (p *place) work(spec driver.Spec) driver.Spec {
	was, ahead := p.seats[spec.ID]
	if !ahead {
		return spec
	}
	spec.Work = aheadWork(spec)
	if spec.Dir != was.Dir || spec.Alias != was.Alias || !slices.Equal(spec.Visible, was.Visible) || !slices.Equal(spec.Shared, was.Shared) {
		spec.Work = nil
	}
	return spec
}

// aheadOf is the spec of an engine that waits for work such as spec's.
func (p *place) aheadOf(spec driver.Spec, s driver.Seat) driver.Spec {
	spec.ID, spec.Address, spec.Hostname = s.ID, s.Address, string(s.ID)
	spec.Argv, spec.Files = p.w.f.Ahead, nil
	spec.Resources = engine.Resources{CPU: 0.1}
	if p.w.how == forked && (p.spec.Attached == nil || p.w.d.Capabilities().AttachApart) { // others have the host's network
		spec.Work = &driver.Work{Fork: p.w.f.Fork}
		spec.Argv = []string{"/bin/false"}
	}
	return spec
}

func (p *place) awaitWaiting(n int) {
	p.t.Helper()
	p.awaitKind(aheadKind, n)
}

func (p *place) awaitKind(kind driver.Kind, n int) {
	p.t.Helper()
	waiting := func() int { return p.s.(driver.Warmer).Waiting(kind) }
	if !waitFor(func() bool { return waiting() == n }) {
		p.t.Fatalf("%d engines wait for work, want %d; observed: %s", waiting(), n, p.story())
	}
}

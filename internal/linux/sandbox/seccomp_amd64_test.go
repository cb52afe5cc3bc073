package sandbox

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// foreignCalls are getpid by the other ABI of this architecture: kernels without it say ENOSYS.
var foreignCalls = []call{{"x32 getpid", unix.SYS_GETPID | 0x40000000, 0, 0, 0, "EPERM"}}

// int80 is a program that ends by the exit call of i386, with code 0. If that is refused, it runs into an undefined
// instruction.
func int80() []byte {
	code := []byte{
		0xb8, 1, 0, 0, 0, // mov eax, 1
		0x31, 0xdb, // xor ebx, ebx
		0xcd, 0x80, // int 0x80
		0x0f, 0x0b, // ud2
	}
	const base, head = 0x400000, 64 + 56
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, head-7)...)
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)  // executable
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], base+head) // entry
	le.PutUint64(b[32:], 64)        // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	p := b[64:]
	le.PutUint32(p, 1)     // load
	le.PutUint32(p[4:], 5) // to be read and run
	le.PutUint64(p[16:], base)
	le.PutUint64(p[24:], base)
	le.PutUint64(p[32:], uint64(head+len(code)))
	le.PutUint64(p[40:], uint64(head+len(code)))
	le.PutUint64(p[48:], 0x1000)
	return append(b, code...)
}

// Calls of another architecture have other numbers: all of them are refused.
func TestForeignArchitecture(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test needs root for namespaces")
	}
	program := filepath.Join(t.TempDir(), "int80")
	if err := os.WriteFile(program, int80(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(program).Run(); err != nil {
		t.Skipf("capability i386: this kernel has no such calls: %v", err)
	}
	if out, err := callsProcess("plain", program).CombinedOutput(); err != nil {
		t.Fatalf("without a filter: %v\n%s", err, out)
	}
	cmd := callsProcess("filtered", program)
	out, _ := cmd.CombinedOutput()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGILL && ws.Signal() != syscall.SIGSEGV {
		t.Errorf("%v, want the undefined instruction after the refused call\n%s", cmd.ProcessState, out)
	}
}

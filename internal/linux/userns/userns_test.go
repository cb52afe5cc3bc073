package userns

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ordinary is a user without rights.
const ordinary = 12345

// what a program says of itself.
type said struct {
	PID, PPID, UID, GID int
	Inside              bool
	Namespace           string
	Args                []string
	Environment         string
	Status              map[string]string
	Child               string // what its child has of capabilities
	Error               string
}

const (
	nameVariable = "MUSTER_TEST_ENTER"
)

// TestMain is the program that enters: "hold" lives in a new namespace, "enter FD" enters, "say" is what comes then.
func TestMain(m *testing.M) {
	what, _, _ := strings.Cut(os.Getenv(nameVariable), " ")
	switch what {
	case "":
		os.Exit(m.Run())
	case "hold":
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
	case "enter":
		var pid int
		fmt.Sscanf(os.Getenv(nameVariable), "enter %d", &pid)
		err := enterOf(pid)
		tell(said{Error: fmt.Sprint(err)})
	default:
		tell(self(what))
	}
}

func enterOf(pid int) error {
	if pid == 0 { // what cannot be entered
		f, err := os.Open("/dev/null")
		if err != nil {
			return err
		}
		return Enter(f, os.Args[0], os.Args, nil, []string{nameVariable + "=refused"})
	}
	ns, err := Of(pid)
	if err != nil {
		return err
	}
	return Enter(ns, os.Args[0], append(os.Args, "with spaces", "", "ünïcödé"),
		[]string{nameVariable + "=say", "EMPTY=", "LARGE=" + strings.Repeat("x", 100_000), "LARGER=" + strings.Repeat("y", 100_000)}, nil)
}

func self(what string) said {
	s := said{
		PID: os.Getpid(), PPID: os.Getppid(), UID: os.Getuid(), GID: os.Getgid(), Inside: Inside(), Args: os.Args[1:],
		Environment: fmt.Sprint(what, " ", len(os.Environ()), " ", len(os.Getenv("LARGE"))+len(os.Getenv("LARGER"))), Status: map[string]string{},
	}
	s.Namespace, _ = os.Readlink("/proc/self/ns/user")
	b, _ := os.ReadFile("/proc/thread-self/status")
	for line := range strings.Lines(string(b)) {
		if k, v, _ := strings.Cut(line, ":"); strings.HasPrefix(k, "Cap") || k == "Threads" {
			s.Status[k] = strings.TrimSpace(v)
		}
	}
	if s.Inside {
		if err := Confine(); err != nil {
			s.Child = err.Error()
			return s
		}
		out, _ := exec.Command("/bin/grep", "CapEff", "/proc/self/status").Output()
		kept := exec.Command("/bin/grep", "CapEff", "/proc/self/status")
		kept.SysProcAttr = &syscall.SysProcAttr{}
		Keep(kept.SysProcAttr)
		more, _ := kept.Output()
		s.Child = string(out) + string(more)
	}
	return s
}

func tell(s said) {
	b, _ := json.Marshal(s)
	fmt.Println(string(b))
}

// binaryCopy copies this binary to where an ordinary user finds it.
func binaryCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "muster-userns-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func asOrdinary(path, what string) *exec.Cmd {
	cmd := exec.Command(path)
	cmd.Env, cmd.Stderr, cmd.Dir = []string{nameVariable + "=" + what}, os.Stderr, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: ordinary, Gid: ordinary}
	}
	return cmd
}

// hold starts a process in a new namespace of an ordinary user's.
func hold(t *testing.T, path string) int {
	t.Helper()
	args := []string{"--user", "--map-user=" + fmt.Sprint(ordinary), "--map-group=" + fmt.Sprint(ordinary), path}
	if os.Geteuid() != 0 {
		args = []string{"--user", "--map-user=" + fmt.Sprint(os.Geteuid()), "--map-group=" + fmt.Sprint(os.Getegid()), path}
	}
	cmd := asOrdinary("/usr/bin/unshare", "hold")
	cmd.Args = append(cmd.Args, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Skipf("capability user namespaces: %q, %v", line, err)
	}
	return cmd.Process.Pid
}

func hear(t *testing.T, cmd *exec.Cmd) (s said) {
	t.Helper()
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return s
}

// The process stays the same one, as does its user, and what it executes has rights only where it says so.
func TestEnter(t *testing.T) {
	path := binaryCopy(t)
	holder := hold(t, path)
	cmd := asOrdinary(path, fmt.Sprintf("enter %d", holder))
	s := hear(t, cmd)
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", holder))
	if err != nil {
		t.Fatal(err)
	}
	if s.Error != "" || s.PID != cmd.Process.Pid || s.PPID != os.Getpid() || s.Namespace != want || !s.Inside {
		t.Errorf("%+v; the namespace is %s, the process %d", s, want, cmd.Process.Pid)
	}
	if os.Geteuid() == 0 && (s.UID != ordinary || s.GID != ordinary) {
		t.Errorf("user %d, group %d", s.UID, s.GID)
	}
	if fmt.Sprintf("%q", s.Args) != `["with spaces" "" "ünïcödé"]` || s.Environment != "say 4 200000" {
		t.Errorf("arguments %q, environment %s", s.Args, s.Environment)
	}
	all := s.Status["CapBnd"]
	if s.Status["CapEff"] != all || s.Status["CapPrm"] != all || s.Status["CapAmb"] != all {
		t.Errorf("capabilities %v", s.Status)
	}
	if strings.HasSuffix(s.Child, unix.ENOTSUP.Error()) { // with cgo, as the race detector needs it
		return
	}
	if s.Child != "CapEff:\t0000000000000000\nCapEff:\t"+all+"\n" {
		t.Errorf("children have %q", s.Child)
	}
}

// Where the kernel refuses, the program goes on where it was, and is told.
func TestEnterRefused(t *testing.T) {
	s := hear(t, asOrdinary(binaryCopy(t), "enter 0"))
	if s.Error != "" || s.Inside || !strings.HasPrefix(s.Environment, "refused ") {
		t.Errorf("%+v", s)
	}
}

// What the program says for other processors cannot be run here: its words are compared with what GNU as makes of
//
//	movz x0, #0x4444 ; movk x0, #0x3333, lsl #16 ; movk x0, #0x2222, lsl #32 ; movk x0, #0x1111, lsl #48
//	movz x8, #93 ; movk x8, #0, lsl #16 ; … ; svc #0 ; tbnz x0, #63, .+4
func TestArm64(t *testing.T) {
	got := arm64Code([]call{{93, []uintptr{0x1111222233334444}}}, 1)
	want := []byte{
		0x80, 0x88, 0x88, 0xd2, 0x60, 0x66, 0xa6, 0xf2, 0x40, 0x44, 0xc4, 0xf2, 0x20, 0x22, 0xe2, 0xf2,
		0xa8, 0x0b, 0x80, 0xd2, 0x08, 0x00, 0xa0, 0xf2, 0x08, 0x00, 0xc0, 0xf2, 0x08, 0x00, 0xe0, 0xf2,
		0x01, 0x00, 0x00, 0xd4, 0x20, 0x00, 0xf8, 0xb7,
	}
	if string(got) != string(want) {
		t.Errorf("% x, want % x", got, want)
	}
}

// Of the machine's own namespace nobody is inside, and it is nobody's to enter.
func TestOutside(t *testing.T) {
	if Inside() {
		t.Error("this process is inside")
	}
	if ns := Owned(os.Getpid()); ns != nil {
		t.Error("the own namespace is another one")
	}
	if !Shared(os.Getpid()) || Shared(-1) {
		t.Error("who is in the own namespace")
	}
}

// In the same users' namespace a process has all capabilities and is who it was, for itself and for others.
func TestSame(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("capability root: this test makes the namespace of somebody else")
	}
	for _, uid := range []int{0, ordinary} {
		dir, err := os.MkdirTemp("", "muster-userns-") // into which others may come
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		os.Chmod(dir, 0o777)
		cmd := exec.Command("/bin/sh", "-c", `id -u; id -g; touch "$1/file"; grep -E "^Cap(Eff|Bnd)" /proc/self/status; readlink /proc/self/ns/user`, "sh", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		if err := Same(cmd.SysProcAttr); err != nil {
			t.Fatal(err)
		}
		if uid != 0 {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		words := strings.Fields(string(out))
		here, _ := os.Readlink("/proc/self/ns/user")
		all := fmt.Sprintf("%016x", uint64(1)<<len(capabilities())-1)
		has := all
		if uid != 0 {
			has = fmt.Sprintf("%016x", 0)
		}
		if len(words) != 7 || words[0] != fmt.Sprint(uid) || words[1] != fmt.Sprint(uid) || words[3] != has || words[5] != all || words[6] == here {
			t.Errorf("as %d, in %s: %q", uid, here, words)
		}
		info, err := os.Stat(filepath.Join(dir, "file"))
		if err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != uid {
			t.Errorf("the file of %d: %v, %v", uid, info, err)
		}
	}
}

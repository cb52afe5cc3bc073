package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// language is how a kernel is tested: the same four things in each one's own words.
type language struct {
	kernel string
	script string // name of the hello script
	hello  string // prints "hello from" and the script's arguments
	peer   string // connects to the master's port 6000, greets and prints the answer
	fails  string // fails two calls deep
	trace  []string
	env    string // prints the variables that begin with CDSW_ as NAME=VALUE
}

var languages = []language{
	{
		kernel: "python3", script: "hello.py",
		hello: "import sys\nprint('hello from', sys.argv[1:])\n",
		peer: `
import os, socket
s = socket.create_connection((os.environ["CDSW_MASTER_IP"], 6000))
s.sendall(b"Hello From Worker!\n")
print("Worker received:", s.makefile().readline())
`,
		fails: "def inner(x):\n    raise ValueError('boom %d' % x)\ndef outer():\n    inner(7)\nouter()\n",
		trace: []string{"Traceback (most recent call last):", `File "<code>", line 4, in outer`, "ValueError: boom 7"},
		env:   "import os\nfor k, v in os.environ.items():\n    if k.startswith('CDSW_'): print(k + '=' + v)\n",
	},
	{
		kernel: "python2", script: "hello.py",
		hello: "import sys\nprint 'hello from', sys.argv[1:]\n",
		peer: `
import os, socket
s = socket.create_connection((os.environ["CDSW_MASTER_IP"], 6000))
s.sendall("Hello From Worker!\n")
print "Worker received:", s.makefile().readline()
`,
		fails: "def inner(x):\n    raise ValueError, 'boom %d' % x\ndef outer():\n    inner(7)\nouter()\n",
		trace: []string{"Traceback (most recent call last):", `File "<code>", line 4, in outer`, "ValueError: boom 7"},
		env:   "import os\nfor k, v in os.environ.items():\n    if k.startswith('CDSW_'): print k + '=' + v\n",
	},
	{
		kernel: "r", script: "hello.r",
		hello: "cat('hello from', commandArgs(trailingOnly = TRUE), '\\n')\nwarning('mind the gap')\n",
		peer: `
con <- socketConnection(host = Sys.getenv("CDSW_MASTER_IP"), port = 6000, blocking = TRUE, server = FALSE, open = "r+")
writeLines("Hello From Worker!", con)
cat("Worker received:", readLines(con, 1), "\n")
close(con)
`,
		fails: "inner <- function(x) stop('boom ', x)\nouter <- function() inner(7)\nouter()\n",
		trace: []string{"Error in inner(7) : boom 7", "Calls: outer -> inner", "Execution halted"},
		env:   "e <- Sys.getenv(); e <- e[startsWith(names(e), 'CDSW_')]; writeLines(paste0(names(e), '=', e))\n",
	},
	{
		kernel: "scala", script: "hello.scala",
		hello: `println("hello from " + args.mkString(" "))`,
		peer: `
val s = new java.net.Socket(sys.env("CDSW_MASTER_IP"), 6000)
s.getOutputStream.write("Hello From Worker!\n".getBytes)
println("Worker received: " + new java.io.BufferedReader(new java.io.InputStreamReader(s.getInputStream)).readLine)
`,
		fails: "def inner(x: Int): Int = throw new IllegalStateException(\"boom \" + x)\ndef outer = inner(7)\nouter\n",
		trace: []string{"java.lang.IllegalStateException: boom 7", ".inner(code.scala:1)", ".outer(code.scala:2)"},
		env:   `for ((k, v) <- sys.env if k.startsWith("CDSW_")) println(k + "=" + v)`,
	},
}

// crewOf is a session that launches workers of a kernel and says what became of them.
const crewOf = `
import cdsw, os, socket, sys
kernel = sys.argv[1]
code = {name: open(name).read() for name in ("peer", "fails", "env")}
ws = {name: cdsw.launch_workers(n=1, cpu=0.5, memory=1, kernel=kernel, name=name, code=code[name])[0] for name in code}
l = socket.socket()
l.bind(("0.0.0.0", 6000))
l.listen(1)
c, _ = l.accept()
print("Master received:", c.makefile().readline())
c.sendall(b"Hello From Server!\n")
done = cdsw.await_workers(list(ws.values()), timeout_seconds=120)
for w in done["workers"] + done["failures"]:
    print("ended:", w["name"], w["kernel"], w["status"], w["exit_code"])
env = ws["env"]
print("expected: CDSW_ENGINE_ID=" + env["id"])
print("expected: CDSW_IP_ADDRESS=" + env["ip_address"])
print("expected: CDSW_MASTER_ID=" + os.environ["CDSW_ENGINE_ID"])
print("expected: CDSW_MASTER_IP=" + os.environ["CDSW_IP_ADDRESS"])
print("expected: CDSW_ENGINE_TYPE=worker")
print("expected: CDSW_APP_PORT=8090")
print("expected: CDSW_MEMORY_MB=1000")
print("expected: CDSW_CPU_MILLICORES=500")
`

// kernelWorld has Python 2 as the first command that it is looked for by: Jython, which Debian has.
func kernelWorld(t *testing.T) *world {
	t.Helper()
	requireR(t)
	for _, program := range []string{"scala", "jython"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: run scripts/need scala python2", program)
		}
	}
	w := newWorld(t)
	bin := filepath.Join(w.root, "bin")
	jython, err := exec.LookPath("jython")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(jython, filepath.Join(bin, "python2")); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH="+bin+":"+os.Getenv("PATH"))
	return w
}

// Every kernel, with a real interpreter: a script as a session, and workers of a Python session that talk over TCP, that
// fail and that look at their variables.
func TestKernels(t *testing.T) {
	for _, l := range languages {
		t.Run(l.kernel, func(t *testing.T) {
			w := kernelWorld(t)
			w.write(l.script, l.hello)
			r := w.muster("run", "--kernel", l.kernel, l.script, "first", "second").ok(t)
			r.has(t, "hello from", "first", "second")
			for name, code := range map[string]string{"peer": l.peer, "fails": l.fails, "env": l.env} {
				w.write(name, code)
			}
			w.write("crew.py", crewOf)
			r = w.muster("run", "crew.py", l.kernel).ok(t)
			r.has(t, "Master received: Hello From Worker!", "[peer] Worker received: Hello From Server!")
			r.has(t, "ended: peer "+l.kernel+" succeeded 0", "ended: env "+l.kernel+" succeeded 0", "ended: fails "+l.kernel+" failed 1")
			for _, line := range l.trace {
				if !strings.Contains(withLabel(r.out+r.err, "[fails]"), line) {
					t.Errorf("the console's trace has no %q:\n%s", line, tail(r.err))
				}
			}
			expected := 0
			for _, line := range lines(r.out) {
				if want, ok := strings.CutPrefix(line, "expected: "); ok {
					expected++
					if !strings.Contains(withLabel(r.out, "[env]"), want+"\n") {
						t.Errorf("the worker does not see %s:\n%s", want, tail(r.out))
					}
				}
			}
			if expected != 8 {
				t.Errorf("%d variables were compared", expected)
			}
		})
	}
}

// withLabel is what the console shows of one worker.
func withLabel(out, label string) string {
	var b strings.Builder
	for _, l := range lines(out) {
		if rest, ok := strings.CutPrefix(l, label+" "); ok {
			b.WriteString(rest + "\n")
		}
	}
	return b.String()
}

// The kernel follows from the ending, in both of R's spellings; R's warnings are printed, its errors are its exit code.
func TestRScripts(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	const script = "print(commandArgs(trailingOnly = TRUE))\ncat(basename(sub('--file=', '', grep('--file=', commandArgs(), value = TRUE))), '\\n')\n"
	for _, name := range []string{"small.r", "large.R"} {
		w.write(name, script+"warning('mind the gap')\n")
		w.muster("run", name, "a b", "--c=d").ok(t).has(t, `[1] "a b"   "--c=d"`, name, "Warning message:", "mind the gap")
	}
	w.write("bad.R", "f <- function(x) stop('no such model: ', x)\nwarning('before')\nf('m1')\ncat('not reached')\n")
	r := w.muster("run", "bad.R")
	r.has(t, "Error in f(\"m1\") : no such model: m1", "Execution halted", "before")
	if r.code != 1 || strings.Contains(r.out, "not reached") {
		t.Errorf("exit code %d, stdout %s", r.code, r.out)
	}
	w.write("three.R", "quit(status = 3)\n")
	if r := w.muster("run", "three.R"); r.code != 3 {
		t.Errorf("quit(status = 3) ended with %d", r.code)
	}
}

// The memory that is asked for is the program's: Scala's own command would stop it at 256 MB.
func TestScalaHasItsMemory(t *testing.T) {
	w := kernelWorld(t)
	w.write("large.scala", "val x = new Array[Byte](600000000); x(599999999) = 1; println(\"has \" + x.length)\n")
	w.muster("run", "--memory", "1.2", "large.scala").ok(t).has(t, "has 600000000")
}

// A script's error is not hidden by the compiler of its language: Scala says line and column.
func TestScalaThatDoesNotCompile(t *testing.T) {
	w := kernelWorld(t)
	w.write("bad.scala", "val x: Int = \"text\"\n")
	r := w.muster("run", "bad.scala")
	r.has(t, "bad.scala:1: error: type mismatch")
	if r.code != 1 {
		t.Errorf("exit code %d", r.code)
	}
}

// Our packages need Python 3.8. An older one says so by the error that scripts expect of a package that is not there.
func TestOldPython(t *testing.T) {
	w := kernelWorld(t)
	w.write("old.py", `
import os, sys
sys.path[:0] = os.environ["PYTHONPATH"].split(":")  # Jython reads it from another variable
for package in "cdsw", "cml", "muster":
    try:
        __import__(package)
    except ImportError as e:
        print(package + ": " + str(e))
`)
	r := w.muster("run", "--kernel", "python2", "old.py").ok(t)
	for _, name := range []string{"cdsw", "cml", "muster"} {
		r.has(t, name+": Muster's packages (muster, cdsw, cml) need Python 3.8 or newer, and this is Python 2.7")
	}
}

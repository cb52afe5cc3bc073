package kernel

import (
	"bytes"
	_ "embed" // ahead.scala
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"muster/engine"
)

// Ahead says how an interpreter is started ahead of its work, with everything done that does not depend on it.
type Ahead struct {
	// Argv makes it wait. Command.Private in it stands for the folder with the FIFOs that it waits at.
	Argv []string
	// Fork makes it a zygote, from which others that wait are forked; nil: it cannot be one.
	Fork []string
	// Begin is what it reads first, with Command.Private in it as well.
	Begin []byte
	// Skip is how many words of Command.Argv are not the work's, but how the interpreter is started.
	Skip  int
	Files map[string][]byte // in that folder, beside the FIFOs
	// Reads are files that it reads when it starts, or is, as far as it does not look at them again by itself.
	Reads []string
	// All says that all variables count when it starts: what it runs then is people's, or it cannot change its own.
	All bool
	// Threads says that the interpreter itself does not care for ThreadVariables: they count for libraries that it loads. One that was forked
	// sets those, or declines; where there are none, Bare, any does.
	Threads, Bare bool
}

// Work is what an interpreter that was started ahead reads: what it would have found in its arguments and its environment, and the
// name of the file that follows, if one does. Command.Private stands in it as in Argv.
func (c Command) Work(env []string) (words []byte, file string) {
	if c.Kernel == engine.R {
		return workOfR(c, env), c.Argv[c.Ahead.Skip]
	}
	return workOfWords(c, env), ""
}

// workOfWords is each word ended by a NUL, which none can hold. First come the numbers of arguments and variables.
func workOfWords(c Command, env []string) []byte {
	var b bytes.Buffer
	list := func(words []string) {
		for _, w := range words {
			b.WriteString(w)
			b.WriteByte(0)
		}
	}
	list([]string{strconv.Itoa(len(c.Argv) - c.Ahead.Skip), strconv.Itoa(len(env))})
	list(c.Argv[c.Ahead.Skip:])
	list(env)
	return b.Bytes()
}

// workOfR is R code, in one line, that makes variables and arguments what they would have been, says that the work is taken, and leaves
// nothing behind; or ends R, where packages were installed meanwhile. R has changed some of the variables that it reads at its start, and those that count then are what they are to be.
func workOfR(c Command, env []string) []byte {
	var names, values []string
	for _, v := range env {
		if name, value, _ := strings.Cut(v, "="); !ReadAtStart(name) {
			names, values = append(names, name), append(values, value)
		}
	}
	file, more := c.Argv[c.Ahead.Skip], c.Argv[c.Ahead.Skip+1:]
	tail := []string{"--file=" + file}
	if len(more) > 0 {
		tail = append(append(tail, "--args"), more...)
	}
	return []byte(`local({if(!identical(getOption("muster.installed"),` + rInstalled + `))quit("no",0L,FALSE);options(muster.installed=NULL);` +
		`v<-` + rStrings(values) + `;names(v)<-` + rStrings(names) + `;` + rIs(rStrings(tail)) + rSays(c.Private, "t") + "})\n")
}

// beginOfR is R code, in one line, that remembers what workOfR compares, and says that R waits. Before that it rehearses the work, with the
// variables and arguments that there are, so that the functions are loaded, and collects garbage, lest the work has to.
func beginOfR(private string) []byte {
	return []byte(`local({options(muster.installed=` + rInstalled + `);identical(getOption("muster.installed"),` + rInstalled + `);` +
		`v<-Sys.getenv("R_HOME",names=TRUE);names(v)<-"R_HOME";` + rIs(`a[grep("^--file=",a)[1L]:length(a)]`) + `try(gc(full=FALSE),TRUE);` + rSays(private, "w") + "})\n")
}

// rIs makes the named variables of v those of the process, and its last arguments, from the script on, others.
func rIs(last string) string {
	return `do.call(Sys.setenv,as.list(v));f<-base::commandArgs;a<-f();body(f)[[2L]][[3L]]<-c(a[seq_len(grep("^--file=",a)[1L]-1L)],` + last + `);` +
		`e<-baseenv();unlockBinding("commandArgs",e);assign("commandArgs",f,e);lockBinding("commandArgs",e);`
}

// rInstalled is when R's libraries were changed, and what R reads when it starts: it has loaded packages of which it reads the rest
// when that is needed.
const rInstalled = `file.mtime(c(.libPaths(),file.path(R.home("etc"),c("Rprofile.site","Renviron.site"))))`

// rSays makes R write one letter to who listens.
func rSays(private, letter string) string {
	return `w<-file(` + rString(private+"/waits") + `,"wb",raw=TRUE);writeBin(charToRaw("` + letter + `"),w);close(w);invisible(NULL)`
}

func rStrings(all []string) string {
	quoted := make([]string, len(all))
	for i, s := range all {
		quoted[i] = rString(s)
	}
	return "c(" + strings.Join(quoted, ",") + ")"
}

// rString writes a string as R reads it, whatever bytes it has.
func rString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, "\\x%02x", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// startVariables are read when an interpreter starts, or when a library is loaded, by their names or by how those begin: they cannot
// be said later. What Python's modules read is watched (_runner.py); these are the interpreters' own, those of what they run before any
// module (COVERAGE_*), and of libraries that are not Python.
var startVariables = []string{
	"DISPLAY", "EDITOR", "HOME", "LANG", "LANGUAGE", "LOKY_MAX_CPU_COUNT", "PAGER", "PATH", "TEMP", "TMP", "TMPDIR", "TZ", "USER",
	"VECLIB_MAXIMUM_THREADS", "VIRTUAL_ENV", "VISUAL",
	"ARROW_*", "BLIS_*", "CONDA_*", "COVERAGE_*", "COV_CORE_*", "CUDA_*", "DD_*", "GDAL_*", "GLIBC_*", "GOMP_*", "GOTO_*", "GRPC_*", "JAVA_*", "JDK_*", "KMP_*", "LC_*",
	"LD_*", "MALLOC_*", "MKL_*", "MPL*", "MUSTER_*", "NCCL_*", "NPY_*", "NUMBA_*", "NUMEXPR_*", "NVIDIA_*", "OMP_*", "OPENBLAS_*", "OPENCV_*", "OPENSSL_*", "OTEL_*",
	"POLARS_*", "PROJ_*", "PYDEVD_*", "PYTHON*", "PYTORCH_*", "QT_*", "RAYON_*", "R_*", "SETUPTOOLS_*", "TBB_*", "TF_*", "TORCH_*", "XDG_*", "XLA_*", "_JAVA_*", "_R_*",
}

// ThreadVariables say how many threads, or processes, libraries start.
var ThreadVariables = []string{
	"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
	"VECLIB_MAXIMUM_THREADS", "PYTHON_CPU_COUNT", "LOKY_MAX_CPU_COUNT", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
	"R_PARALLELLY_AVAILABLECORES_FALLBACK",
}

// ReadAtStart reports whether a variable counts when an interpreter starts.
func ReadAtStart(name string) bool {
	return slices.ContainsFunc(startVariables, func(v string) bool {
		begin, any := strings.CutSuffix(v, "*")
		return name == v || any && strings.HasPrefix(name, begin)
	})
}

// aheadOfPython makes the runner wait, with modules imported.
func aheadOfPython(c Config, interpreter, private string, modules []string) *Ahead {
	runner := filepath.Join(c.PythonPath, "_muster", "_runner.py")
	argv := func(mode string) []string {
		return append([]string{interpreter, "-u", runner, mode, private}, modules...)
	}
	return &Ahead{Argv: argv("wait"), Fork: argv("fork"), Skip: 3, Reads: []string{interpreter}, Threads: pythonBefore313(interpreter), Bare: len(modules) == 0}
}

var pythonProgram = regexp.MustCompile(`^python3\.([0-9]+)`)

// pythonBefore313 reports whether an interpreter certainly is older than Python 3.13, which reads PYTHON_CPU_COUNT when it starts. Its file
// says so: that of a virtual environment is a link to python3.11.
func pythonBefore313(interpreter string) bool {
	real, err := filepath.EvalSymlinks(interpreter)
	m := pythonProgram.FindStringSubmatch(filepath.Base(real))
	if err != nil || m == nil {
		return false
	}
	minor, err := strconv.Atoi(m[1])
	return err == nil && minor < 13
}

// aheadOfR makes R read its script from a FIFO. When it comes to the first line, its packages are loaded.
func aheadOfR(interpreter, private string, r Request) *Ahead {
	return &Ahead{
		Argv: []string{interpreter, private + "/work"}, Begin: beginOfR(private), Skip: 1,
		All: hasProfile(r) || siteReadsVariables(interpreter), Reads: append(profiles(r), interpreter),
	}
}

//go:embed ahead.scala
var scalaAhead []byte

// aheadOfScala runs a script that warms the compiler up and waits. A virtual machine cannot change its variables.
func aheadOfScala(interpreter, private string, r Request) *Ahead {
	const file = "ahead.scala"
	return &Ahead{
		Argv: []string{interpreter, "-nc", private + "/" + file, private}, Files: map[string][]byte{file: scalaAhead}, Skip: 1, All: true,
		Reads: append(filepath.SplitList(r.Env["CLASSPATH"]), interpreter),
	}
}

var profileVariables = []string{"R_PROFILE", "R_PROFILE_USER", "R_ENVIRON", "R_ENVIRON_USER"}

// hasProfile reports whether R runs or reads something of people's when it starts.
func hasProfile(r Request) bool {
	for _, v := range profileVariables {
		if _, set := r.Env[v]; set {
			return true
		}
	}
	return slices.ContainsFunc(profiles(r), func(file string) bool {
		_, err := os.Stat(file)
		return err == nil
	})
}

// asks finds what in a startup file of R asks for variables: a call, or the name of one.
var asks = regexp.MustCompile(`getenv|\$\{(\w+)`)

// siteReadsVariables reports whether one of the machine's own startup files of R does.
func siteReadsVariables(interpreter string) bool {
	real, err := filepath.EvalSymlinks(interpreter)
	if err != nil {
		real = interpreter
	}
	for _, prefix := range []string{filepath.Dir(filepath.Dir(interpreter)), filepath.Dir(filepath.Dir(real)), "/usr", "/usr/local"} {
		for _, home := range []string{"lib/R", "lib64/R", "."} { // and that of an R which is called in its own folder
			for _, name := range []string{"Rprofile.site", "Renviron.site"} {
				if siteAsks(filepath.Join(prefix, home, "etc", name)) {
					return true
				}
			}
		}
	}
	return false
}

// siteAsks reports whether a startup file asks for variables, besides those that count anyway.
func siteAsks(file string) bool {
	text, _ := os.ReadFile(file) // an error: there is none
	for line := range bytes.Lines(text) {
		code, _, _ := bytes.Cut(line, []byte("#"))
		for _, m := range asks.FindAllSubmatch(code, -1) {
			if !ReadAtStart(string(m[1])) {
				return true
			}
		}
	}
	return false
}

// profiles are the files of people's that R runs or reads when it starts, if they are there.
func profiles(r Request) (files []string) {
	for _, v := range profileVariables {
		if file := r.Env[v]; file != "" {
			files = append(files, file)
		}
	}
	for _, dir := range []string{r.Project, r.Env["HOME"]} {
		files = append(files, filepath.Join(dir, ".Rprofile"), filepath.Join(dir, ".Renviron"))
	}
	return files
}

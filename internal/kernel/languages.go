package kernel

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"muster/engine"
)

func python3(c Config) Language {
	return Language{
		Kernel: engine.Python3, Endings: []string{".py"}, Commands: []string{"python3", "python"}, CodeFile: "code.py",
		Missing: "install Python 3 (Debian: apt-get install python3)",
		Resolve: askPython(c), Command: pythonCommand(c), Prompt: ipythonPrompt(c),
		Ahead: func(interpreter, private string, r Request) *Ahead {
			return aheadOfPython(c, interpreter, private, r.Preload)
		},
	}
}

func python2(c Config) Language {
	return Language{
		Kernel: engine.Python2, Commands: []string{"python2", "python2.7", "pypy", "jython"}, Several: true, CodeFile: "code.py",
		Missing: "install Python 2, PyPy or Jython (Debian: apt-get install jython)",
		Resolve: askPython(c), Command: pythonCommand(c), Prompt: pythonPrompt(c),
	}
}

// pythonCommand runs a file by our runner, which gives it the names and the path that scripts expect. -u: a print appears
// while the worker still runs.
func pythonCommand(c Config) func(context.Context, string, string, bool, Request) ([]string, map[string]string, error) {
	return func(_ context.Context, interpreter, file string, isCode bool, r Request) ([]string, map[string]string, error) {
		mode := "script"
		if isCode {
			mode = "code"
		}
		runner := filepath.Join(c.PythonPath, "_muster", "_runner.py")
		argv := append([]string{interpreter, "-u", runner, mode, file}, r.Args...)
		return argv, pythonPath(c, r), nil
	}
}

// askPython runs a wrapper once to learn the interpreter behind it: starting the wrapper itself for each worker costs far
// more than the interpreter does.
func askPython(c Config) func(context.Context, string, []string, Request) (string, error) {
	return func(ctx context.Context, command string, visible []string, r Request) (string, error) {
		p := engine.Probe{Argv: []string{command, "-c", "import sys; print(sys.executable)"}, Dir: r.Project, Visible: visible}
		for k, v := range r.SearchEnv {
			p.Env = append(p.Env, k+"="+v)
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		out, said, err := r.probe(c.Run)(ctx, p)
		if err != nil {
			return "", fmt.Errorf("%w%s", err, quoted(said))
		}
		real := strings.TrimSpace(string(out))
		err = r.For.Try(func() error {
			switch {
			case sameFile(real, command):
				real = command // a script, but no wrapper: Jython is one
			case !filepath.IsAbs(real) || !isBinary(real):
				return fmt.Errorf("it answered %.200q", real)
			}
			return nil
		})
		return real, err
	}
}

// askTimeout is far more than the slowest wrapper needs.
const askTimeout = time.Minute

// quoted is the beginning of what a wrapper said, for an error.
func quoted(said []byte) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(said), "")), " ")
	switch {
	case text == "":
		return ""
	case len(text) > 200:
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return ": " + text
}

// r runs a file by Rscript. Our package is attached at the start, because it mends base R's server sockets for scripts that
// never call library(cdsw).
func r(c Config) Language {
	return Language{
		Kernel: engine.R, Endings: []string{".r"}, Commands: []string{"Rscript"}, CodeFile: "code.R",
		Missing: "install R (Debian: apt-get install r-base-core r-cran-jsonlite r-cran-curl)",
		Command: func(ctx context.Context, interpreter, file string, _ bool, q Request) ([]string, map[string]string, error) {
			env, err := rEnv(ctx, c, interpreter, q)
			return append([]string{interpreter, file}, q.Args...), env, err
		},
		Prompt: rPrompt(c), Ahead: aheadOfR,
	}
}

const rProfile = "muster.Rprofile" // a name that nobody else gives to such a file

// rEnv makes R read our startup file instead of the site-wide one, which ours reads. A library named by R_LIBS would be the first one,
// to which install.packages() writes, and go unseen where a project has its own libraries.
func rEnv(ctx context.Context, c Config, rscript string, q Request) (map[string]string, error) {
	project := ""
	if q.ownPath(engine.R) {
		project = q.Project
	}
	library, err := c.RLibrary(ctx, q.probe(c.Run), q.For, project, rscript)
	if err != nil {
		return nil, err
	}
	env := map[string]string{"R_PROFILE": filepath.Join(library, rProfile)}
	theirs, set := q.Env["R_PROFILE"]
	if set && filepath.Base(theirs) != rProfile { // else it comes from an engine, and so does the variable below
		env["MUSTER_R_PROFILE"] = theirs
	}
	return env, nil
}

// scala uses -nc: without it the runner starts a compile daemon, which outlives the engine's code and fails on Java 17.
func scala() Language {
	return Language{
		Kernel: engine.Scala, Endings: []string{".scala", ".sc"}, Commands: []string{"scala"}, CodeFile: "code.scala",
		Missing: "install Scala (Debian: apt-get install scala)",
		Command: func(_ context.Context, interpreter, file string, _ bool, r Request) ([]string, map[string]string, error) {
			return append([]string{interpreter, "-nc", file}, r.Args...), javaHeap(r.Env), nil
		},
		Ahead: aheadOfScala,
		Prompt: func(_ context.Context, interpreter string, r Request) ([]string, map[string]string, error) {
			return []string{interpreter}, javaHeap(r.Env), nil
		},
	}
}

// javaHeap lets the heap take the engine's memory but for what the JVM itself needs. Scala's command would give 256 MB
// whatever was asked for, and the JVM by itself a part of the machine's memory.
func javaHeap(env map[string]string) map[string]string {
	megabytes, err := strconv.Atoi(env["CDSW_MEMORY_MB"])
	if err != nil || env["JAVA_OPTS"] != "" {
		return nil
	}
	const own = 250
	return map[string]string{"JAVA_OPTS": fmt.Sprintf("-Xmx%dm", max(megabytes-own, megabytes/2))}
}

func joinPath(first, rest string) string {
	if rest == "" {
		return first
	}
	return first + ":" + rest
}

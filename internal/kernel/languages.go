package kernel

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"muster/engine"
)

func python3(c Config) Language {
	return Language{
		Kernel: engine.Python3, Endings: []string{".py"}, Commands: []string{"python3", "python"}, CodeFile: "code.py",
		Missing: "install Python 3 (Debian: apt-get install python3)",
		Resolve: askPython, Command: pythonCommand(c), Prompt: ipythonPrompt(c),
	}
}

func python2(c Config) Language {
	return Language{
		Kernel: engine.Python2, Commands: []string{"python2", "python2.7", "pypy", "jython"}, CodeFile: "code.py",
		Missing: "install Python 2, PyPy or Jython (Debian: apt-get install jython)",
		Resolve: askPython, Command: pythonCommand(c), Prompt: pythonPrompt(c),
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
		runner := filepath.Join(c.PythonPath, "muster", "_runner.py")
		argv := append([]string{interpreter, "-u", runner, mode, file}, r.Args...)
		return argv, pythonPath(c, r), nil
	}
}

// askPython runs a wrapper once to learn the interpreter behind it: starting the wrapper itself for each worker costs far
// more than the interpreter does.
func askPython(ctx context.Context, command string, r Request) (string, error) {
	cmd := exec.CommandContext(ctx, command, "-c", "import sys; print(sys.executable)")
	cmd.Dir = r.Project
	for k, v := range r.SearchEnv {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	real := strings.TrimSpace(string(out))
	if real == command {
		return command, nil // a script, but no wrapper: Jython is one
	}
	if !filepath.IsAbs(real) || !isBinary(real) {
		return "", fmt.Errorf("it answered %q", real)
	}
	return real, nil
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
		Prompt: rPrompt(c),
	}
}

func rEnv(ctx context.Context, c Config, rscript string, q Request) (map[string]string, error) {
	library, err := c.RLibrary(ctx, rscript)
	if err != nil {
		return nil, err
	}
	packages := q.Env["R_DEFAULT_PACKAGES"]
	if packages == "" || packages == "NULL" {
		packages = "datasets,utils,grDevices,graphics,stats,methods"
	}
	return map[string]string{
		"R_LIBS":             joinPath(library, q.Env["R_LIBS"]),
		"R_DEFAULT_PACKAGES": packages + ",cdsw",
	}, nil
}

// scala uses -nc: without it the runner starts a compile daemon, which outlives the engine's code and fails on Java 17.
func scala() Language {
	return Language{
		Kernel: engine.Scala, Endings: []string{".scala", ".sc"}, Commands: []string{"scala"}, CodeFile: "code.scala",
		Missing: "install Scala (Debian: apt-get install scala)",
		Command: func(_ context.Context, interpreter, file string, _ bool, r Request) ([]string, map[string]string, error) {
			return append([]string{interpreter, "-nc", file}, r.Args...), nil, nil
		},
		Prompt: func(_ context.Context, interpreter string, _ Request) ([]string, map[string]string, error) {
			return []string{interpreter}, nil, nil
		},
	}
}

func joinPath(first, rest string) string {
	if rest == "" {
		return first
	}
	return first + ":" + rest
}

package manager

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"maps"

	"muster/api"
	"muster/engine"
)

const (
	// minMemory is less than any interpreter needs to start.
	minMemory = 4e6
	// maxMemory keeps gigabytes within what an int64 of bytes can say, far beyond any machine.
	maxMemory = 1e9
	// maxEnvString is the kernel's limit for one KEY=VALUE with its final zero byte (MAX_ARG_STRLEN).
	maxEnvString = 128 << 10
	// maxEnv is for what one request gives. What an engine is started with in the end is bounded by maxExec.
	maxEnv = 1 << 20
	// maxExec is for arguments and environment together. The system's limit is 2 MB at the usual stack limit of 8 MB: what is
	// not known yet (GPUs, addresses) and what stands before the interpreter have the rest.
	maxExec = 1_500_000
	// maxName is what still fits a table and a log line.
	maxName = 200
)

func bytesOf(gigabytes float64) int64 { return int64(math.Round(gigabytes * 1e9)) }

func invalid(format string, args ...any) *engine.Error {
	return engine.Errorf(engine.Invalid, format, args...)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// checkSession checks a session's request and fills its defaults in. The script and the kernel are for package kernel.
func checkSession(req *api.CreateSession) error {
	switch kindOf(*req) {
	case kindScript, kindTerminal:
	case kindAttached:
		return checkAttached(req)
	default:
		return invalid("there is no kind of session %q: script, terminal or attached", req.Kind)
	}
	if req.CPU == 0 {
		req.CPU = 1
	}
	if err := checkTerminal(req); err != nil {
		return err
	}
	if req.Script == "" && req.Code == "" && req.TTY == nil {
		return invalid("there is nothing to run: give a script or code")
	}
	if err := checkProject(req.Project); err != nil {
		return err
	}
	if req.OwnerPID < 0 {
		return invalid("owner_pid must be the id of a process, not %d", req.OwnerPID)
	}
	if req.Interpreter != "" {
		return invalid("the interpreter %q is given: only that of an attached session can be, others are found by base_env", req.Interpreter)
	}
	if req.Memory != 0 { // 0 is no limit
		if err := checkMemory(req.Memory); err != nil {
			return err
		}
	}
	for _, arg := range req.Args {
		if strings.Contains(arg, "\x00") {
			return invalid("the argument %q has a NUL byte", arg)
		}
	}
	if err := checkEnv("base_env", req.BaseEnv); err != nil {
		return err
	}
	return checkCommon(req.Name, req.Kernel, req.CPU, req.GPUs, req.Code, req.Script, req.Env)
}

// checkWorkers checks what the workers of a launch ask for.
func checkWorkers(req *api.LaunchWorkers) error {
	if err := checkMemory(req.Memory); err != nil {
		return err
	}
	if err := checkGroup(req.Group); err != nil {
		return err
	}
	return checkCommon(req.Name, req.Kernel, req.CPU, req.GPUs, req.Code, req.Script, req.Env)
}

// checkIDs bounds the reply, which describes or answers each id, also one that is no worker's.
func checkIDs(ids []string) error {
	if len(ids) > maxLaunch {
		return invalid("%d ids are given: at most %d are taken at once", len(ids), maxLaunch).
			WithHint("leave ids out for all workers of the session, or ask for some after the others")
	}
	return nil
}

func checkCommon(name, kernel string, cpu float64, gpus int, code, script string, env map[string]string) error {
	switch {
	case !finite(cpu) || cpu <= 0:
		return invalid("cpu must be a number of cores above 0, not %v", cpu)
	case gpus < 0:
		return invalid("nvidia_gpu must be 0 or more, not %d", gpus)
	case len(kernel) > maxName:
		return invalid("the kernel's name has %d bytes: at most %d are allowed", len(kernel), maxName)
	case len(script) > maxPath:
		return invalid("the script's name has %d bytes: at most %d are allowed", len(script), maxPath)
	case len(name) > maxName:
		return invalid("the name has %d bytes: at most %d are allowed", len(name), maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return invalid("the name %q has characters that cannot be printed", name)
	case strings.Contains(script, "\x00"):
		return invalid("the script's name %q has a NUL byte", script)
	}
	if script == "" {
		if err := checkCode(code); err != nil {
			return err
		}
	}
	return checkEnv("env", env)
}

func checkProject(dir string) error {
	if dir == "" {
		return invalid("no project folder is given")
	}
	if !filepath.IsAbs(dir) {
		return invalid("the project folder %q is no absolute path", dir)
	}
	info, err := os.Stat(dir)
	if os.IsNotExist(err) {
		return invalid("the project folder %s does not exist", dir)
	}
	if err != nil {
		return invalid("the project folder cannot be used: %v", err)
	}
	if !info.IsDir() {
		return invalid("the project %s is no folder", dir)
	}
	return nil
}

// checkShared refuses folders that cannot be a session's project because engines have their own in their place.
func checkShared(dir string, isolated bool) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		real = filepath.Clean(dir)
	}
	for _, kernels := range []string{"/proc", "/sys"} {
		if real == kernels || strings.HasPrefix(real, kernels+"/") {
			return invalid("the project folder %s lies in %s, which is the system's: it holds no files of a project", dir, kernels).
				WithHint("use a folder of your own")
		}
	}
	if isolated && slices.Contains(engine.PrivateDirs, real) {
		return invalid("the project folder %s cannot be shared: every engine has its own %s", dir, real).WithHint("use a folder in it")
	}
	return nil
}

func checkMemory(gb float64) error {
	switch {
	case !finite(gb) || gb <= 0:
		return invalid("memory must be a number of gigabytes above 0, not %v", gb)
	case gb > maxMemory:
		return invalid("memory must be a number of gigabytes, %v is too large to be one", gb)
	case bytesOf(gb) < minMemory:
		return invalid("memory is %s GB (%s): an interpreter needs at least 0.004 GB (4 MB) to start", number(gb), size(bytesOf(gb)))
	}
	return nil
}

// checkTerminal checks a session's request for a terminal, and fills in what it implies.
func checkTerminal(req *api.CreateSession) error {
	if req.TTY == nil {
		if req.Kind == kindTerminal {
			return invalid("a session of kind terminal needs tty, the terminal's size")
		}
		return nil
	}
	if req.Script != "" || req.Code != "" {
		return invalid("a session with a terminal has the kernel's prompt: give no script and no code")
	}
	for name, n := range map[string]int{"rows": req.TTY.Rows, "cols": req.TTY.Cols} {
		if n < 1 || n > math.MaxUint16 {
			return invalid("a terminal cannot have %d %s", n, name)
		}
	}
	req.Stdin, req.Terminal = true, true
	return nil
}

func checkCode(code string) error {
	if i := strings.IndexByte(code, 0); i >= 0 {
		return invalid("the code has a NUL byte at offset %d", i)
	}
	if !utf8.ValidString(code) {
		i := 0
		for i < len(code) {
			r, n := utf8.DecodeRuneInString(code[i:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			i += n
		}
		return invalid("the code is not UTF-8: byte %#x at offset %d", code[i], i)
	}
	return nil
}

// checkEnv names the first key, in order of names, with which something is wrong.
func checkEnv(what string, env map[string]string) error {
	total := 0
	for _, k := range slices.Sorted(maps.Keys(env)) {
		v := env[k]
		switch {
		case k == "":
			return invalid("%s has a variable without a name", what)
		case strings.ContainsAny(k, "=\x00"):
			return invalid("%s: %q cannot be the name of a variable", what, shorten(k))
		case strings.Contains(v, "\x00"):
			return invalid("%s: the value of %s has a NUL byte", what, shorten(k))
		case len(k)+len(v)+2 > maxEnvString:
			return invalid("%s: the value of %s has %s, the system's limit is %s", what, shorten(k), size(int64(len(v))), size(maxEnvString)).
				WithHint("write it to a file in the project")
		}
		total += len(k) + len(v) + 2
	}
	if total > maxEnv {
		return invalid("%s has %s in all, at most %s are allowed", what, size(int64(total)), size(maxEnv)).
			WithHint("write large values to a file in the project")
	}
	return nil
}

// checkExec checks what an engine is started with as the system does: each string, and all of them with their pointers.
func checkExec(argv []string, env vars) error {
	total := 0
	for _, arg := range argv {
		if len(arg)+1 > maxEnvString {
			return invalid("the argument %s has %s, the system's limit is %s", strconv.Quote(shorten(arg)), size(int64(len(arg))), size(maxEnvString)).
				WithHint("write it to a file in the project")
		}
		total += len(arg) + 1 + 8
	}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		n := len(k) + len(env[k]) + 2
		if n > maxEnvString {
			return invalid("the engine's variable %s has %s in the end, the system's limit is %s", shorten(k), size(int64(len(env[k]))), size(maxEnvString))
		}
		total += n + 8
	}
	if total > maxExec {
		return invalid("the engine's environment and arguments have %s in all, at most %s are allowed", size(int64(total)), size(maxExec)).
			WithHint("write large values to a file in the project")
	}
	return nil
}

// shorten keeps a name in a message from filling the screen.
func shorten(s string) string {
	if len(s) > 60 {
		return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:60], ""), len(s))
	}
	return s
}

func sessionName(req api.CreateSession) string {
	switch {
	case kindOf(req) == kindAttached && req.Name != "":
		return readable(req.Name)
	case req.Name != "":
		return req.Name
	case req.Script != "":
		return readable(filepath.Base(req.Script))
	default:
		return "session"
	}
}

// readable makes a name of a file's, which may be long and hold any characters.
func readable(file string) string {
	return cut(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(file, "?")), maxName-len("…"))
}

package project

import (
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"muster/engine"
	"muster/internal/kernel"
)

// parse reads the settings, and returns the problem that stands first.
func parse(content []byte) (Settings, *problem) {
	d, p := parseDocument(content)
	if p != nil {
		return Settings{}, p
	}
	t := d.root()
	s := Settings{
		Name:        t.text("name", "a name", isName),
		Owner:       t.text("owner", "a name", isName),
		HomeAlias:   t.flag("home_alias"),
		Environment: variables(t.table("environment")),
		Session:     size(t.table("session")),
		Worker:      size(t.table("worker")),
		Preload:     t.list("preload", `names of Python modules, such as ["numpy"]`, moduleName.MatchString),
		Kernels:     kernels(t.table("kernels")),
		Limits:      limits(t.table("limits")),
		Logs:        logs(t.table("logs")),
	}
	t.end()
	return s, d.first()
}

// isName accepts what fits a table, a URL's part and a log line.
func isName(s string) bool {
	return len(s) <= 100 && strings.ContainsFunc(s, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

const (
	coresWanted     = "a number of cores above 0, such as 0.5"
	gigabytesWanted = "a number of gigabytes above 0, such as 1.5"
	gpusWanted      = "a whole number of GPUs, 0 or more"
)

// leastMemory is what the manager asks for at least: no interpreter starts with less.
const leastMemory = 0.004

func size(t *table) Size {
	defer t.end()
	s := Size{CPU: t.number("cpu", coresWanted), Memory: t.number("memory", gigabytesWanted), GPUs: t.whole("gpu", gpusWanted, 0)}
	if s.Memory > 0 && s.Memory < leastMemory {
		t.wrong("memory", "0.004 gigabytes (4 MB) or more", s.Memory)
	}
	return s
}

func limits(t *table) Limits {
	defer t.end()
	return Limits{
		Workers: t.whole("workers", "a whole number of workers, 1 or more", 1),
		CPU:     t.number("cpu", coresWanted), Memory: t.number("memory", gigabytesWanted),
		GPUs: t.whole("gpu", "a whole number of GPUs, 1 or more", 1), HardCPU: t.flag("hard_cpu"),
	}
}

func logs(t *table) Logs {
	defer t.end()
	return Logs{Days: t.whole("days", "a whole number of days, 1 or more", 1), Size: t.number("size", gigabytesWanted)}
}

// variables takes all keys: they are variables' names. Those by which Muster tells engines who they are, and steers its
// clients, are its own.
func variables(t *table) map[string]string {
	vars := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(t.values)) {
		value, isText := t.take(name).(string)
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			t.doc.bad(t.at(name), "cannot be the name of a variable")
		case name != "MUSTER_SSH" && (name == "PROJECT_OWNER" || hasPrefix(name, "CDSW_", "CML_", "MUSTER_")):
			t.doc.bad(t.at(name), "is a variable that Muster sets for each engine: take it out")
		case !isText:
			t.wrong(name, `text in quotes, such as "1"`, t.values[name])
		case strings.Contains(value, "\x00"):
			t.wrong(name, "text without NUL bytes", value)
		}
		vars[name] = value
	}
	return vars
}

func hasPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

var moduleName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

var kernelName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,39}$`)

// kernels takes all keys: they are kernels' names.
func kernels(t *table) []kernel.Own {
	var all []kernel.Own
	byEnding := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(t.values)) {
		k := t.table(name)
		own := kernel.Own{
			Kernel:   engine.Kernel(name),
			Commands: k.list("command", "a program's name or path, or a list of them", isCommand),
			Endings:  k.list("endings", `endings of scripts' names, such as [".jl"]`, isEnding),
			Script:   k.list("script", `the arguments of a script, such as ["{file}"]`, anything),
			Code:     k.list("code", `the arguments of code, such as ["-e", "{code}"]`, anything),
		}
		k.end()
		for i, e := range own.Endings {
			own.Endings[i] = strings.ToLower(e)
			if other := byEnding[own.Endings[i]]; other != "" && other != name {
				k.doc.bad(k.at("endings"), "has %s, which kernel %s has too", e, other)
			}
			byEnding[own.Endings[i]] = name
		}
		checkKernel(k, name, own)
		all = append(all, own)
	}
	return all
}

func checkKernel(k *table, name string, own kernel.Own) {
	switch {
	case name == "python":
		k.doc.bad(k.path, "is called python3 here")
	case !kernelName.MatchString(name):
		k.doc.bad(k.path, "is no name for a kernel: lower-case letters, digits, - and . are")
	case own.Commands == nil && k.values["command"] == nil && !kernel.BuiltIn(own.Kernel):
		k.doc.bad(k.path, `needs command, the program that runs it, such as command = "%s"`, name)
	}
	if own.Script != nil && !mentions(own.Script, "{file}") {
		k.doc.bad(k.at("script"), `must have "{file}" where the script's path is to stand`)
	}
	if own.Code != nil && !mentions(own.Code, "{code}") && !mentions(own.Code, "{file}") {
		k.doc.bad(k.at("code"), `must have "{code}", or "{file}" for a file that holds the code`)
	}
}

func mentions(list []string, what string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, what) })
}

// isCommand accepts a name to be looked for on the PATH, a path in the project, or an absolute one.
func isCommand(s string) bool {
	return s != "" && (!strings.Contains(s, "/") || filepath.IsAbs(s) || filepath.IsLocal(s) && path.Base(s) != ".")
}

func isEnding(s string) bool {
	return len(s) > 1 && strings.HasPrefix(s, ".") && !strings.ContainsAny(s[1:], "./ ")
}

func anything(string) bool { return true }

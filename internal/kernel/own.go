package kernel

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"muster/engine"
)

// Own is a project's own entry of the table: a language that Muster does not know by itself, or another way to run one that it
// does. What is not said stays as it is built in.
type Own struct {
	Kernel engine.Kernel
	// Commands are names that are looked for on the PATH, or paths, relative to the project or absolute. What a path leads to
	// must be a file that engines see anyway: the entry may be an engine's writing.
	Commands []string
	Endings  []string // of script names, with the dot, lower case
	Script   []string // the interpreter's arguments for a script, whose path stands for "{file}"; the script's own follow
	Code     []string // the same for code, which stands for "{code}", and a file that holds it for "{file}"; nil: as Script
}

// builtIn are the kernels that Muster knows by itself.
var builtIn = []engine.Kernel{engine.Python3, engine.Python2, engine.R, engine.Scala}

// BuiltIn reports whether Muster knows a kernel by itself.
func BuiltIn(k engine.Kernel) bool { return slices.Contains(builtIn, k) }

// languages is the table as one request sees it.
type languages map[engine.Kernel]Language

// with returns the table with a project's own entries in it.
func (ls languages) with(own []Own) languages {
	if len(own) == 0 {
		return ls
	}
	all := maps.Clone(ls)
	for _, o := range own {
		for k, l := range all { // an ending is one kernel's
			l.Endings = slices.DeleteFunc(slices.Clone(l.Endings), func(e string) bool { return slices.Contains(o.Endings, e) })
			all[k] = l
		}
		all[o.Kernel] = o.over(all[o.Kernel])
	}
	return all
}

// over returns a built-in language, or none, as the entry changes it.
func (o Own) over(l Language) Language {
	if l.Kernel == "" {
		l = Language{Kernel: o.Kernel, CodeFile: "code", Prompt: plainPrompt}
		if len(o.Endings) > 0 {
			l.CodeFile += o.Endings[0]
		}
	}
	if len(o.Commands) > 0 {
		l.Commands = o.Commands
		l.Missing = "install it, or correct kernels." + string(o.Kernel) + ".command in the project's settings (muster.toml)"
	}
	if len(o.Endings) > 0 {
		l.Endings = o.Endings
	}
	if o.Script != nil || o.Code != nil {
		l.Ahead = nil // it waits as the built-in one is started
	}
	l.Command = o.command(l.Command)
	return l
}

// command fills the entry's arguments in. What the built-in language adds to the environment stays.
func (o Own) command(builtIn commandFunc) commandFunc {
	return func(ctx context.Context, interpreter, file string, isCode bool, r Request) (argv []string, env map[string]string, err error) {
		if builtIn != nil {
			if argv, env, err = builtIn(ctx, interpreter, file, isCode, r); err != nil {
				return nil, nil, err
			}
		}
		form := o.Script
		if isCode && o.Code != nil {
			form = o.Code
		}
		if form == nil && builtIn != nil {
			return argv, env, nil
		}
		if form == nil {
			form = []string{"{file}"}
		}
		fill := strings.NewReplacer("{file}", file, "{code}", r.Code)
		argv = []string{interpreter}
		for _, argument := range form {
			argv = append(argv, fill.Replace(argument))
		}
		return append(argv, r.Args...), env, nil
	}
}

func plainPrompt(_ context.Context, interpreter string, _ Request) ([]string, map[string]string, error) {
	return []string{interpreter}, nil, nil
}

// byEnding returns the kernel that a script's name says.
func (ls languages) byEnding(script string) (engine.Kernel, bool) {
	ending := strings.ToLower(filepath.Ext(script))
	for _, name := range ls.names() {
		if slices.Contains(ls[engine.Kernel(name)].Endings, ending) {
			return engine.Kernel(name), true
		}
	}
	return "", false
}

func (ls languages) names() []string {
	var names []string
	for k := range ls {
		names = append(names, string(k))
	}
	// python3 before python2.
	sort.Sort(sort.Reverse(sort.StringSlice(names)))
	return names
}

// byPath reports whether the language's command may be one by path, which is the project's word.
func (l Language) byPath() bool {
	return slices.ContainsFunc(l.Commands, func(c string) bool { return strings.Contains(c, "/") })
}

// ownPath reports whether a kernel's command may be one by path.
func (r Request) ownPath(k engine.Kernel) bool {
	return slices.ContainsFunc(r.Own, func(o Own) bool { return o.Kernel == k && Language{Commands: o.Commands}.byPath() })
}

// visible are the folders that the interpreter needs. The word of a project shows engines nothing that they would not see.
func (l Language) visible(interpreter string) []string {
	if l.byPath() {
		return nil
	}
	return installation(interpreter)
}

// visibleTo is visible, with the rights of the request's user.
func (l Language) visibleTo(r Request, interpreter string) (folders []string, err error) {
	err = r.For.Do(func() { folders = l.visible(interpreter) })
	return folders, err
}

// commandAt returns the file that a command by path means.
func commandAt(l Language, command string, r Request) (string, error) {
	file := command
	if !filepath.IsAbs(file) {
		file = filepath.Join(r.Project, file)
	}
	real, seen := follow(r, file)
	if !seen {
		return "", engine.Errorf(engine.Invalid, "the command %s of kernel %s leads to a folder that engines do not see", command, l.Kernel).
			WithHint("install it elsewhere than in %s, or in the project", strings.Join(privateDirs, ", "))
	}
	if !isExecutable(real) {
		return "", nil
	}
	return file, nil
}

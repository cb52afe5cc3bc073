// Package kernel knows how each language is started and fed code: which interpreter runs it, which script or code is good
// input, and what must stand in its environment so that our clients can be imported. It makes the command line; it starts
// nothing itself, but asks a wrapper script once which interpreter it stands for. Engines can write to the folders of the PATH,
// so the wrapper runs isolated like them (Config.Run); and interpreters are looked up only in Request.SearchEnv, which an
// engine's request must never reach. The manager imports this package; it looks only at packages engine and turns.
package kernel

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"strings"
	"sync"

	"muster/engine"
	"muster/internal/turns"
)

// Request is what is to be run. If both Script and Code are empty the engine idles until it is stopped.
type Request struct {
	Kernel      engine.Kernel // empty: by the script's ending
	Script      string        // relative to Project, or absolute
	Code        string        // used if Script is empty
	Args        []string
	Project     string                   // absolute
	Env         map[string]string        // the whole environment of the engine to be: what the Command adds is merged with it
	SearchEnv   map[string]string        // where interpreters are looked up (PATH), and what a wrapper script that is asked gets
	Trusted     bool                     // the owner asks, not an engine: the script may be any file of the host
	Interactive bool                     // the interpreter's prompt, in a terminal: there is no Script and no Code
	Interpreter map[engine.Kernel]string // the session's real interpreters, as far as known
	Shared      []string                 // Command.Shared of the session's first request
	Own         []Own                    // the project's own entries of the table
	Preload     []string                 // Python modules that one that is started ahead imports, besides those of preload
	For         *engine.Behalf           // whose rights count for what is looked at and asked
}

// Command is how it is run.
type Command struct {
	Kernel      engine.Kernel
	Interpreter string // absolute path, no wrapper
	Argv        []string
	// Private, if not empty, stands in Argv for the engine's private folder, which will hold Files. It is another text each time:
	// code and arguments that people wrote do not hold it.
	Private string
	Env     map[string]string // additions, to be laid over Request.Env
	Files   map[string][]byte
	Visible []string // folders that the interpreter needs even if they lie in /tmp
	Shared  []string // see driver.Spec
	// Ahead is how it can be started ahead of this work, and others of the same interpreter; nil: it cannot.
	Ahead *Ahead
}

// Language is an entry of the table.
type Language struct {
	Kernel   engine.Kernel
	Endings  []string // of script names, with the dot, lower case
	Commands []string // looked for on PATH, the first one that is there is taken
	Missing  string   // what to do when there is none
	Several  bool     // Commands are different programs: where a wrapper stands for none, the next one is taken
	CodeFile string   // name of the file that holds code
	// Resolve asks a wrapper script (such as a version manager's shim), which sees what is visible, which interpreter it stands
	// for; nil: taken as it is.
	Resolve func(ctx context.Context, command string, visible []string, r Request) (string, error)
	// Command makes the command line for a file, and what it adds to the environment.
	Command commandFunc
	// Prompt makes the command line of the interactive interpreter, and what it adds to the environment.
	Prompt func(ctx context.Context, interpreter string, r Request) (argv []string, env map[string]string, err error)
	// Ahead makes the command line of one that waits, in a private folder, for what Command would have run; nil: it cannot.
	Ahead func(interpreter, private string, r Request) *Ahead
}

type commandFunc func(ctx context.Context, interpreter, file string, isCode bool, r Request) (argv []string, env map[string]string, err error)

// Table holds the languages. Its methods are safe for concurrent use.
type Table struct {
	languages languages
	visible   []string
	own       []string // the real places of visible
	mu        sync.Mutex
	resolved  map[string]string       // what is known of a wrapper (wrapperKey) → interpreter
	asking    map[string]*turns.Turns // of each user apart: wrappers of one that hang hold up nobody else's
}

// aliases are other names of kernels, as people write them.
var aliases = map[engine.Kernel]engine.Kernel{"python": engine.Python3}

// Config says where our own clients lie.
type Config struct {
	// Visible are folders that every engine must see, such as the one that holds the clients.
	Visible []string
	// PythonPath is the folder with the Python packages cdsw, cml and muster.
	PythonPath string
	// Run runs a wrapper that is asked.
	Run engine.RunProbe
	// RLibrary returns the R library with the packages cdsw and cml, and the startup file muster.Rprofile for them, made for that R by what run runs. It may take seconds the
	// first time. on is for whom. project is the one whose own settings say where that R lies, "" if it was found on the session's PATH.
	RLibrary func(ctx context.Context, run engine.RunProbe, on *engine.Behalf, project, rscript string) (string, error)
}

// NewTable returns the table of the languages that Muster knows by itself.
func NewTable(c Config) *Table {
	t := &Table{
		visible: c.Visible, own: realPlaces(c.Visible), languages: languages{},
		resolved: map[string]string{}, asking: map[string]*turns.Turns{},
	}
	for _, l := range []Language{python3(c), python2(c), r(c), scala()} {
		t.languages[l.Kernel] = l
	}
	return t
}

// Prepare checks the request and makes the command. Errors are *engine.Error: for the person who asked. A trusted request is a
// session's first one: what its engines share is settled by it.
func (t *Table) Prepare(ctx context.Context, r Request) (Command, error) {
	if r.Trusted {
		if err := r.For.Do(func() { r.Shared = t.shared(r) }); err != nil {
			return Command{}, err
		}
	}
	c, err := t.prepare(ctx, r)
	if c.Shared = r.Shared; r.Trusted && err == nil {
		err = r.For.Do(func() { c.Shared = append(c.Shared, realPlaces(c.Visible)...) })
	}
	return c, err
}

func (t *Table) prepare(ctx context.Context, r Request) (Command, error) {
	var script string
	var l Language
	err := r.For.Try(func() (err error) {
		if script, err = scriptOf(r); err == nil {
			l, err = t.languages.with(r.Own).language(r)
		}
		return err
	})
	if err != nil {
		return Command{}, err
	}
	if r.Interactive {
		return t.prompt(ctx, l, r)
	}
	if r.Script == "" && r.Code == "" {
		return Command{Kernel: l.Kernel, Argv: []string{"/bin/sleep", "infinity"}, Visible: t.visible}, nil
	}
	file, isCode, private := script, script == "", ""
	if isCode || l.Ahead != nil {
		private = "{" + rand.Text() + "}"
	}
	if isCode {
		file = private + "/" + l.CodeFile
	}
	interpreter, err := t.interpreter(ctx, l, r)
	if err != nil {
		return Command{}, err
	}
	argv, env, err := l.Command(ctx, interpreter, file, isCode, r)
	if err != nil {
		return Command{}, err
	}
	c := Command{Kernel: l.Kernel, Interpreter: interpreter, Argv: argv, Private: private, Env: env}
	if l.Ahead != nil {
		err := r.For.Do(func() {
			if l.Kernel == engine.Python3 {
				r.Preload = preload(r, script)
			}
			c.Ahead = l.Ahead(interpreter, private, r)
		})
		if err != nil {
			return Command{}, err
		}
	}
	if c.Visible, err = l.visibleTo(r, interpreter); err != nil {
		return Command{}, err
	}
	c.Visible = append(c.Visible, t.visible...)
	if !isCode && r.Trusted {
		// An engine's own requests show it nothing: a link in the project could be turned to any file by the time it starts.
		c.Visible = append(c.Visible, file)
	}
	if isCode {
		c.Files = map[string][]byte{l.CodeFile: []byte(r.Code)}
	}
	return c, nil
}

// ByEnding returns the kernel that a script's name says.
func (t *Table) ByEnding(script string, own []Own) (engine.Kernel, bool) {
	return t.languages.with(own).byEnding(script)
}

func (ls languages) language(r Request) (Language, error) {
	name := r.Kernel
	if name == "" {
		byEnding, ok := ls.byEnding(r.Script)
		if !ok {
			return Language{}, ls.noEnding(r)
		}
		name = byEnding
	}
	if other := aliases[name]; other != "" {
		name = other
	}
	l, ok := ls[name]
	if !ok {
		return Language{}, engine.Errorf(engine.Invalid, "unknown kernel %q", name).
			WithHint("%s", ls.offer(r))
	}
	return l, nil
}

// noEnding says what to do with a script whose ending is no language's.
func (ls languages) noEnding(r Request) error {
	if strings.EqualFold(filepath.Ext(r.Script), ".ipynb") {
		return engine.Errorf(engine.Invalid, "%q is a notebook, and a script is wanted", r.Script).
			WithHint("jupyter nbconvert --to script %s, and then run what that writes", r.Script)
	}
	return engine.Errorf(engine.Invalid, "cannot tell the kernel of script %q from its ending", r.Script).WithHint("%s", ls.offer(r))
}

// offer names the kernels, those first for which something is installed.
func (ls languages) offer(r Request) string {
	var here, missing []string
	for _, name := range ls.names() {
		if command, _, err := ls[engine.Kernel(name)].find(r); command != "" && err == nil {
			here = append(here, name)
		} else {
			missing = append(missing, name)
		}
	}
	text := "name a kernel: " + strings.Join(here, ", ")
	if len(here) == 0 {
		text = "no kernel is installed"
	}
	if len(missing) > 0 {
		text += " (not installed: " + strings.Join(missing, ", ") + ")"
	}
	return text
}

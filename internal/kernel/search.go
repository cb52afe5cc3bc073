package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"muster/engine"
	"muster/internal/turns"
)

// askedAtOnce is how many wrappers are asked at the same time, each with memory of its own beside that of the engines.
const askedAtOnce = 4

// maxResolved bounds what is remembered of wrappers: a server that runs for months sees many projects.
const maxResolved = 1000

// interpreter finds the real interpreter: the session's own, else the first command that is there.
func (t *Table) interpreter(ctx context.Context, l Language, r Request) (string, error) {
	if known := r.Interpreter[l.Kernel]; known != "" {
		return known, nil
	}
	var command string
	var rest []string
	isReal := false
	err := r.For.Try(func() (err error) {
		command, rest, err = l.find(r)
		isReal = err == nil && command != "" && (l.Resolve == nil || isBinary(command))
		return err
	})
	if err != nil {
		return "", err
	}
	if command == "" {
		where := "is not on the PATH that was searched (" + r.SearchEnv["PATH"] + ")"
		if l.byPath() {
			where = "is no program that is there"
		}
		return "", engine.Errorf(engine.Unavailable, "no interpreter for kernel %s: %s %s", l.Kernel, strings.Join(l.Commands, " or "), where).
			WithHint("%s", l.Missing)
	}
	if isReal {
		return command, nil
	}
	if known, _, err := t.knownFor(command, r); known != "" || err != nil {
		return known, err
	}
	real, err := t.inTurn(ctx, l, command, r)
	if err == nil || !l.Several || len(rest) == 0 {
		return real, err
	}
	l.Commands = rest
	if real, other := t.interpreter(ctx, l, r); other == nil {
		return real, nil
	}
	return "", err // of the command that is preferred
}

// inTurn asks a wrapper when it is the request's turn.
func (t *Table) inTurn(ctx context.Context, l Language, command string, r Request) (string, error) {
	done, err := t.turns(r).Begin(ctx, r.Project)
	if err != nil {
		return "", err
	}
	defer done()
	return t.ask(ctx, l, command, r)
}

// turns are those of the request's user.
func (t *Table) turns(r Request) *turns.Turns {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine := t.asking[r.For.Key()]
	if mine == nil {
		mine = turns.New(askedAtOnce)
		t.asking[r.For.Key()] = mine
	}
	return mine
}

// ask asks a wrapper, unless somebody did so while this waited for its turn.
func (t *Table) ask(ctx context.Context, l Language, command string, r Request) (string, error) {
	known, key, err := t.knownFor(command, r)
	if known != "" || err != nil {
		return known, err
	}
	if err := t.turns(r).Refused(key); err != nil {
		return "", err
	}
	visible, err := l.visibleTo(r, command)
	if err != nil {
		return "", err
	}
	real, err := l.Resolve(ctx, command, append(visible, t.visible...), r)
	if told := (*engine.Error)(nil); errors.As(err, &told) {
		return "", err // it could not be run: nothing was asked
	}
	if err != nil {
		err := engine.Errorf(engine.Unavailable, "%s does not say which interpreter it stands for: %v", command, err).
			WithHint("put the interpreter itself first on the PATH")
		if ctx.Err() == nil { // else its caller went away
			t.turns(r).Refuse(key, err)
		}
		return "", err
	}
	t.know(key, real)
	return real, nil
}

// wrapperKey holds what the answer of a wrapper depends on. Version managers choose by variables and by a file in the
// project; a wrapper that was installed anew may stand for another interpreter.
func wrapperKey(command string, r Request) string {
	parts := []string{command, modified(command), r.Project, modified(filepath.Join(r.Project, ".python-version")), r.For.Key()}
	for _, k := range []string{"PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION"} {
		parts = append(parts, r.SearchEnv[k])
	}
	return strings.Join(parts, "\x00")
}

// modified is when a file was changed, as text; "" if it is not there.
func modified(file string) string {
	info, err := os.Stat(file)
	if err != nil {
		return ""
	}
	return info.ModTime().String()
}

// knownFor is the answer of a wrapper that is known, "" if there is none that still holds, and its key.
func (t *Table) knownFor(command string, r Request) (known, key string, err error) {
	err = r.For.Do(func() {
		key = wrapperKey(command, r)
		if known = t.known(key); known != command && !isBinary(known) {
			known = ""
		}
	})
	return known, key, err
}

func (t *Table) known(key string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.resolved[key]
}

func (t *Table) know(key, interpreter string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.resolved) >= maxResolved {
		clear(t.resolved) // asking again costs less than knowing who was asked last
	}
	t.resolved[key] = interpreter
}

// find returns the first of the language's commands that is there, "" if none is, and those that come after it.
func (l Language) find(r Request) (file string, rest []string, err error) {
	for i, c := range l.Commands {
		if strings.Contains(c, "/") {
			if file, err = commandAt(l, c, r); err != nil {
				return "", nil, err
			}
		} else {
			file = lookPath([]string{c}, r.SearchEnv["PATH"])
		}
		if file != "" {
			return file, l.Commands[i+1:], nil
		}
	}
	return "", nil, nil
}

// lookPath finds the first of the commands in path. The session's PATH counts, not ours.
func lookPath(commands []string, path string) string {
	for _, c := range commands {
		for _, dir := range filepath.SplitList(path) {
			file := filepath.Join(dir, c)
			if isExecutable(file) && filepath.IsAbs(file) {
				return file
			}
		}
	}
	return ""
}

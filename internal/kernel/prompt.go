package kernel

import (
	"context"
	"path/filepath"

	"muster/engine"
)

// prompt makes the command of the language's interactive interpreter, whose line editor, completion and history are its own.
func (t *Table) prompt(ctx context.Context, l Language, r Request) (Command, error) {
	if l.Prompt == nil {
		return Command{}, engine.Errorf(engine.Invalid, "kernel %s has no interactive interpreter", l.Kernel)
	}
	interpreter, err := t.interpreter(ctx, l, r)
	if err != nil {
		return Command{}, err
	}
	argv, env, err := l.Prompt(ctx, interpreter, r)
	if err != nil {
		return Command{}, err
	}
	visible, err := l.visibleTo(r, interpreter)
	if err != nil {
		return Command{}, err
	}
	return Command{
		Kernel: l.Kernel, Interpreter: interpreter, Argv: argv, Env: env, Visible: append(visible, t.visible...),
	}, nil
}

// chooseIPython becomes IPython where the interpreter has it, else the interpreter's own prompt. It is asked in the engine:
// finding out on the host, as for wrappers, would cost a start of the interpreter more.
const chooseIPython = `import importlib.util, os, sys
has = importlib.util.find_spec("IPython") is not None
os.execv(sys.executable, [sys.executable] + (["-m", "IPython"] if has else []))`

func ipythonPrompt(c Config) func(context.Context, string, Request) ([]string, map[string]string, error) {
	return func(_ context.Context, interpreter string, r Request) ([]string, map[string]string, error) {
		return []string{interpreter, "-c", chooseIPython}, pythonPath(c, r), nil
	}
}

func pythonPrompt(c Config) func(context.Context, string, Request) ([]string, map[string]string, error) {
	return func(_ context.Context, interpreter string, r Request) ([]string, map[string]string, error) {
		return []string{interpreter}, pythonPath(c, r), nil
	}
}

func pythonPath(c Config, r Request) map[string]string {
	return map[string]string{"PYTHONPATH": joinPath(c.PythonPath, r.Env["PYTHONPATH"])}
}

// rPrompt starts R itself, which lies beside Rscript. The workspace is not saved and not asked about at the end, which is also
// that of the workers; R's package keeps the history of commands (history.R).
func rPrompt(c Config) func(context.Context, string, Request) ([]string, map[string]string, error) {
	return func(ctx context.Context, rscript string, q Request) ([]string, map[string]string, error) {
		command := filepath.Join(filepath.Dir(rscript), "R")
		there := false
		if err := q.For.Do(func() { there = isExecutable(command) }); err != nil {
			return nil, nil, err
		}
		if !there {
			return nil, nil, engine.Errorf(engine.Unavailable, "there is no R beside %s", rscript).
				WithHint("install R (Debian: apt-get install r-base-core)")
		}
		env, err := rEnv(ctx, c, rscript, q)
		if err != nil {
			return nil, nil, err
		}
		env["MUSTER_R_HISTORY"] = "1"
		return []string{command, "--no-save"}, env, nil
	}
}

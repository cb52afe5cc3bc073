package fake

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"muster/internal/console"
)

// play runs the program to its end.
func (pr *proc) play() outcome {
	pr.env = map[string]string{}
	for _, kv := range pr.spec.Env {
		k, v, _ := strings.Cut(kv, "=")
		pr.env[k] = v
	}
	for _, line := range strings.Split(pr.text(), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if !pr.sleep(0) {
			return pr.killed()
		}
		word, arg, _ := strings.Cut(line, " ")
		f := instructions[word]
		if f == nil {
			pr.write(console.Stderr, []byte("fake: no such instruction: "+line+"\n"))
			return outcome{code: 2}
		}
		if word != "raw" {
			arg = os.Expand(arg, func(k string) string { return pr.env[k] })
		}
		if out := f(pr, strings.TrimSpace(arg)); out != nil {
			return *out
		}
	}
	return outcome{}
}

// text finds the program.
func (pr *proc) text() string {
	if len(pr.spec.Argv) == 0 {
		return ""
	}
	word := pr.spec.Argv[len(pr.spec.Argv)-1]
	if name, ok := strings.CutPrefix(word, pr.spec.Private+"/"); ok && pr.spec.Private != "" {
		return string(pr.spec.Files[name])
	}
	if filepath.IsAbs(word) {
		if b, err := os.ReadFile(word); err == nil {
			return string(b)
		}
	}
	return word
}

// instructions by their first word. Each returns nil to go on, or how the program ends.
var instructions map[string]func(pr *proc, arg string) *outcome

func init() {
	instructions = map[string]func(pr *proc, arg string) *outcome{
		"print":  func(pr *proc, arg string) *outcome { return pr.print(console.Stdout, arg+"\n") },
		"stderr": func(pr *proc, arg string) *outcome { return pr.print(console.Stderr, arg+"\n") },
		"raw": func(pr *proc, arg string) *outcome {
			s, err := strconv.Unquote(arg)
			if err != nil {
				return pr.mistake("raw", arg)
			}
			return pr.print(console.Stdout, s)
		},
		"numbers": func(pr *proc, arg string) *outcome {
			n, err := strconv.Atoi(arg)
			if err != nil {
				return pr.mistake("numbers", arg)
			}
			var b []byte
			for i := range n {
				b = append(strconv.AppendInt(b, int64(i), 10), '\n')
			}
			return pr.print(console.Stdout, string(b))
		},
		"env": (*proc).printEnv,
		"pwd": func(pr *proc, _ string) *outcome { return pr.print(console.Stdout, pr.spec.Dir+"\n") },
		"resolve": func(pr *proc, _ string) *outcome {
			return pr.print(console.Stdout, pr.spec.Hostname+" "+pr.spec.Address.String()+"\n")
		},
		"tty":         (*proc).printSize,
		"sleep":       (*proc).doze,
		"hang":        (*proc).hang,
		"exit":        (*proc).leave,
		"signal":      (*proc).die,
		"oom":         func(pr *proc, _ string) *outcome { return &outcome{oom: true} },
		"alloc":       (*proc).alloc,
		"ignore-term": func(pr *proc, _ string) *outcome { pr.mu.Lock(); pr.noTerm = true; pr.mu.Unlock(); return nil },
		"trap":        (*proc).trap,
		"cat":         (*proc).cat,
		"line":        (*proc).readLine,
		"serve":       (*proc).serve,
		"connect":     (*proc).connect,
		"grandchild":  (*proc).grandchild,
		"await-file":  (*proc).awaitFile,
	}
}

func (pr *proc) print(stream console.Stream, s string) *outcome {
	if err := pr.write(stream, []byte(s)); err != nil {
		return &outcome{signal: int(syscall.SIGPIPE)}
	}
	return nil
}

func (pr *proc) mistake(word, arg string) *outcome {
	pr.write(console.Stderr, fmt.Appendf(nil, "fake: %s %q: wrong argument\n", word, arg))
	return &outcome{code: 2}
}

func (pr *proc) printEnv(arg string) *outcome {
	if arg != "" {
		return pr.print(console.Stdout, pr.env[arg]+"\n")
	}
	lines := make([]string, 0, len(pr.env))
	for k, v := range pr.env {
		lines = append(lines, k+"="+v+"\n")
	}
	slices.Sort(lines)
	return pr.print(console.Stdout, strings.Join(lines, ""))
}

// printSize writes the terminal's size, as stty does.
func (pr *proc) printSize(string) *outcome {
	pr.mu.Lock()
	size := pr.size
	pr.mu.Unlock()
	if size == nil {
		return pr.print(console.Stdout, "no terminal\n")
	}
	return pr.print(console.Stdout, fmt.Sprintf("%d %d\n", size.Rows, size.Cols))
}

func (pr *proc) doze(arg string) *outcome {
	d, err := time.ParseDuration(arg)
	if err != nil {
		return pr.mistake("sleep", arg)
	}
	if !pr.sleep(d) {
		out := pr.killed()
		return &out
	}
	return nil
}

func (pr *proc) hang(string) *outcome {
	<-pr.fatal
	out := pr.killed()
	return &out
}

func (pr *proc) leave(arg string) *outcome {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return pr.mistake("exit", arg)
	}
	return &outcome{code: n & 255}
}

func (pr *proc) die(arg string) *outcome {
	n, err := strconv.Atoi(arg)
	if err != nil || n < 1 || n > 64 {
		return pr.mistake("signal", arg)
	}
	return &outcome{signal: n}
}

func (pr *proc) alloc(arg string) *outcome {
	n, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || n < 0 {
		return pr.mistake("alloc", arg)
	}
	pr.mu.Lock()
	defer pr.mu.Unlock()
	pr.peak += n
	if limit := pr.spec.Resources.MemoryBytes; limit > 0 && pr.peak > limit {
		return &outcome{oom: true}
	}
	return nil
}

func (pr *proc) trap(arg string) *outcome {
	no, text, _ := strings.Cut(arg, " ")
	n, err := strconv.Atoi(no)
	if err != nil || n == int(syscall.SIGKILL) {
		return pr.mistake("trap", arg)
	}
	pr.mu.Lock()
	defer pr.mu.Unlock()
	pr.traps[n] = text
	return nil
}

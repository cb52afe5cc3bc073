package project

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// problem is what is wrong with the file, and where.
type problem struct {
	line int
	text string
}

func (p *problem) Error() string { return fmt.Sprintf("line %d: %s", p.line, p.text) }

// document is a TOML file with the lines of its keys, and what was found wrong with it so far.
type document struct {
	values   map[string]any
	lines    map[string]int // by the key's path
	problems []*problem
}

// parseDocument reads TOML. What is in it is looked at afterwards.
func parseDocument(content []byte) (*document, *problem) {
	d := &document{lines: map[string]int{}}
	err := toml.Unmarshal(content, &d.values)
	if syntax := (*toml.DecodeError)(nil); errors.As(err, &syntax) {
		line, _ := syntax.Position()
		return nil, &problem{line, "this is not TOML: " + strings.TrimPrefix(syntax.Error(), "toml: ")}
	}
	if err != nil {
		return nil, &problem{1, "this is not TOML: " + err.Error()}
	}
	d.findLines(content)
	return d, nil
}

// findLines walks over the file a second time: what the decoder returns has no positions.
func (d *document) findLines(content []byte) {
	var p unstable.Parser
	p.Reset(content)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = d.note(&p, nil, e.Key())
		case unstable.KeyValue:
			d.noteInline(&p, d.note(&p, table, e.Key()), e.Value())
		}
	}
}

// noteInline notes the keys of an inline table.
func (d *document) noteInline(p *unstable.Parser, path []string, value *unstable.Node) {
	if value.Kind != unstable.InlineTable {
		return
	}
	for it := value.Children(); it.Next(); {
		d.noteInline(p, d.note(p, path, it.Node().Key()), it.Node().Value())
	}
}

// note remembers where a key, which may be a dotted one, stands first, and returns its path.
func (d *document) note(p *unstable.Parser, table []string, key unstable.Iterator) []string {
	path := slices.Clone(table)
	for key.Next() {
		path = append(path, string(key.Node().Data))
		name := joined(path)
		if _, known := d.lines[name]; !known {
			d.lines[name] = p.Shape(key.Node().Raw).Start.Line
		}
	}
	return path
}

func joined(path []string) string { return strings.Join(path, "\x00") }

// bad notes that something is wrong with a key's value.
func (d *document) bad(path []string, format string, args ...any) {
	line := d.lines[joined(path)]
	d.problems = append(d.problems, &problem{line, strings.Join(path, ".") + " " + fmt.Sprintf(format, args...)})
}

// first is the problem that a person meets first; nil if there is none.
func (d *document) first() *problem {
	if len(d.problems) == 0 {
		return nil
	}
	return slices.MinFunc(d.problems, func(a, b *problem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), strings.Compare(a.text, b.text))
	})
}

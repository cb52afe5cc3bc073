package project

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// table is a table of the document from which known keys are taken; what is left at its end is unknown.
type table struct {
	doc    *document
	path   []string
	values map[string]any
	known  []string
}

func (d *document) root() *table { return &table{doc: d, values: d.values} }

// take returns a key's value, nil if the file does not say it.
func (t *table) take(key string) any {
	t.known = append(t.known, key)
	return t.values[key]
}

func (t *table) at(key string) []string { return append(slices.Clone(t.path), key) }

// wrong notes that a value is not what is wanted.
func (t *table) wrong(key, wanted string, value any) {
	t.doc.bad(t.at(key), "must be %s, not %s", wanted, shown(value))
}

// end notes the keys that nobody took.
func (t *table) end() {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if !slices.Contains(t.known, key) {
			t.doc.bad(t.at(key), "is no setting; here may stand: %s", strings.Join(t.known, ", "))
		}
	}
}

// table returns a table within this one, an empty one if the file has none.
func (t *table) table(key string) *table {
	sub := &table{doc: t.doc, path: t.at(key)}
	switch v := t.take(key).(type) {
	case nil:
	case map[string]any:
		sub.values = v
	default:
		t.doc.bad(sub.path, "must be a table, which is written [%s], not %s", strings.Join(sub.path, "."), shown(v))
	}
	return sub
}

func (t *table) text(key, wanted string, good func(string) bool) string {
	v := t.take(key)
	if v == nil {
		return ""
	}
	s, ok := v.(string)
	if !ok || !good(s) {
		t.wrong(key, wanted, v)
	}
	return s
}

func (t *table) flag(key string) bool {
	v := t.take(key)
	on, ok := v.(bool)
	if v != nil && !ok {
		t.wrong(key, "true or false", v)
	}
	return on
}

// number takes a number above 0.
func (t *table) number(key, wanted string) float64 {
	v := t.take(key)
	var n float64
	switch v := v.(type) {
	case nil:
		return 0
	case int64:
		n = float64(v)
	case float64:
		n = v
	}
	if !(n > 0) || math.IsInf(n, 0) || n > maxNumber {
		t.wrong(key, wanted, v)
		return 0
	}
	return n
}

// whole takes a whole number that is least or more.
func (t *table) whole(key, wanted string, least int64) int {
	v := t.take(key)
	if v == nil {
		return 0
	}
	n, ok := v.(int64)
	if !ok || n < least || n > maxNumber {
		t.wrong(key, wanted, v)
		return 0
	}
	return int(n)
}

// maxNumber is beyond any machine, and small enough to be counted with.
const maxNumber = 1e9

// list takes strings, or one that stands alone. nil if the file does not say it.
func (t *table) list(key, wanted string, good func(string) bool) []string {
	v := t.take(key)
	var all []any
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		all = v
	default:
		all = []any{v}
	}
	list := make([]string, 0, len(all))
	for _, e := range all {
		s, ok := e.(string)
		if !ok || strings.Contains(s, "\x00") || !good(s) {
			t.wrong(key, wanted, e)
			return nil
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		t.wrong(key, wanted, v)
		return nil
	}
	return list
}

// shown is a value as a message shows it.
func shown(v any) string {
	var s string
	switch v := v.(type) {
	case string:
		s = fmt.Sprintf("%q", v)
	case map[string]any:
		return "a table"
	case []any:
		if len(v) == 0 {
			return "an empty list"
		}
		return "a list"
	default:
		s = fmt.Sprint(v)
	}
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}

package screen

import (
	"strings"
)

// style is how characters look: what a sequence that selects it from the plain style says.
type style struct {
	fg, bg, under string // parameters; "": plain
	flags         uint16 // bit n: parameter n of bold (1) to crossed out (9)
}

// with is the style after a sequence with these parameters.
func (st style) with(params string) style {
	if strings.Trim(params, "0123456789;:") != "" {
		return st // something else than a style: what is kept of one is sent to the terminal again
	}
	fields := strings.Split(params, ";")
	for i := 0; i < len(fields); i++ {
		f := fields[i]
		if head, _, sub := strings.Cut(f, ":"); sub { // with subparameters, complete in itself
			st.setColor(head, f)
			continue
		}
		if (f == "38" || f == "48" || f == "58") && i+1 < len(fields) {
			n := map[string]int{"5": 2, "2": 4}[fields[i+1]]
			n = min(n, len(fields)-1-i)
			st.setColor(f, strings.Join(fields[i:i+n+1], ";"))
			i += n
			continue
		}
		st = st.set(f)
	}
	return st
}

func (st *style) setColor(kind, params string) {
	switch kind {
	case "38":
		st.fg = params
	case "48":
		st.bg = params
	case "58":
		st.under = params
	case "4":
		st.flags |= 1 << 4
		if params == "4:0" {
			st.flags &^= 1 << 4
		}
	}
}

func (st style) set(f string) style {
	ns := numbers(f)
	switch n := max(ns[0], 0); {
	case n == 0:
		return style{}
	case n <= 9:
		st.flags |= 1 << n
	case n == 21:
		st.flags |= 1 << 4
	case n == 22:
		st.flags &^= 1<<1 | 1<<2
	case n == 25:
		st.flags &^= 1<<5 | 1<<6
	case n > 22 && n <= 29:
		st.flags &^= 1 << (n - 20)
	case n >= 30 && n <= 37 || n >= 90 && n <= 97:
		st.fg = f
	case n == 39:
		st.fg = ""
	case n >= 40 && n <= 47 || n >= 100 && n <= 107:
		st.bg = f
	case n == 49:
		st.bg = ""
	case n == 59:
		st.under = ""
	}
	return st
}

// sequence selects the style, whatever was selected before.
func (st style) sequence() string {
	parts := []string{"0"}
	for n := 1; n <= 9; n++ {
		if st.flags&(1<<n) != 0 {
			parts = append(parts, string(rune('0'+n)))
		}
	}
	for _, p := range []string{st.fg, st.bg, st.under} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return "\x1b[" + strings.Join(parts, ";") + "m"
}

package web

import (
	"net/netip"
	"strings"
	"testing"
)

// FuzzAddress: a host that is taken apart is what it was; which engine is meant depends on nothing but host and path, and never
// on a name that ends like ours.
func FuzzAddress(f *testing.F) {
	for _, host := range []string{
		"localhost:20202", "abcdefghijklmnop.localhost", "public-abcdefghijklmnop.localhost:1", "[::1]:80", "[::1%lo]", "127.0.0.1", "evil-localhost",
		"localhost.evil", "a:b:c", ":80", "[", "]:1", "localhost:", "localhost:123456", "LOCALHOST", "localhost.", "x@localhost", "a..localhost",
	} {
		f.Add(host, "/app/abcdefghijklmnop/x%2f..")
	}
	f.Add("localhost", "/public/abcdefghijklmnop")
	f.Add("localhost", "//app/abcdefghijklmnop/")
	g := &Gateway{names: []string{"localhost", "muster.example"}}
	f.Fuzz(func(t *testing.T, text, path string) {
		h, ok := splitHost(text)
		if !ok {
			return
		}
		if h.whole() != strings.ToLower(text) || strings.ContainsAny(text, " /\\@\r\n\"<>%?#") && !strings.HasPrefix(text, "[") {
			t.Fatalf("%q is taken for %+v", text, h)
		}
		if strings.HasPrefix(text, "[") {
			if a, err := netip.ParseAddr(strings.Trim(h.name, "[]")); err != nil || !a.Is6() {
				t.Fatalf("%q is taken for %+v", text, h)
			}
		}
		mine, ok := g.named(h)
		if ok && (mine.whole() != h.whole() || mine.name != "localhost" && mine.name != "muster.example") {
			t.Fatalf("%q is taken for ours: %+v", text, mine)
		}
		if !ok {
			mine = h
		}
		a, ok := locate(mine, path)
		if !ok {
			return
		}
		if !a.id.Valid() || a.prefix+a.path != path || mine.label != "" && a.prefix != "" || mine.label != "" && !strings.HasSuffix(mine.label, string(a.id)) {
			t.Fatalf("%q and %q lead to %+v", text, path, a)
		}
	})
}

package account

import (
	"strings"
	"testing"
)

// FuzzSearch: who is found stands in the file, as a line of that number; what is written in one field is not read from another.
func FuzzSearch(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/bash\nada:x:7:8::/home/ada:/bin/sh\n", 7)
	f.Add("a:x:-1:0:::\nb:x:7:x:::\n:x:7:7:::\nb::7:99999999999::", 7)
	f.Fuzz(func(t *testing.T, text string, uid int) {
		a, ok := search([]byte(text), func(a Account) bool { return a.UID == uid })
		if !ok {
			return
		}
		if a.UID != uid || strings.ContainsAny(a.Name+a.Home+a.Shell, ":\n") {
			t.Fatalf("%+v", a)
		}
		if !strings.Contains(text, a.Name+":") || !strings.Contains(text, a.Home) {
			t.Fatalf("%+v is not in %q", a, text)
		}
	})
}

package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/security.md names tests that exist.
func TestSecurityNamesTests(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(repo(t), "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z0-9/_]+_test\\.go): ((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(doc), -1)
	if len(named) < 50 {
		t.Errorf("%d tests are named: is the table of another form?", len(named))
	}
	for _, n := range named {
		source, err := os.ReadFile(filepath.Join(repo(t), n[1]))
		if err != nil || !strings.Contains(string(source), "\nfunc "+n[2]+"(") {
			t.Errorf("%s is not in %s (%v)", n[2], n[1], err)
		}
	}
}

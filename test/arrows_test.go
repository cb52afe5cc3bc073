package test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// allowed says which of our packages each package may import; a trailing /... names a subtree. What is not listed may
// import nothing of ours. docs/design.md says why.
var allowed = map[string][]string{
	"cmd/muster":                 {"internal/cli", "internal/app"},
	"cmd/muster-keeper":          {"internal/keeper", "internal/keeper/wire", "internal/initproc", "internal/spawner"},
	"api":                        {},
	"engine":                     {},
	"client":                     {"api", "engine", "internal/console"},
	"clients":                    {"engine", "internal/turns"},
	"internal/app":               {"..."},
	"internal/cli":               {"client", "api", "engine", "internal/console", "internal/console/view", "internal/console/screen", "internal/linux/peer", "internal/linux/pidfd"},
	"internal/server":            {"api", "engine", "internal/console", "internal/linux/peer"},
	"internal/manager":           {"api", "engine", "internal/console", "internal/driver", "internal/failpoint", "internal/kernel", "internal/project", "internal/store", "internal/quota"},
	"internal/quota":             {"engine"},
	"internal/store":             {"engine", "internal/failpoint"},
	"internal/project":           {"engine", "internal/kernel"},
	"internal/kernel":            {"engine", "internal/turns"},
	"internal/turns":             {},
	"internal/console":           {},
	"internal/console/view":      {"internal/console"},
	"internal/console/screen":    {},
	"internal/driver":            {"engine"},
	"internal/driver/drivertest": {"api", "engine", "internal/driver", "internal/console"},
	"internal/driver/fake":       {"api", "engine", "internal/driver", "internal/console", "internal/linux/pidfd"},
	"internal/failpoint":         {},
	"internal/driver/local":      {"engine", "internal/driver", "internal/failpoint", "internal/keeper/wire", "internal/linux/..."},
	"internal/keeper":            {"internal/failpoint", "internal/keeper/wire", "internal/initproc", "internal/console", "internal/linux/cgroup", "internal/linux/netns", "internal/linux/oom", "internal/linux/peer", "internal/linux/pidfd", "internal/linux/slice", "internal/linux/userns", "internal/spawner"},
	"internal/spawner":           {"internal/failpoint", "internal/keeper/wire", "internal/linux/cgroup", "internal/linux/netns"},
	"internal/keeper/embedded":   {"engine"},
	"internal/keeper/wire":       {"internal/linux/cgroup"},
	"internal/initproc":          {"internal/failpoint", "internal/keeper/wire", "internal/linux/oom", "internal/linux/rights", "internal/linux/sandbox", "internal/linux/slice"},
	"internal/linux/cgroup":      {},
	"internal/linux/netns":       {},
	"internal/linux/pidfd":       {},
	"internal/linux/peer":        {"internal/linux/pidfd"},
	"internal/linux/hub":         {"engine", "internal/linux/netns", "internal/linux/peer", "internal/linux/pidfd"},
	"internal/linux/oom":         {},
	"internal/linux/openssh":     {},
	"internal/linux/rights":      {},
	"internal/linux/account":     {},
	"internal/linux/sandbox":     {},
	"internal/linux/slice":       {},
	"internal/linux/userns":      {},
	"internal/web":               {"engine"},
	"internal/token":             {"engine", "internal/store"},
	"internal/audit":             {},
	"test":                       {},
	"test/chaos":                 {}, // its checker must not make the product's mistakes
}

func goList(t *testing.T, format string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", format, "./...")
	cmd.Dir = repo(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return lines(string(out))
}

func TestImportArrows(t *testing.T) {
	for _, l := range goList(t, `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`) {
		fields := strings.Fields(l)
		from := strings.TrimPrefix(fields[0], "muster/")
		rules, known := allowed[from]
		if !known {
			t.Errorf("%s has no rule: say here and in docs/design.md what it may import", from)
			continue
		}
		for _, to := range fields[1:] {
			if to, ours := strings.CutPrefix(to, "muster/"); ours && !matches(rules, to) {
				t.Errorf("%s must not import %s", from, to)
			}
		}
	}
}

func matches(rules []string, pkg string) bool {
	for _, r := range rules {
		if prefix, tree := strings.CutSuffix(r, "..."); r == pkg || tree && strings.HasPrefix(pkg, prefix) {
			return true
		}
	}
	return false
}

// The two small processes must start in a millisecond: nothing from outside the standard library but x/sys.
func TestKeeperStaysSmall(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/muster-keeper")
	cmd.Dir = repo(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		if !strings.HasPrefix(pkg, "muster/") && !strings.HasPrefix(pkg, "golang.org/x/sys/") {
			t.Errorf("muster-keeper is linked with %s", pkg)
		}
	}
}

// Each package says in a paragraph what it is for.
func TestPackageDocs(t *testing.T) {
	for _, l := range goList(t, "{{.ImportPath}}\t{{.Doc}}") {
		pkg, doc, _ := strings.Cut(l, "\t")
		if len(strings.Fields(doc)) < 6 {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}

// Every file of the repository that the documents name exists.
func TestDocumentsNameWhatExists(t *testing.T) {
	for _, doc := range []string{"README.md", "CONTRIBUTING.md", "docs/design.md"} {
		b, err := os.ReadFile(repo(t) + "/" + doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(b), "`") {
			if strings.ContainsAny(part, " \n*<>:$") || !strings.Contains(part, "/") || strings.HasPrefix(part, "/") || strings.HasPrefix(part, "~") {
				continue
			}
			if _, err := os.Stat(repo(t) + "/" + strings.TrimSuffix(part, "/...")); err != nil {
				t.Errorf("%s names %s, which does not exist", doc, part)
			}
		}
	}
}

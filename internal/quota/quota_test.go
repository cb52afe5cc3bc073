package quota

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"muster/engine"
)

func read(t *testing.T, content string) (Quotas, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "quota.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return Read(path)
}

func TestRead(t *testing.T) {
	q, err := read(t, "[user]\nworkers = 20\ncpu = 8\nmemory = 32.5\n[session]\ngpus = 1\n[users.alice]\nworkers = 100\n")
	want := Quotas{User: Limits{20, 8, 32.5, 0}, Session: Limits{GPUs: 1}, Users: map[string]Limits{"alice": {Workers: 100}}}
	if err != nil || !reflect.DeepEqual(q, want) {
		t.Errorf("%+v %v", q, err)
	}
	if q.Of("alice").Workers != 100 || q.Of("bob").Workers != 20 || q.Of("").Workers != 20 {
		t.Error("whose is whose")
	}
	if q, err := read(t, ""); err != nil || q.User != (Limits{}) {
		t.Errorf("%+v %v", q, err)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	for content, says := range map[string]string{
		"[user]\nworker = 3\n":     "line 2: there is no key user.worker",
		"[everybody]\n":            "there is no key everybody",
		"[user\n":                  "line 1",
		"[user]\nworkers = \"x\"":  `line 2: user.workers is "x": it must be a whole number from 1 to 1000000`,
		"[user]\nworkers = \"3\"":  `line 2: user.workers is "3"`,
		"[user]\n\nworkers = 1.5":  "line 3: user.workers is 1.5: it must be a whole number",
		"[users.bob]\ncpu = true":  "line 2: users.bob.cpu is true: it must be a number above 0",
		"[session]\nmemory = [1]":  "line 2: session.memory is a list: it must be a number above 0",
		"[session]\ngpus = {a=1}":  "session.gpus is a table: it must be a whole number",
		"[users]\nworkers = 3":     "line 2: users.workers is 3: it must be a table",
		"user = 3":                 "line 1: user is 3: it must be a table, which is written [user]",
		"[user]\nworkers = 0":      "user.workers is 0: it must be a whole number from 1",
		"[user]\nmemory = -1.0":    "user.memory is -1",
		"[user]\nmemory = nan":     "user.memory is NaN",
		"[user]\ncpu = inf":        "user.cpu is +Inf",
		"[users.bob]\ngpus = 2e99": "line 2: users.bob.gpus is 2e+99",
	} {
		if _, err := read(t, content); engine.KindOf(err) != engine.Invalid || !strings.Contains(err.Error(), says) || engine.HintOf(err) == "" {
			t.Errorf("%q: %v, want %s", content, err, says)
		}
	}
	if _, err := Read("/nowhere/quota.toml"); engine.KindOf(err) != engine.Invalid || !strings.Contains(err.Error(), "/nowhere/quota.toml") {
		t.Errorf("%v", err)
	}
}

func FuzzQuotas(f *testing.F) {
	f.Add("[user]\nworkers = 20\n[users.\"a b\"]\ncpu = 1.5\n")
	f.Fuzz(func(t *testing.T, content string) {
		q, err := parse([]byte(content))
		if err == nil && (q.User.Workers < 0 || q.User.Memory < 0 || q.Session.CPU < 0) {
			t.Errorf("%+v", q)
		}
	})
}

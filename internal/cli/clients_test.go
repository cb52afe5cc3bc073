package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"muster/engine"
)

func TestClients(t *testing.T) {
	w := newWorld(t)
	bin := t.TempDir()
	for _, name := range []string{"python3", "R", "python3.9"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.env = append(w.env, "PATH=relative:"+bin)
	w.deps.Dir = bin
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	result := ClientsResult{Interpreter: "PYTHON", Folder: "/site", Changed: true}
	var fail error
	w.deps.Clients = func(_ context.Context, r ClientsRequest) (ClientsResult, error) {
		if r.Binary != self || len(r.Environ) == 0 {
			t.Errorf("asked for %+v", r)
		}
		asked = append(asked, fmt.Sprint(r.Language, " ", r.Path, " ", r.Remove))
		return result, fail
	}
	python, r := filepath.Join(bin, "python3"), filepath.Join(bin, "R")
	use := ", and use " + self + "\n"
	for _, c := range []struct {
		args  []string
		asked string
		out   string
	}{
		{[]string{"install"}, "[python " + python + " false]", "PYTHON: cdsw, cml and muster are in /site now" + use},
		{[]string{"install", "--r"}, "[r " + r + " false]", "PYTHON: cdsw and cml are in /site now" + use},
		{[]string{"install", "--r", "--python", "./python3.9"}, "[python " + python + ".9 false r " + r + " false]",
			"PYTHON: cdsw, cml and muster are in /site now" + use + "PYTHON: cdsw and cml are in /site now" + use},
		{[]string{"uninstall"}, "[python " + python + " true]", "PYTHON: cdsw, cml and muster were removed from /site\n"},
	} {
		asked = nil
		w.expect(0, c.out, "", append([]string{"clients"}, c.args...)...)
		if got := fmt.Sprint(asked); got != c.asked {
			t.Errorf("%q asks for %s, not %s", c.args, got, c.asked)
		}
	}
	result.Changed = false
	w.expect(0, "PYTHON: cdsw, cml and muster are in /site already"+use, "", "clients", "install")
	result.Left = "/site/cml"
	w.expect(0, "PYTHON: cdsw, cml and muster are not there\n",
		"muster: not removed, because it holds files that are not Muster's: /site/cml\n", "clients", "uninstall")
	fail = engine.Errorf(engine.Conflict, "there is another").WithHint("remove it")
	w.expect(1, "", "muster: there is another\n  try: remove it\n", "clients", "install")
	w.expect(1, "", "muster: python4 cannot be run: it is not on the PATH\n  try: give the path of an interpreter: --python PATH\n",
		"clients", "install", "--python", "python4")
	w.expect(1, "", "muster: ./python4 cannot be run: there is no such program\n  try: give the path of an interpreter: --python PATH\n",
		"clients", "install", "--python", "./python4")
}

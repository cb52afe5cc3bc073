package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"muster/engine"
)

// someR is a program that is there; what it would say is the test's.
func someR(t *testing.T) string {
	t.Helper()
	r := filepath.Join(t.TempDir(), "Rscript")
	if err := os.WriteFile(r, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	return r
}

// makes is an R of the version that installs something that looks like our packages.
func makes(version string) engine.RunProbe {
	return func(_ context.Context, p engine.Probe) (stdout, stderr []byte, err error) {
		if len(p.Writable) == 0 {
			return []byte("R version " + version), nil, nil
		}
		for _, name := range []string{"cdsw", "cml"} {
			for _, f := range []string{"DESCRIPTION", "NAMESPACE", "R/" + name + ".rdb", "R/" + name + ".rdx", "Meta/package.rds"} {
				file := filepath.Join(p.Writable[0], "library", name, f)
				err = errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600))
			}
		}
		return nil, nil, err
	}
}

// A project whose R does not end holds up nobody but itself, however many of its launches wait.
func TestNobodyWaitsForAnothersR(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cache, slow := t.TempDir(), someR(t)
	asked, proceed := make(chan struct{}, 100), make(chan struct{})
	hangs := func(ctx context.Context, _ engine.Probe) ([]byte, []byte, error) {
		asked <- struct{}{}
		select {
		case <-proceed:
			return nil, nil, errors.New("exit status 1")
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer close(proceed)
	for i := range 2 * installAtOnce {
		r := slow
		if i > installAtOnce {
			r = someR(t)
		}
		waiting.Go(func() {
			if _, err := RLibrary(ctx, hangs, "/project", r, cache); engine.KindOf(err) != engine.Unavailable {
				t.Errorf("%v", err)
			}
		})
	}
	<-asked
	for _, project := range []string{"", "/another"} {
		if dir, err := RLibrary(ctx, makes("4.2.2"), project, slow, cache); err != nil || !installed(dir) {
			t.Errorf("project %q waits: %q, %v", project, dir, err)
		}
	}
}

// Launches that wait for an R that fails are answered by its one failure.
func TestAnRThatFailsIsAskedOnce(t *testing.T) {
	var asked atomic.Int64
	fails := func(context.Context, engine.Probe) ([]byte, []byte, error) {
		asked.Add(1)
		return nil, []byte("not today"), errors.New("exit status 1")
	}
	r, cache := someR(t), t.TempDir()
	var launches sync.WaitGroup
	for range 20 {
		launches.Go(func() {
			if _, err := RLibrary(t.Context(), fails, "/project", r, cache); err == nil || !strings.Contains(err.Error(), "not today") {
				t.Errorf("%v", err)
			}
		})
	}
	launches.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// A project that shows ever new R's fills its own share of the cache and nobody else's; what it used last stays.
func TestLibrariesOfAProjectAreBounded(t *testing.T) {
	cache, r := t.TempDir(), someR(t)
	shared, err := RLibrary(t.Context(), makes("4.2.2"), "", r, cache)
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for i := range keptOfLane + 3 {
		old := time.Now().Add(-time.Hour)
		if last != "" {
			os.Chtimes(last, old, old)
		}
		if last, err = RLibrary(t.Context(), makes(fmt.Sprintf("4.2.%d", i)), "/project", someR(t), cache); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) != keptOfLane+1 || !installed(last) || !installed(shared) {
		t.Errorf("%d folders (%v), the last one %v, the shared one %v", len(entries), err, installed(last), installed(shared))
	}
}

func TestKnownLibrariesAreBounded(t *testing.T) {
	knownMu.Lock()
	before := known
	known = map[rIdentity]string{}
	for i := range maxKnown {
		known[rIdentity{path: fmt.Sprint(i)}] = "/nowhere"
	}
	knownMu.Unlock()
	defer func() { knownMu.Lock(); known = before; knownMu.Unlock() }()
	if _, err := RLibrary(t.Context(), makes("4.2.2"), "", someR(t), t.TempDir()); err != nil || len(known) > maxKnown {
		t.Errorf("%v, %d are known", err, len(known))
	}
}

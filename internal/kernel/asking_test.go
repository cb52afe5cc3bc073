package kernel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"muster/engine"
)

// Many launches at once with a wrapper that nobody knows yet: a project asks one at a time, all together a few, and what was
// answered or refused counts for those who waited.
func TestWrappersAreAskedAFewAtOnce(t *testing.T) {
	bin := t.TempDir()
	shim(t, bin, "python3", "/nowhere")
	projects := make([]string, 2*askedAtOnce)
	for i := range projects {
		projects[i] = project(t)
	}
	var now, most, asked atomic.Int64
	var mu sync.Mutex
	inProject, proceed := map[string]int{}, make(chan struct{})
	run := func(_ context.Context, p engine.Probe) ([]byte, []byte, error) {
		asked.Add(1)
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		mu.Lock()
		if inProject[p.Dir]++; inProject[p.Dir] > 1 {
			t.Errorf("two wrappers of one project are asked at once")
		}
		mu.Unlock()
		<-proceed
		mu.Lock()
		inProject[p.Dir]--
		mu.Unlock()
		now.Add(-1)
		return nil, []byte("not today"), errors.New("exit status 1")
	}
	tab := NewTable(Config{Run: run, PythonPath: "/clients/python"})
	var wait sync.WaitGroup
	for _, dir := range projects {
		for i := range 20 {
			wait.Go(func() {
				_, err := tab.Prepare(context.Background(), Request{Kernel: engine.Python3, Code: fmt.Sprint(i), Project: dir, SearchEnv: map[string]string{"PATH": bin}})
				if err == nil || !strings.Contains(err.Error(), "not today") {
					t.Errorf("%v", err)
				}
			})
		}
	}
	for range len(projects) {
		proceed <- struct{}{}
	}
	wait.Wait()
	if n := most.Load(); n > askedAtOnce {
		t.Errorf("%d wrappers were asked at once, at most %d may be", n, askedAtOnce)
	}
	if n := asked.Load(); n != int64(len(projects)) {
		t.Errorf("asked %d times, want once for each of %d projects", n, len(projects))
	}
}

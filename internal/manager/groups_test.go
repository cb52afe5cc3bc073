package manager_test

import (
	"slices"
	"strings"
	"testing"

	"muster/api"
	"muster/engine"
)

func TestGroups(t *testing.T) {
	b := newBench(t)
	id := b.session()
	in := func(group, code string) []api.Worker {
		req := worker(2, code)
		req.Group = group
		return b.launch(id, req)
	}
	one, two, none := in("one", "hang"), in("two", "exit 0"), in("", "hang")
	if one[0].Group != "one" || none[0].Group != "" {
		t.Errorf("%+v, %+v", one[0], none[0])
	}
	list, err := b.Workers(id, "one")
	if got := ids(list.Workers); err != nil || !slices.Equal(got, []string{one[1].ID, one[0].ID}) {
		t.Errorf("list %v, %v", got, err)
	}
	if list, _ := b.Workers(id, "three"); len(list.Workers) != 0 {
		t.Errorf("list of nobody: %+v", list)
	}
	a := b.await(id, api.Await{Group: "two", Completion: true})
	if got := ids(a.Workers); !slices.Equal(got, ids(two)) || len(a.Failures) != 0 {
		t.Errorf("await %+v", a)
	}
	r, err := b.Stop(t.Context(), id, api.Stop{Group: "one"}, "session")
	if err != nil || len(r.Results) != 2 || r.Results[0].ID != one[0].ID {
		t.Errorf("stop %+v, %v", r, err)
	}
	if a := b.awaitEnd(id, ids(one)...); len(a.Failures) != 2 || a.Failures[0].Status != "stopped" {
		t.Errorf("%+v", a)
	}
	if w := b.engine(none[0].ID); w.Status == "stopped" || w.Status == "stopping" {
		t.Errorf("another group was stopped: %+v", w)
	}
	// What there was of a group may be over. One that never was is misspelt.
	if r, err := b.Stop(t.Context(), id, api.Stop{Group: "one"}, "session"); err != nil || len(r.Results) != 0 {
		t.Errorf("stopped already: %+v, %v", r, err)
	}
	_, awaitNone := b.Await(t.Context(), id, api.Await{Group: "tow"}, nil)
	_, stopNone := b.Stop(t.Context(), id, api.Stop{Group: "tow", All: true}, "session")
	for what, err := range map[string]error{"await": awaitNone, "stop": stopNone} {
		if engine.KindOf(err) != engine.NotFound || !strings.Contains(err.Error(), `a group "tow"`) || engine.HintOf(err) != "its groups are one, two" {
			t.Errorf("%s: %v %s", what, err, engine.HintOf(err))
		}
	}
	if w := b.engine(none[1].ID); w.Status == "stopped" || w.Status == "stopping" {
		t.Errorf("another group was stopped: %+v", w)
	}
	both := []string{none[0].ID}
	_, await := b.Await(t.Context(), id, api.Await{IDs: both, Group: "one"}, nil)
	_, stop := b.Stop(t.Context(), id, api.Stop{IDs: both, Group: "one"}, "session")
	for what, err := range map[string]error{"await": await, "stop": stop} {
		if engine.KindOf(err) != engine.Invalid || !strings.Contains(err.Error(), `both were given (group "one")`) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

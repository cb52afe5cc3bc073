package console

import (
	"context"
	"testing"
	"time"
)

// What the bell says reaches those who follow, between the log's records, once, and is not in the log.
func TestSaidReachesFollowers(t *testing.T) {
	dir := t.TempDir()
	w, err := OpenWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	log, err := w.Log("engine")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	bell, done := NewBell(), make(chan struct{})
	bell.Say(Record{Engine: "engine", Stream: Event, Payload: []byte("before")})
	c, err := r.Session("")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got []string
	began := make(chan struct{})
	end := make(chan error, 1)
	if err := log.Append(Stdout, 0, time.Now(), []byte("first")); err != nil {
		t.Fatal(err)
	}
	go func() {
		end <- Follow(context.Background(), c, bell, done, func(r Record, p Position) error {
			got = append(got, string(r.Payload))
			if (p == "") != (r.Stream == Event) {
				t.Errorf("%s has the position %q", r.Payload, p)
			}
			if len(got) == 1 {
				close(began)
			}
			if len(got) == 2 {
				close(done)
			}
			return nil
		}, nil)
	}()
	<-began
	bell.Say(Record{Engine: "engine", Stream: Event, Payload: []byte("said")})
	if err := <-end; err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0] != "first" || got[1] != "said" {
		t.Errorf("got %q", got)
	}
}

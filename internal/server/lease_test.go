package server

import (
	"slices"
	"testing"
)

// The stream of a session's creator holds the session, nobody else's does.
func TestConsoleHoldsTheLease(t *testing.T) {
	m := &stub{}
	withTape(t, m)
	_, base := start(t, m)
	url := base + "/sessions/" + string(sessionA) + "/console?follow=true"
	for _, c := range []struct{ token, query string }{{tokenA, "&lease=true"}, {ownerToken, ""}} {
		send(t, t.Context(), "GET", url+c.query, c.token, nil).Body.Close()
	}
	if said := m.said(); len(said) != 0 {
		t.Errorf("held: %q", said)
	}
	resp := send(t, t.Context(), "GET", url+"&lease=true", ownerToken, nil)
	if said := m.said(); !slices.Equal(said, []string{"hold " + string(sessionA)}) {
		t.Errorf("while it is read: %q", said)
	}
	resp.Body.Close()
	eventually(t, "it is let go", func() bool {
		return slices.Equal(m.said(), []string{"hold " + string(sessionA), "let go of " + string(sessionA)})
	})
}

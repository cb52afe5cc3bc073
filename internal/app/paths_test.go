package app

import (
	"strings"
	"testing"

	"muster/engine"
)

// Where a server can have no folders, engines are told as that: no variable would help them.
func TestFoldersThatCannotBeMade(t *testing.T) {
	t.Setenv("MUSTER_CACHE_DIR", t.TempDir())
	for _, c := range []struct{ id, url, message, hint string }{
		{"", "", "the folder /proc/muster/sessions cannot be made", "MUSTER_STATE_DIR"},
		{"x123", "http://100.100.0.1:20202", "a server cannot run inside an engine, and this is one: the folder /proc/muster/", "muster launch"},
	} {
		t.Setenv("CDSW_ENGINE_ID", c.id)
		t.Setenv("MUSTER_URL", c.url)
		_, err := findPaths("/proc/muster")
		if err == nil || !strings.HasPrefix(err.Error(), c.message) || !strings.Contains(engine.HintOf(err), c.hint) {
			t.Errorf("%v, try: %s", err, engine.HintOf(err))
		}
	}
}

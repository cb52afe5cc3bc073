package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"muster/api"
	"muster/internal/console"
)

// document fetches the OpenAPI document over the wire.
func document(t *testing.T, base string) map[string]map[string]struct {
	OperationID string           `json:"operationId"`
	Security    []map[string]any `json:"security"`
	RequestBody json.RawMessage  `json:"requestBody"`
	Responses   map[string]any   `json:"responses"`
} {
	t.Helper()
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string           `json:"operationId"`
			Security    []map[string]any `json:"security"`
			RequestBody json.RawMessage  `json:"requestBody"`
			Responses   map[string]any   `json:"responses"`
		} `json:"paths"`
	}
	status, body := ask(t, "GET", base+"/openapi.json", ownerToken, "")
	if status != 200 {
		t.Fatalf("openapi.json: %d %s", status, body)
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("openapi is %q, want 3.1.0", doc.OpenAPI)
	}
	return doc.Paths
}

// bodies are valid request bodies of the routes that need one.
var bodies = map[string]string{
	"POST /sessions":              `{"project":"/tmp","code":"1"}`,
	"POST /sessions/{id}/workers": `{"n":0,"cpu":1,"memory":1}`,
	"POST /sessions/{id}/await":   `{"wait_for_completion":true}`,
	"POST /sessions/{id}/stop":    `{}`,
	"POST /sessions/{id}/restart": `{"ids":[]}`,
	"POST /sessions/{id}/resize":  `{"rows":24,"cols":80}`,
	"POST /tokens":                `{}`,

	"POST /api/v1/projects/{owner}/{slug}/dashboards": `{"cpu":1,"memory":1}`,
}

// routes is the table that the API promises; the document must say the same.
var routes = []string{
	"GET /version", "GET /openapi.json",
	"GET /sessions", "POST /sessions", "GET /sessions/{id}", "DELETE /sessions/{id}",
	"POST /sessions/{id}/interrupt", "POST /sessions/{id}/resize", "POST /sessions/{id}/stdin", "GET /sessions/{id}/console",
	"POST /sessions/{id}/workers", "GET /sessions/{id}/workers", "POST /sessions/{id}/await", "POST /sessions/{id}/stop",
	"POST /sessions/{id}/restart",
	"GET /engines/{id}", "GET /engines/{id}/log",
	"POST /tokens", "GET /tokens", "DELETE /tokens/{id}", "GET /audit",
	// The original's, and where its html_url leads.
	"POST /api/v1/projects/{owner}/{slug}/dashboards", "GET /api/v1/projects/{owner}/{slug}/dashboards/{id}",
	"PUT /api/v1/projects/{owner}/{slug}/dashboards/{id}/stop", "GET /api/v1/projects/{owner}/{slug}/dashboards/{id}/workers",
	"GET /api/v1/site/config", "GET /{owner}/{slug}/engines/{id}",
}

// address is the URL of a documented path, for an engine of a project.
func address(base, path, project, id string) string {
	if strings.HasPrefix(path, api.Original+"/") || strings.HasPrefix(path, "/{owner}/") {
		base = strings.TrimSuffix(base, api.Base)
	}
	owner, slug, _ := strings.Cut(project, "/")
	return base + strings.NewReplacer("{owner}", owner, "{slug}", slug, "{id}", id).Replace(path)
}

// ofEngines reports paths whose {id} is an engine's.
func ofEngines(path string) bool {
	return strings.Contains(path, "/engines/") || strings.Contains(path, "/dashboards/")
}

func TestDocumentAndRoutesAgree(t *testing.T) {
	_, base := start(t, &stub{})
	documented := map[string]bool{}
	for path, methods := range document(t, base) {
		for method, op := range methods {
			route := strings.ToUpper(method) + " " + strings.TrimPrefix(path, api.Base)
			documented[route] = true
			if op.OperationID == "" {
				t.Errorf("%s has no operation id", route)
			}
			if op.Responses["default"] == nil || len(op.Responses) < 2 {
				t.Errorf("%s documents too few replies: %v", route, op.Responses)
			}
			if (len(op.Security) == 0) != (route == "GET /version") {
				t.Errorf("%s: security is %v", route, op.Security)
			}
			// What is documented is registered: the server knows route and method.
			status, body := ask(t, strings.ToUpper(method), address(base, strings.Fields(route)[1], projectA, string(sessionA)), ownerToken, bodies[route])
			if status == http.StatusMethodNotAllowed || strings.Contains(body, "no route") {
				t.Errorf("%s is documented and not registered: %d %s", route, status, body)
			}
		}
	}
	for _, route := range routes {
		if !documented[route] {
			t.Errorf("%s is registered and not documented", route)
		}
		delete(documented, route)
	}
	for route := range documented {
		t.Errorf("%s is documented and not in the test's table", route)
	}
}

// Every route, asked by everybody who may not.
func TestEveryRouteIsGuarded(t *testing.T) {
	m := &stub{}
	m.reader, _ = console.Open(t.TempDir())
	m.done = make(chan struct{})
	close(m.done)
	_, base := start(t, m)
	for path, methods := range document(t, base) {
		for method := range methods {
			method, path := strings.ToUpper(method), strings.TrimPrefix(path, api.Base)
			route := method + " " + path
			others := string(sessionB)
			if ofEngines(path) {
				others = string(workerB)
			}
			senders := []struct {
				name, token string
				want        int
				kind        string
			}{
				{"no token", "", 401, "unauthorized"},
				{"wrong token", "owner-toke", 401, "unauthorized"},
				{"another session's token", tokenA, 404, "not_found"},
			}
			for _, from := range senders {
				everybodys := route == "GET /openapi.json" || route == "GET "+api.Original+"/site/config"
				if route == "GET /version" || everybodys && from.token == tokenA {
					from.want, from.kind = 200, ""
				}
				status, body := ask(t, method, address(base, path, projectB, others), from.token, bodies[route])
				if status != from.want {
					t.Errorf("%s with %s: %d %s, want %d", route, from.name, status, body, from.want)
				}
				if from.kind != "" && errorOf(t, body).Kind != from.kind {
					t.Errorf("%s with %s: kind of %s, want %s", route, from.name, body, from.kind)
				}
			}
			if !strings.Contains(path, "{id}") || strings.HasPrefix(path, "/tokens") { // those are people's
				continue
			}
			// The same with one's own: not refused by the guards.
			own := "self"
			if ofEngines(path) {
				own = string(workerA)
			}
			if status, body := ask(t, method, address(base, path, projectA, own), tokenA, bodies[route]); status == 401 || status == 404 {
				t.Errorf("%s with the session's own token: %d %s", route, status, body)
			}
		}
	}
	if len(m.calls) != 5 { // interrupt, resize, end and the two stops of the own session
		t.Errorf("the manager was asked: %q", m.calls)
	}
	for _, c := range m.calls {
		if strings.Contains(c, string(sessionB)) {
			t.Errorf("a foreign session was touched: %s", c)
		}
	}
}

func errorOf(t *testing.T, body string) api.Error {
	t.Helper()
	var e api.Error
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Kind == "" || e.Message == "" {
		t.Fatalf("%q is no api.Error (%v)", body, err)
	}
	return e
}

func TestEnginesOfASessionsOwn(t *testing.T) {
	_, base := start(t, &stub{})
	for _, c := range []struct {
		token, id string
		status    int
		found     string
	}{
		{tokenA, "wa1", 200, string(workerA)},
		{tokenA, string(workerA), 200, string(workerA)},
		{tokenA, "a", 200, string(sessionA)},
		{tokenA, "wa", 409, ""}, // two of its own
		{tokenA, "w", 409, ""},
		{tokenB, "w", 200, string(workerB)}, // not ambiguous with what it cannot see
		{tokenB, "wa1", 404, ""},
		{ownerToken, "wb", 200, string(workerB)},
	} {
		status, body := ask(t, "GET", base+"/engines/"+c.id, c.token, "")
		if status != c.status || !strings.Contains(body, c.found) {
			t.Errorf("%s asks for engine %s: %d %s, want %d %s", c.token, c.id, status, body, c.status, c.found)
		}
	}
}

func TestTokensAreNotTold(t *testing.T) {
	_, base := start(t, &stub{})
	for _, path := range []string{"/sessions", "/sessions/" + string(sessionA)} {
		if _, body := ask(t, "GET", base+path, ownerToken, ""); strings.Contains(body, "secret") {
			t.Errorf("%s tells a token: %s", path, body)
		}
	}
	if status, body := ask(t, "POST", base+"/sessions", ownerToken, bodies["POST /sessions"]); status != 201 || !strings.Contains(body, tokenA) {
		t.Errorf("creation does not tell the token: %d %s", status, body)
	}
}

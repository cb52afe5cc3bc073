package test

import (
	"strings"
	"testing"
)

// Two workers of one session and two of another all listen on port 6000 at once; each is reachable at its own address from
// its session, and from no other.
func TestSessionsAreApart(t *testing.T) {
	w := newWorld(t)
	w.server()
	w.write("one.py", `
import cdsw, socket, sys
ws = cdsw.launch_workers(n=2, cpu=0.2, memory=0.2, code="""
import socket, os
l = socket.socket(); l.bind(("0.0.0.0", 6000)); l.listen(5)
print("listening", flush=True)
while True:
    c, _ = l.accept(); c.sendall(os.environ["CDSW_ENGINE_ID"].encode()); c.close()
""")
up = cdsw.await_workers(ws, wait_for_completion=False)["workers"]
import time
for u in up:
    for _ in range(200):
        try:
            s = socket.create_connection((u["ip_address"], 6000)); break
        except ConnectionRefusedError:
            time.sleep(0.05)
    assert s.recv(100).decode() == u["id"]
print("addresses", *[u["ip_address"] for u in up], flush=True)
sys.stdin.readline()
`)
	w.write("two.py", `
import socket, sys
for ip in sys.argv[1:]:
    try:
        socket.create_connection((ip, 6000), timeout=5)
        print("REACHED", ip)
    except OSError as e:
        print("kept out of", ip)
`)
	a, b := w.start("run", "one.py"), w.start("run", "one.py")
	const pattern = `addresses (\S+) (\S+)\n`
	ips := append(a.match(pattern), b.match(pattern)...)
	r := w.muster(append([]string{"run", "two.py"}, ips...)...).ok(t)
	if strings.Contains(r.out, "REACHED") || strings.Count(r.out, "kept out of") != 4 {
		t.Errorf("another session's workers: %s", r.out)
	}
}

func TestTokensKeepSessionsApart(t *testing.T) {
	w := newWorld(t)
	w.server()
	w.write("one.py", `
import cdsw, os
w = cdsw.launch_workers(n=1, cpu=0.1, memory=0.1, code="import time; time.sleep(1000)")[0]
print("worker", w["id"], os.environ["CDSW_ENGINE_ID"], flush=True)
import sys; sys.stdin.readline()
`)
	a := w.start("run", "one.py")
	ids := a.match(`worker (\w+) (\w+)\n`)
	w.write("two.py", `
import os, sys, urllib.request, urllib.error, json
def ask(path, key=os.environ["CDSW_API_KEY"], method="GET", body=None):
    r = urllib.request.Request(os.environ["MUSTER_URL"] + "/muster/v1" + path, method=method, data=body)
    if key: r.add_header("Authorization", "Bearer " + key)
    if body: r.add_header("Content-Type", "application/json")
    try:
        return urllib.request.urlopen(r).status
    except urllib.error.HTTPError as e:
        return e.code
worker, master = sys.argv[1:]
print(ask("/sessions/self/workers"), ask("/sessions/%s/workers" % master), ask("/engines/" + worker), ask("/sessions/%s/console" % master),
      ask("/sessions/%s/stop" % master, method="POST", body=json.dumps({"ids": [worker]}).encode()),
      ask("/sessions/self/workers", key=None), ask("/sessions/self/workers", key="wrong"), ask("/sessions"))
import cdsw
print([r.status_code for r in cdsw.stop_workers(worker)], [f["status"] for f in cdsw.await_workers([worker])["failures"]])
`)
	r := w.muster("run", "two.py", ids[0], ids[1]).ok(t)
	f := strings.Fields(lines(r.out)[0])
	if strings.Join(f[:7], " ") != "200 404 404 404 404 401 401" || f[7] == "200" {
		t.Errorf("answers to another session: %v", f)
	}
	r.has(t, "[404] ['unknown']")
}

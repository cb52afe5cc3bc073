package test

import (
	"os"
	"strings"
	"testing"
)

// The surroundings that scripts of the original rely on, by values seen inside real engines: the environment, the keys of
// descriptions, and the REST routes for clients that have nothing but HTTP.

// identityNames are the variables that tell an engine who and where it is.
const identityNames = `CDSW_ENGINE_ID CDSW_MASTER_ID CDSW_MASTER_IP CML_MASTER_IP CDSW_IP_ADDRESS CDSW_ENGINE_TYPE CDSW_APP_PORT
CDSW_READONLY_PORT CDSW_PUBLIC_PORT CDSW_DOMAIN CDSW_PROJECT CDSW_PROJECT_ID CDSW_CREATOR PROJECT_OWNER CDSW_API_URL CDSW_PROJECT_URL
CDSW_ENGINE_URL CDSW_API_KEY CDSW_APIV2_KEY CDSW_CPU_MILLICORES CDSW_MEMORY_MB`

func TestEnvironmentOfEngines(t *testing.T) {
	requireR(t)
	w := newWorld(t)
	w.env = append(w.env, "FROM_CALLER=caller", "OVERRIDDEN=caller")
	w.script(strings.ReplaceAll(`
import base64, cdsw, json, os, re, socket, time, urllib.request
names = """NAMES""".split()
master = dict(os.environ)
os.environ["CHANGED_BY_SESSION"] = "1"
del os.environ["FROM_CALLER"]

# What each engine says of itself goes into a file of the project, and over its own address to who asks.
look = r'''
import json, os, socket, urllib.request, base64
def ask(auth):
    r = urllib.request.Request(os.environ["CDSW_ENGINE_URL"], headers={"Authorization": auth})
    return json.load(urllib.request.urlopen(r, timeout=30))["id"]
bound = []
for name in ("CDSW_APP_PORT", "CDSW_READONLY_PORT", "CDSW_PUBLIC_PORT"):
    s = socket.socket()
    s.bind(("127.0.0.1", int(os.getenv(name))))
    bound.append(s)
seen = {
    "env": dict(os.environ), "hostname": socket.gethostname(), "resolved": socket.gethostbyname(socket.gethostname()), "cwd": os.getcwd(),
    "basic": ask("Basic " + base64.b64encode((os.environ["CDSW_API_KEY"] + ":").encode()).decode()),
    "bearer": ask("Bearer " + os.environ["CDSW_APIV2_KEY"]),
}
'''
exec(look)
sessions = seen
code = look + r'''
door = socket.create_server(("", 6000))
with open("part", "w") as f: json.dump(seen, f)
os.rename("part", os.environ["CDSW_ENGINE_ID"] + ".json")
door.accept()[0].sendall(os.environ["CDSW_ENGINE_ID"].encode())
'''
env = {name: "theirs" for name in names}
env.update(NUMBER=7, TRUTH=True, NOTHING=None, OVERRIDDEN="env", TEXT=" a=b \n")
first, = cdsw.launch_workers(n=1, cpu=0.5, memory=0.25, code=code, env=env)
second, = cdsw.launch_workers(n=1, cpu=1, memory=0.1, kernel="r", env=env, code=
    "v <- Sys.getenv(); v <- v[names(v) != 'TEXT']; writeLines(paste0(names(v), '=', v), paste0(Sys.getenv('CDSW_ENGINE_ID'), '.txt'))")

end = time.monotonic() + 30
while not os.path.exists(first["id"] + ".json"):
    assert time.monotonic() < end and cdsw.list_workers()[-1]["status"] != "failed", cdsw.list_workers()
    time.sleep(0.02)
with open(first["id"] + ".json") as f: workers = json.load(f)
with socket.create_connection((workers["env"]["CDSW_IP_ADDRESS"], 6000), 30) as c:
    assert c.makefile().read() == first["id"], "another engine answers at its address"
done = cdsw.await_workers([first, second], timeout_seconds=60)
assert not done["failures"], done["failures"]
with open(second["id"] + ".txt") as f: of_r = dict(line.rstrip("\n").split("=", 1) for line in f if "=" in line)

domain = master["CDSW_DOMAIN"]
assert re.fullmatch(r"[\w.-]+:\d+", domain), domain
project = first["project"]
for what, e, d, kind, millicores, megabytes in (
    ("session", master, None, "session", "1000", None),
    ("worker", workers["env"], first, "worker", "500", "250"),
    ("R worker", of_r, second, "worker", "1000", "100"),
):
    id = d["id"] if d else seen["hostname"]
    want = {
        "CDSW_ENGINE_ID": id, "CDSW_MASTER_ID": sessions["hostname"], "CDSW_MASTER_IP": sessions["resolved"],
        "CML_MASTER_IP": sessions["resolved"], "CDSW_IP_ADDRESS": d["ip_address"] if d else sessions["resolved"], "CDSW_ENGINE_TYPE": kind,
        "CDSW_APP_PORT": "8090", "CDSW_READONLY_PORT": "8100", "CDSW_PUBLIC_PORT": "8080", "CDSW_DOMAIN": domain,
        "CDSW_PROJECT": project["name"], "CDSW_PROJECT_ID": str(project["id"]), "CDSW_CREATOR": first["creator"]["username"],
        "PROJECT_OWNER": first["owner"]["username"], "CDSW_API_URL": "http://" + domain + "/api/v1",
        "CDSW_PROJECT_URL": "http://" + domain + "/api/v1/projects/" + project["slug"],
        "CDSW_ENGINE_URL": "http://" + domain + "/api/v1/projects/" + project["slug"] + "/dashboards/" + id,
        "CDSW_API_KEY": cdsw.get_auth()["user"], "CDSW_APIV2_KEY": cdsw.get_auth()["user"], "CDSW_CPU_MILLICORES": millicores,
        "CDSW_MEMORY_MB": megabytes or e["CDSW_MEMORY_MB"],
    }
    assert sorted(want) == sorted(names), set(want) ^ set(names)
    wrong = {k: (e.get(k), v) for k, v in want.items() if e.get(k) != v or not v}
    assert not wrong, (what, wrong)
    assert int(e["CDSW_MEMORY_MB"]) > 0 and int(e["CDSW_PROJECT_ID"]) >= 0
    assert e["CDSW_PROJECT_URL"].split("/")[7 - 1] == e["PROJECT_OWNER"] == project["slug"].split("/")[0], (what, e["CDSW_PROJECT_URL"])
    assert e["FROM_CALLER"] == "caller" and "CHANGED_BY_SESSION" not in e, what
    if d:
        assert (e["NUMBER"], e["TRUTH"], e["NOTHING"], e["OVERRIDDEN"]) == ("7", "True", "", "env"), what
assert project["name"] == os.path.basename(os.getcwd()), project
assert master["OVERRIDDEN"] == "caller" and workers["env"]["TEXT"] == " a=b \n"
for s in (sessions, workers):
    e = s["env"]
    assert s["hostname"] == e["CDSW_ENGINE_ID"] == s["basic"] == s["bearer"] and s["resolved"] == e["CDSW_IP_ADDRESS"] and s["cwd"] == os.getcwd(), s
assert len({sessions["resolved"], first["ip_address"], second["ip_address"]}) == 3
print("environment as promised", len(names))
`, "NAMES", identityNames)).ok(t).has(t, "environment as promised 21\n")
}

func TestDescriptionKeys(t *testing.T) {
	w := newWorld(t)
	w.script(`
import base64, cdsw, json, os, re, time, urllib.request
domain, me = os.environ["CDSW_DOMAIN"], os.environ["CDSW_ENGINE_ID"]
base = "http://" + domain
def get(url):
    auth = "Basic " + base64.b64encode((os.environ["CDSW_API_KEY"] + ":").encode()).decode()
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": auth}), timeout=30) as r:
        return r.read().decode()
def is_time(v): return bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", v or ""))
def is_person(v): return type(v["id"]) is int and v["username"] == os.environ["PROJECT_OWNER"] and v["name"] and v["url"].startswith(base + "/api/v1/") and v["html_url"].startswith(base + "/")
times = "created_at scheduling_at starting_at running_at stopping_at finished_at".split()
slug = os.environ["PROJECT_OWNER"] + "/" + os.environ["CDSW_PROJECT"]

def check(d, statuses, cpu, memory, reached, exit_code=None, name="Untitled Worker"):
    assert json.loads(json.dumps(d)) == d and type(d) is dict
    for key, right in {
        "id": lambda v: re.fullmatch("[a-z0-9]{16}", v), "name": lambda v: v == name, "status": lambda v: v in statuses,
        "ip_address": lambda v: re.fullmatch(r"unknown|\d+\.\d+\.\d+\.\d+", v),
        "app_url": lambda v: v == "http://%s.%s/" % (d["id"], domain),
        "cpu": lambda v: v == cpu, "memory": lambda v: v == memory, "nvidia_gpu": lambda v: v == 0 and type(v) is int,
        "kernel": lambda v: v == "python3", "duration": lambda v: type(v) is int and 0 <= v < 300,
        "exit_code": lambda v: v == exit_code and type(v) is type(exit_code), "oomKilled": lambda v: v is False,
        "k8s": lambda v: set(v) >= {"reason", "message", "internal_error_code", "exit_code"} and v["exit_code"] == exit_code and v["internal_error_code"] is None,
        "master_id": lambda v: v == me, "batch": lambda v: v is True, "adhoc": lambda v: v is False, "deleted": lambda v: v is False,
        "workers": lambda v: v == 0, "cost": lambda v: v == 0, "cluster_id": lambda v: v == 1,
        "url": lambda v: v == "%s/api/v1/projects/%s/dashboards/%s" % (base, slug, d["id"]),
        "html_url": lambda v: v == "%s/%s/engines/%s" % (base, slug, d["id"]),
        "project": lambda v: type(v["id"]) is int and v["name"] == os.environ["CDSW_PROJECT"] and v["slug"] == slug and v["url"] == os.environ["CDSW_PROJECT_URL"] and v["html_url"] == base + "/" + slug,
        "owner": is_person, "creator": is_person,
    }.items():
        assert right(d[key]), (key, d[key], d)
    for key in times:
        assert is_time(d[key]) if key in reached else d[key] is None, (key, d)
    order = [d[key] for key in times if d[key]]
    assert order == sorted(order), order
    return d

launched = times[:2]
running = times[:4]
idle, ends, fails = cdsw.launch_workers(n=1, cpu=0.5, memory=0.25)[0], *[
    cdsw.launch_workers(n=1, cpu=1, memory=0.2, code=code)[0] for code in ("print('<b>printed</b>')", "raise SystemExit(3)")]
check(idle, ["scheduling"], 0.5, 0.25, launched)
check(ends, ["scheduling"], 1, 0.2, launched)
assert idle["ip_address"] != "unknown" and type(ends["cpu"]) is int

got = cdsw.await_workers([idle], wait_for_completion=False)["workers"]
check(got[0], ["running"], 0.5, 0.25, running)
assert got[0]["k8s"]["reason"] is None and re.fullmatch(r"[\d.]+", got[0]["ip_address"])
time.sleep(1.1)
assert json.loads(get(got[0]["url"]))["duration"] >= 1
done = cdsw.await_workers([ends, fails])
d = check(done["workers"][0], ["succeeded"], 1, 0.2, running + ["finished_at"], exit_code=0)
page = get(d["html_url"])
assert "&lt;b&gt;printed&lt;/b&gt;" in page and d["id"] in page and "succeeded" in page, page
d = check(done["failures"][0], ["failed"], 1, 0.2, running + ["finished_at"], exit_code=3)
assert d["k8s"]["reason"] == "Error" and "3" in d["k8s"]["message"], d["k8s"]

# The second of two that need more than half of the machine each has to wait, and says for what.
half = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 0.6 / 1e9, 1)
big = cdsw.launch_workers(n=2, cpu=0.1, memory=half, name="big one")
cdsw.await_workers(big[:1], wait_for_completion=False)
d = [x for x in cdsw.list_workers() if x["id"] == big[1]["id"]][0]
check(d, ["scheduling"], 0.1, half, launched, name="big one")
assert d["k8s"]["reason"] == "Unschedulable" and "memory" in d["k8s"]["message"], d["k8s"]

assert [r.status_code for r in cdsw.stop_workers()] == [204] * 3
failures = cdsw.await_workers([idle, big[1]])["failures"]
d = {x["id"]: x for x in failures}
# SIGTERM's, as a shell says it.
check(d[idle["id"]], ["stopped"], 0.5, 0.25, times, exit_code=d[idle["id"]]["exit_code"])
assert d[idle["id"]]["exit_code"] in (0, 143), d
check(d[big[1]["id"]], ["stopped"], 0.1, half, launched + ["finished_at"], name="big one")

refused, = cdsw.launch_workers(n=1, cpu=1, memory=1e6)
assert "id" not in refused and refused["message"] and refused["k8sMessage"] == refused["message"] and refused["engineId"], refused
json.dumps(refused)
own = json.loads(get(os.environ["CDSW_ENGINE_URL"]))
assert own["id"] == own["master_id"] == me and own["batch"] is False and own["workers"] == 5, own
print("descriptions as promised")
`).ok(t).has(t, "descriptions as promised\n")
}

// The client of testdata has no code of ours: it is written from the table of routes alone. It runs as a session's script, and
// as a worker's, where what it launches belongs to the session.
func TestHTTPOnlyClient(t *testing.T) {
	w := newWorld(t)
	source, err := os.ReadFile("testdata/http_only.py")
	if err != nil {
		t.Fatal(err)
	}
	w.write("brief.py", "print('in brief')\n")
	w.write("worker.py", string(source))
	w.script(string(source)).ok(t).has(t, "HTTP alone is enough", "[by name] in brief\n")
	w.script(`
import os, urllib.request, json, base64
exec(open("worker.py").read().split("def main")[0])
id = accepted(script="worker.py", name="launcher")
until("the client in a worker succeeds", lambda: statuses()[id] not in ("scheduling", "starting", "running"))
assert statuses()[id] == "succeeded"
masters = {w["master_id"] for w in get(ENGINE + "/workers")}
assert masters == {os.environ["CDSW_ENGINE_ID"]} and len(statuses()) == 5, statuses()
`).ok(t).has(t, "[launcher] HTTP alone is enough")
}

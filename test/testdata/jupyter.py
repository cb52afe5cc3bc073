"""Works in a real Jupyter server as a browser does: by its REST routes and its websocket. Prints what it sees.

usage: jupyter.py PROJECT (with the Python that has jupyter_server and ipykernel)
"""

import asyncio
import glob
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

from tornado.websocket import websocket_connect

DEADLINE = 30
MARK = "sleep 4321.%d" % os.getpid()  # what the workers run, so that they can be counted from outside
TOKEN = "secret"

LAUNCH = """
import cdsw, os
ws = cdsw.launch_workers(3, cpu=0.2, memory=0.2, name="w", code='''
import os, subprocess, time
print("first line")
while not os.path.exists("go"): time.sleep(0.01)
print("second line", flush=True)
subprocess.run("%s".split())
''')
print("launched", len(ws))
""" % MARK

BUSY = """
print("cell 2 runs")
while not os.path.exists("finish"): sum(range(1000))
"""

FAILING = """
bad = cdsw.launch_workers(1, cpu=0.2, memory=0.2, name="bad", code="raise SystemExit(5)")
print("failures", len(cdsw.await_workers(bad)["failures"]))
"""


class Server:
    def __init__(self, project):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.address = "127.0.0.1:%d" % port
        command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", "--port=%d" % port,
                   "--ServerApp.port_retries=0", "--IdentityProvider.token=" + TOKEN, "--ServerApp.root_dir=" + project]  # fmt: skip
        self.log = open(os.path.join(os.environ["HOME"], "jupyter.log"), "w+")
        self.process = subprocess.Popen(command, cwd=project, stderr=self.log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + DEADLINE
        while True:
            try:
                self.ask("GET", "/status")
                return
            except urllib.error.URLError as e:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.log.seek(0)
                    sys.exit("the Jupyter server does not answer: %s\n%s" % (e, self.log.read()))
                time.sleep(0.05)

    def ask(self, method, path, body=None):
        request = urllib.request.Request("http://%s/api%s" % (self.address, path), method=method)
        request.add_header("Authorization", "token " + TOKEN)
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=DEADLINE) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


class Notebook:
    """One kernel, and what came of it: by cell, the streams' texts, and whether the cell is done."""

    def __init__(self, server):
        self.server = server
        self.kernel = server.ask("POST", "/kernels", {"name": "python3"})["id"]
        self.texts = {}
        self.done = set()

    async def connect(self):
        url = "ws://%s/api/kernels/%s/channels?token=%s" % (self.server.address, self.kernel, TOKEN)
        self.channel = await websocket_connect(url)

    async def run(self, cell, code):
        self.texts[cell] = ""
        header = {"msg_id": cell, "username": "", "session": uuid.uuid4().hex, "msg_type": "execute_request", "version": "5.3",
                  "date": ""}  # fmt: skip
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []}
        await self.channel.write_message(json.dumps(message))

    async def until(self, what, condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            try:
                text = await asyncio.wait_for(asyncio.ensure_future(self.channel.read_message()), end - time.monotonic())
            except asyncio.TimeoutError:
                sys.exit("%s: not within %d s; there is %r" % (what, DEADLINE, self.texts))
            if text is None:
                sys.exit("%s: the channel was closed" % what)
            message = json.loads(text)
            cell = message["parent_header"].get("msg_id")
            if message["msg_type"] == "stream":
                self.texts.setdefault(cell, "")
                self.texts[cell] += message["content"]["text"]
            elif message["msg_type"] == "error":
                self.texts[cell] += "\n".join(message["content"]["traceback"])
            elif message["msg_type"] == "execute_reply":
                self.done.add(cell)


def living():
    n = 0
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                n += f.read().replace(b"\0", b" ").strip() == MARK.encode()
        except OSError:
            pass
    return n


def gone(what):
    begun = time.monotonic()
    while living():
        if time.monotonic() - begun > DEADLINE:
            sys.exit("%s: the workers live on" % what)
        time.sleep(0.002)
    return time.monotonic() - begun


def remove(*names):
    for n in names:
        os.path.exists(n) and os.remove(n)


async def work(server):
    notebook = Notebook(server)
    await notebook.connect()
    await notebook.run("cell-1", LAUNCH)
    await notebook.until("the first lines", lambda: notebook.texts["cell-1"].count("] first line\n") == 3)
    await notebook.run("cell-2", BUSY)
    await notebook.until("cell 2 runs", lambda: "cell 2 runs" in notebook.texts["cell-2"])
    open("go", "w").close()
    await notebook.until("the second lines", lambda: notebook.texts["cell-1"].count("] second line\n") == 3)
    assert "cell-2" not in notebook.done, "cell 2 was to run meanwhile"
    open("finish", "w").close()
    await notebook.until("cell 2 is done", lambda: "cell-2" in notebook.done)
    assert notebook.texts["cell-2"] == "cell 2 runs\n", notebook.texts
    await notebook.run("cell-3", FAILING)
    await notebook.until("cell 3 is done", lambda: "cell-3" in notebook.done)
    assert "muster: worker bad ended with exit code 5\n" in notebook.texts["cell-3"], notebook.texts
    assert "failures 1\n" in notebook.texts["cell-3"], notebook.texts
    print("three workers in their cell while the next one ran:")
    print(notebook.texts["cell-1"], end="")

    assert living() == 3, living()
    begun = time.monotonic()
    server.ask("POST", "/kernels/%s/restart" % notebook.kernel)
    gone("restart")
    print("kernel restart ended the workers after %d ms" % ((time.monotonic() - begun) * 1000))

    # The new kernel is a session of its own; the end of the kernel is its end too.
    remove("finish")
    await notebook.connect()
    await notebook.run("cell-4", LAUNCH)
    await notebook.until("the lines in the new kernel", lambda: notebook.texts["cell-4"].count("] second line\n") == 3)
    while living() < 3:
        time.sleep(0.002)
    begun = time.monotonic()
    server.ask("DELETE", "/kernels/" + notebook.kernel)
    gone("shutdown")
    print("kernel shutdown ended the workers after %d ms" % ((time.monotonic() - begun) * 1000))


def main():
    os.chdir(sys.argv[1])
    server = Server(sys.argv[1])
    try:
        asyncio.run(work(server))
    finally:
        server.close()


main()

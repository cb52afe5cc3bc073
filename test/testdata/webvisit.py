"""What a script in an engine does with the web addresses of another one, by the standard library."""

import base64
import hashlib
import json
import os
import socket
import time
import urllib.error
import urllib.request


def fetch(url, headers={}):
    """Status and text of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=25) as r:
            return r.status, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


def told(url):
    """What the app was asked; until it listens there is a page that says so."""
    while True:
        status, text = fetch(url)
        if status != 503:
            break
        assert "Nothing listens yet" in text or "Not started yet" in text, text
        time.sleep(0.02)
    assert status == 200, (status, text)
    return json.loads(text)


def visit(app_url):
    """Every address of the engine whose app_url it is, as it is."""
    host = app_url[len("http://"):-1]
    engine, domain = host.split(".", 1)
    assert domain == os.environ["CDSW_DOMAIN"], domain
    for at, first, port in (("", "app", 8090), ("read-only-", "read-only", 8100), ("public-", "public", 8080)):
        t = told("http://" + at + host + "/" + "status?x=1")
        assert (t["engine"], t["port"], t["asked"], t["host"]) == (engine, port, "GET /status?x=1", at + host), t
        t = told("http://%s/%s/%s/status" % (domain, first, engine))
        assert (t["engine"], t["port"], t["asked"], t["prefix"]) == (engine, port, "GET /status", "/%s/%s" % (first, engine)), t
    assert speak(host) == "HELLO FROM " + os.environ["CDSW_ENGINE_ID"].upper()


def speak(host):
    """A websocket's answer."""
    name, port = host.rsplit(":", 1)
    c = socket.create_connection((name, int(port)), 25)
    key = base64.b64encode(os.urandom(16)).decode()
    c.sendall(("GET /socket HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Key: %s\r\n\r\n" % (host, key)).encode())
    f = c.makefile("rb")
    assert b" 101 " in f.readline()
    accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += f.readline()
    assert accept in head, head
    read = lambda: f.read(f.read(2)[1]).decode()
    assert read() == "at your service"
    text = ("hello from " + os.environ["CDSW_ENGINE_ID"]).encode()
    c.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
    return read()

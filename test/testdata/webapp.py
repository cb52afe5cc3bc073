"""A web app for tests: on all three ports of an engine, telling what it was asked, and echoing websockets."""

import base64
import hashlib
import http.server
import json
import os
import threading

ports = {"CDSW_APP_PORT": "127.0.0.1", "CDSW_READONLY_PORT": "127.0.0.1", "CDSW_PUBLIC_PORT": "0.0.0.0"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket":
            return self.websocket()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = {
            "engine": os.environ["CDSW_ENGINE_ID"], "port": self.server.server_port, "asked": self.command + " " + self.path,
            "host": self.headers["Host"], "prefix": self.headers["X-Forwarded-Prefix"], "cookie": self.headers["Cookie"],
            "auth": self.headers["Authorization"], "body": body.decode(),
        }
        reply = (json.dumps(told) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_POST = do_GET

    def websocket(self):
        """RFC 6455: greets, then echoes short text frames in capital letters until the client closes."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.frame("at your service")
        while True:
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] != 0x81:
                break
            mask = self.rfile.read(4)
            masked = self.rfile.read(head[1] & 0x7F)
            self.frame(bytes(b ^ mask[i % 4] for i, b in enumerate(masked)).decode().upper())
        self.close_connection = True

    def frame(self, text):
        self.wfile.write(bytes([0x81, len(text)]) + text.encode())
        self.wfile.flush()

    def log_message(self, *args):
        pass


def start():
    for variable, address in ports.items():
        server = http.server.ThreadingHTTPServer((address, int(os.environ[variable])), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()

"""Requests to the server: one kept connection for each thread, and what may be sent again and what may not.

A kept connection can be closed by the server at any moment, and the server may be killed and followed by another. What may
be carried out twice (listing, awaiting, stopping by id, and launching, which carries a key that the server knows again) is
then sent again, until a server answers or patience is over. The rest uses a kept connection only while it is young, and
when it breaks it says that the outcome is not known.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from urllib.parse import quote, urlsplit

from . import _away, _session
from ._errors import BadReplyError, InvalidError, MusterError, NoSessionError, ServerDownError, VersionError, of_kind
from ._version import API_VERSION, __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

BASE = "/muster/v1"
VERSION_HEADER = "Muster-Api-Version"
DAMAGED_TRAILER = "Muster-Damaged"

# Seconds for which launch and stop trust a kept connection: far less than any server keeps an idle one.
_YOUNG = 3.0
_CONNECT_SECONDS = 10.0
# Launching thousands of workers on a busy machine takes its time; a server that is silent for longer is broken.
_REPLY_SECONDS = 300.0

# What the server takes of a session at most. A client that still sends when it is refused may not see why.
_MAX_BODY_BYTES = 4 << 20

_LINES = "application/x-ndjson"
_BYTES = "application/octet-stream"


class _Response(http.client.HTTPResponse):
    """A reply that keeps its trailer, which http.client would drop: it tells of logs that are damaged."""

    trailer: Optional[http.client.HTTPMessage] = None

    def _read_and_discard_trailer(self) -> None:
        self.trailer = http.client.parse_headers(self.fp)


class _Connection(http.client.HTTPConnection):
    """A connection that knows who made it, for whom, and when it was last used."""

    response_class = _Response

    def __init__(self, url: str) -> None:
        host, port = address(url)
        super().__init__(host, port, timeout=_CONNECT_SECONDS)
        self.url = url
        self.pid = os.getpid()
        self.used = time.monotonic()
        self.body: Optional[bytes] = None  # of the request that is next sent

    def send(self, data: Any) -> None:
        # Head and body in one go: http.client sends one after the other, and the server would wake twice.
        body, self.body = self.body, None
        super().send(data if body is None else data + body)

    def connect(self) -> None:
        super().connect()
        # A server on a machine that died must not be awaited for ever.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self.url.startswith("https:"):
            from . import _tls  # an engine must not pay for it

            try:
                self.sock = _tls.wrap(self.sock, self.host)
            except BaseException:
                self.close()
                raise

    def __del__(self) -> None:
        # A thread that ended leaves its connection to nobody.
        try:
            self.close()
        except Exception:  # at the interpreter's end half of it is gone already
            pass

    def usable(self, careful: bool) -> bool:
        """Report whether a next request may go here; careful: also that the server can hardly have given it up."""
        if self.sock is None or self.url.startswith("https:") or (careful and time.monotonic() - self.used > _YOUNG):
            return False
        try:  # nothing is to be read between requests: end of file says that the server closed it
            self.sock.setblocking(False)
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False


_kept = threading.local()


def call(method: str, path: str, body: Optional[Dict[str, Any]] = None, repeatable: bool = False) -> Any:
    """Send a request and return the decoded reply. repeatable: it may be carried out twice. Raises MusterError."""
    if repeatable or method == "GET":
        return _away.patiently(lambda: _call(method, path, body, True))
    return _call(method, path, body, False)


def _call(method: str, path: str, body: Optional[Dict[str, Any]], repeatable: bool) -> Any:
    conn, response = _send(method, path, body, "application/json", repeatable)
    return decode(conn.url, response, _payload(conn, response, repeatable))


def _payload(conn: _Connection, response: http.client.HTTPResponse, repeatable: bool) -> bytes:
    """Return what the reply holds. The connection is kept if that was read to the end."""
    try:
        payload = response.read()
    except (OSError, http.client.HTTPException) as e:
        _forget(conn)
        raise _broken(conn.url, e, repeatable) from e
    except BaseException:  # Ctrl-C: the rest of the reply is not for the next request
        _forget(conn)
        raise
    _done(conn, response)
    return payload


def read(path: str) -> Tuple[bytes, str]:
    """Return what a reply holds that is bytes and not JSON, and, if that is not all there should be, a sentence that says why."""
    return _away.patiently(lambda: _read(path))


def _read(path: str) -> Tuple[bytes, str]:
    conn, response = _send("GET", path, None, _BYTES + ", application/json", True, 0)
    payload = _payload(conn, response, True)
    if response.status != 200 or response.getheader("Content-Type", "") != _BYTES:
        decode(conn.url, response, payload)  # tells the error
        raise _rubbish(conn.url, "JSON in place of bytes")
    _check_version(conn.url, response)
    trailer = getattr(response, "trailer", None)
    damaged = trailer.get(DAMAGED_TRAILER, "") if trailer else ""
    return payload, damaged.encode("latin-1", "replace").decode("utf-8", "replace")  # http.client takes headers for Latin-1


def quoted(text: str) -> str:
    return quote(text, safe="")


def stream(
    method: str, path: str, body: Dict[str, Any], progress: Callable[[Dict[str, Any]], None], seconds: float
) -> Any:
    """Send a request that is answered by lines, hand progress to the function, return the result.

    seconds is how long the server is told to take at most (0: any time): a server that comes later has what is left of it.
    """
    end, asked = time.monotonic() + seconds, [body]

    def ask() -> Any:
        if asked or not seconds:
            return _stream(method, path, asked.pop() if asked else body, progress, seconds)
        left = max(end - time.monotonic(), 0.001)
        return _stream(method, path, dict(body, timeout_seconds=left), progress, left)

    return _away.patiently(ask)


def _stream(
    method: str, path: str, body: Dict[str, Any], progress: Callable[[Dict[str, Any]], None], seconds: float
) -> Any:
    conn, response = _send(method, path, body, _LINES + ", application/json", True, seconds)
    whole = False
    try:
        if response.status != 200 or not response.getheader("Content-Type", "").startswith(_LINES):
            payload = response.read()
            result = decode(conn.url, response, payload)
        else:
            _check_version(conn.url, response)
            result = _result(conn.url, response, progress)
        whole = True
        return result
    except (OSError, http.client.HTTPException) as e:
        raise _broken(conn.url, e, True) from e
    finally:
        if whole:
            _done(conn, response)
        else:  # also when Ctrl-C ended it: the rest of the reply is not for the next request
            _forget(conn)


def workers_of(reply: Any, key: str) -> List[Dict[str, Any]]:
    """Return the list of dicts that reply holds under key."""
    found = reply.get(key) if isinstance(reply, dict) else None
    if found is None and isinstance(reply, dict) and key in reply:
        return []
    if not isinstance(found, list) or not all(isinstance(w, dict) for w in found):
        raise _rubbish(os.environ.get("MUSTER_URL", ""), "a reply without a list of %s" % key)
    return found


def _send(
    method: str, path: str, body: Optional[Dict[str, Any]], accept: str, repeatable: bool, seconds: float = -1
) -> Tuple[_Connection, http.client.HTTPResponse]:
    """Send a request over the thread's connection; return it and the reply, of which the head has been read."""
    _session.ready()
    url, key = os.environ.get("MUSTER_URL", ""), os.environ.get("CDSW_API_KEY", "")
    headers = {"Authorization": "Bearer " + key, VERSION_HEADER: str(API_VERSION), "Accept": accept}
    headers["User-Agent"] = "muster-python/" + __version__
    payload = None
    if body is not None:
        payload = json.dumps(body, allow_nan=False).encode("ascii")
        headers["Content-Type"] = "application/json"
        headers["Content-Length"] = str(len(payload))
        if len(payload) > _MAX_BODY_BYTES:
            raise InvalidError(
                "the request has %d MB: at most %d MB are taken" % (len(payload) >> 20, _MAX_BODY_BYTES >> 20),
                "put what is large into files of the project, which all engines see",
            )
    wait = _REPLY_SECONDS if seconds < 0 else (seconds + 60 if seconds else None)
    while True:
        conn, fresh = _connection(url, careful=not repeatable)
        try:
            conn.sock.settimeout(wait)
            conn.body = payload
            conn.request(method, urlsplit(url).path.rstrip("/") + BASE + path, None, headers)
            return conn, conn.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError) as e:
            _forget(conn)
            if fresh or not repeatable:
                raise _broken(url, e, repeatable) from e
        except (OSError, http.client.HTTPException) as e:
            _forget(conn)
            raise _broken(url, e, repeatable) from e
        except BaseException:  # Ctrl-C: half a request was sent
            _forget(conn)
            raise


def _connection(url: str, careful: bool) -> Tuple[_Connection, bool]:
    """Return this thread's connection and whether it is a fresh one."""
    conn = getattr(_kept, "conn", None)
    if conn is not None:
        if conn.pid == os.getpid() and conn.url == url and conn.usable(careful):
            return conn, False
        _forget(conn)  # after a fork this closes our copy only; the parent's connection stays
    conn = _Connection(url)
    try:
        conn.connect()
    except OSError as e:
        raise _unreachable(url, e) from e
    _kept.conn = conn
    return conn, True


def _unreachable(url: str, e: OSError) -> MusterError:
    what = "the Muster server at %s cannot be reached: %s" % (url, e.strerror or e)
    if _session.follower is None:
        return ServerDownError(what, "it has probably ended; start a new session with muster run, or the server with muster up")
    again = "start this process again: it is then a new one"
    if _session.follower.session_over:
        return NoSessionError("the session that this process was has ended, and its workers with it", again)
    return ServerDownError(what, "the session that this process was has probably ended with it; " + again)


def address(url: str) -> Tuple[str, int]:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
    except ValueError:
        pass
    raise NoSessionError("MUSTER_URL is %r, which is no address of a server" % url, "it has the form http://host:port")


def _done(conn: _Connection, response: http.client.HTTPResponse) -> None:
    """Keep the connection for the next request, if the server does and its reply was read to the end."""
    conn.used = time.monotonic()
    if response.will_close or not response.isclosed():
        _forget(conn)


def _forget(conn: _Connection) -> None:
    conn.close()
    if getattr(_kept, "conn", None) is conn:
        _kept.conn = None


def decode(url: str, response: http.client.HTTPResponse, payload: bytes) -> Any:
    """Return the reply's JSON; raise the error that it tells."""
    try:
        reply = json.loads(payload.decode("utf-8"))
    except (ValueError, RecursionError):
        reply = None
    _check_version(url, response)
    if not isinstance(reply, dict):
        raise _rubbish(url, "HTTP %d with %r" % (response.status, payload[:80]))
    if response.status >= 400:
        raise _told(url, response.status, reply)
    if response.status >= 300:
        raise _rubbish(url, "HTTP %d" % response.status)
    return reply


def _check_version(url: str, response: http.client.HTTPResponse) -> None:
    version = response.getheader(VERSION_HEADER)
    if version is not None and version.strip() != str(API_VERSION):
        raise VersionError(
            "the server at %s speaks version %s of Muster's API, this client (muster %s) version %d"
            % (url, version.strip()[:20], __version__, API_VERSION),
            "restart the server and the session with the same release of muster",
        )


def _told(url: str, status: int, reply: Dict[str, Any]) -> MusterError:
    kind, message = reply.get("kind"), reply.get("message")
    if not isinstance(kind, str) or not isinstance(message, str):
        return _rubbish(url, "HTTP %d with %s" % (status, json.dumps(reply)[:80]))
    hint = reply.get("hint")
    return of_kind(kind, message, hint if isinstance(hint, str) else "")


def _result(
    url: str, response: http.client.HTTPResponse, progress: Callable[[Dict[str, Any]], None]
) -> Any:
    """Read lines until the one that holds the result, and to the end of the reply."""
    result = None
    for line in iter(response.readline, b""):
        try:
            item = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            item = None
        if not isinstance(item, dict):
            raise _rubbish(url, "the line %r" % line[:80])
        if isinstance(item.get("progress"), dict):
            progress(item["progress"])
        elif isinstance(item.get("error"), dict):
            raise _told(url, response.status, item["error"])
        elif isinstance(item.get("result"), dict):
            result = item["result"]
    if result is None:
        raise ServerDownError(
            "the Muster server at %s ended its answer before the result" % url,
            "it was probably stopped; list_workers() tells whether it still lives",
        )
    return result


def _rubbish(url: str, what: str) -> BadReplyError:
    return BadReplyError(
        "what answers at %s is no Muster server, or a broken one: it sent %s" % (url, what),
        "check MUSTER_URL, and that server and session are of the same release of muster",
    )


def _broken(url: str, e: Exception, repeatable: bool) -> MusterError:
    if isinstance(e, (http.client.BadStatusLine, http.client.LineTooLong, http.client.UnknownProtocol)) and not isinstance(
        e, http.client.RemoteDisconnected
    ):
        return _rubbish(url, "no HTTP (%s)" % str(e)[:80])
    what = "did not answer in time" if isinstance(e, socket.timeout) else "broke the connection before it had answered"
    return ServerDownError(
        "the Muster server at %s %s: %s" % (url, what, str(e) or type(e).__name__),
        "list_workers() tells whether it still lives"
        if repeatable
        else "the request may have been carried out: list_workers() tells",
    )

"""Makes this process a session: a server of this user holds it, found or started by the program ``muster``."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings

from . import _errors, _follow, _http, _screen, _session
from ._version import API_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

# How long a server that this process started outlives the last session.
_IDLE = "10s"
# A server that is just ending lets a session in no more; the next one does. Seconds before each further attempt.
_PAUSES = (0.2, 0.4, 0.8, 1.6)
_START_SECONDS = 120.0
_CREATE_SECONDS = 60.0

# Of a notebook's kernel, and wrong in a worker.
_KERNELS_OWN = ("JPY_PARENT_PID", "JPY_SESSION_NAME", "JPY_API_TOKEN")

_lock = threading.Lock()


def attach() -> None:
    """Make this process a session, unless it is one by now. Raises NoSessionError."""
    with _lock:
        if _session.belongs():
            return
        if os.environ.get("MUSTER_ATTACH") == "off":
            raise _errors.NoSessionError(
                "this process runs in no Muster session, and MUSTER_ATTACH=off says that it is not to become one",
                "start the script with: muster run FILE",
            )
        request = _request()
        program = _program()
        for pause in (*_PAUSES, None):
            try:
                reply = _create(_server(program), request)
                break
            except (OSError, http.client.HTTPException, _errors.UnavailableError) as e:
                if pause is None:
                    raise _no_session(e) from e
                time.sleep(pause)
            except _errors.NoSessionError:
                raise
            except _errors.MusterError as e:
                raise _no_session(e) from e
        _become(reply)


def _become(reply: Dict[str, Any]) -> None:
    for name, value in reply["env"].items():
        os.environ[name] = value
    os.environ[_session.OWNER] = str(os.getpid())
    _follow_console(reply["id"])


def resume() -> None:
    """Show the console again in a process that became a session and then another program (exec), with all there is in it."""
    with _lock:
        if _session.follower is None and not any(t.name == _follow.THREAD for t in threading.enumerate()):
            _follow_console(os.environ["CDSW_ENGINE_ID"])


def _follow_console(session: str) -> None:
    follower = _follow.Follower(session, _screen.screen())
    _session.follower = follower
    follower.start()
    # From 3.12 on Python warns of a fork beside threads, and ours are no danger to the child.
    warnings.filterwarnings("ignore", r"This process \(pid=\d+\) is multi-threaded", DeprecationWarning)
    atexit.register(follower.end)
    os.register_at_fork(before=follower.before_fork, after_in_parent=follower.after_fork, after_in_child=_in_child)


def _in_child() -> None:
    """A forked child belongs to the session as any other child does; the session and its output are its parent's."""
    global _lock
    _lock = threading.Lock()
    if _session.follower is not None:
        _session.follower.in_child()
        _session.follower = None


def _request() -> Dict[str, Any]:
    try:
        project = os.getcwd()
    except OSError as e:
        raise _errors.NoSessionError(
            "this process cannot become a session: the folder that it is in is not there any more (%s)" % e.strerror,
            "go to another one with os.chdir()",
        ) from e
    request: Dict[str, Any] = {
        "kind": "attached",
        "name": _name(),
        "kernel": "python3",
        "project": project,
        "owner_pid": os.getpid(),
        "base_env": _environment(),
    }
    if sys.executable and os.path.isabs(sys.executable):
        request["interpreter"] = sys.executable
    return request


def _name() -> str:
    """Return what people know this process by: the notebook's or the script's name."""
    path = os.environ.get("JPY_SESSION_NAME") or (sys.argv[0] if sys.argv else "")
    name = os.path.basename(path)
    if name in ("", "-", "-c", "-m", "ipykernel_launcher.py"):
        name = "notebook" if "ipykernel" in sys.modules else "python3"
    return name.encode("utf-8", "replace").decode("utf-8")


def _environment() -> Dict[str, str]:
    """Return the environment for the workers, without the keys of servers and what is not UTF-8."""
    env = {}
    for name, value in os.environ.items():
        try:
            (name + value).encode("utf-8")
        except UnicodeEncodeError:
            continue
        if name in ("MUSTER_TOKEN", "MUSTER_HOST") or name in _KERNELS_OWN:
            continue
        if name == "MPLBACKEND" and "inline" in value:  # there is no notebook to draw into
            continue
        env[name] = value
    return env


def _program() -> str:
    """Return the path of the program muster."""
    named = os.environ.get("MUSTER_BIN", "")
    if named:
        found = shutil.which(named)
        if found is None:
            raise _errors.NoSessionError("MUSTER_BIN is %r, which is no program that can be run" % named, "correct or unset it")
        return found
    installed = ""
    try:  # muster clients install leaves its own path here
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "binary"), encoding="utf-8") as f:
            installed = f.read().strip()
    except OSError:
        pass
    for name in (installed, "muster"):
        found = shutil.which(name) if name else None
        if found is not None:
            return found
    raise _errors.NoSessionError(
        "this process is in no Muster session, and cannot become one: there is no program muster, neither on the PATH nor "
        + ("at %s, where it was" % installed if installed else "named by MUSTER_BIN"),
        "install muster and run: muster clients install; or set MUSTER_BIN to its path",
    )


def _server(program: str) -> Tuple[str, str]:
    """Return the socket and the token of a server that answers; one is started if there is none."""
    command = [program, "up", "--until-idle", _IDLE, "--background", "--json"]
    named = os.environ.get("MUSTER_HOST", "")
    if named.startswith("/") or named.startswith("unix://"):
        command += ["--listen", named]
    elif named:
        raise _errors.NoSessionError(
            "this process cannot become a session of the server at %s (MUSTER_HOST): it is reached by TCP, and must be on "
            "this machine and be asked through its unix socket" % named,
            "unset MUSTER_HOST, or start the script with: muster run FILE",
        )
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/", timeout=_START_SECONDS
        )
    except OSError as e:
        raise _errors.NoSessionError("%s cannot be run: %s" % (program, e), "set MUSTER_BIN to the program muster") from e
    except subprocess.TimeoutExpired as e:
        raise _errors.NoSessionError(
            "the Muster server did not start within %d s" % _START_SECONDS, "see why: %s up" % program
        ) from e
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        what, _, hint = said.partition("\n  try: ")
        if what.startswith("muster: "):
            what = what[len("muster: ") :]
        what = what or "%s ends with exit code %d" % (program, done.returncode)
        raise _errors.NoSessionError("the Muster server could not be started: " + what, hint)
    if said:  # such as what this machine cannot isolate
        sys.stderr.write(said + "\n")  # at one go: workers' lines may come at any time
        sys.stderr.flush()
    place = json.loads(done.stdout.decode("utf-8"))
    token = os.environ.get("MUSTER_TOKEN", "")
    if any(not "!" <= c <= "~" for c in token):  # http.client would show it
        raise _errors.NoSessionError(
            "MUSTER_TOKEN has a character that no token has, such as a newline", "set it to the token alone, or unset it"
        )
    if not token and place.get("token_file"):  # without one the server knows its users by their connection
        with open(place["token_file"], encoding="ascii") as f:
            token = f.read().strip()
    return place["address"][len("unix://") :], token


def start_again() -> None:
    """Start a server if none answers. One that cannot be started, or must not from here, is no error: somebody else may."""
    try:
        if not os.environ.get("MUSTER_HOST"):
            _server(_program())
    except (_errors.MusterError, OSError, ValueError):
        pass


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("muster", timeout=_CREATE_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def _create(server: Tuple[str, str], request: Dict[str, Any]) -> Dict[str, Any]:
    path, token = server
    conn = _Unix(path)
    try:
        headers = {
            "Authorization": "Bearer " + token,
            "Content-Type": "application/json",
            _http.VERSION_HEADER: str(API_VERSION),
        }
        conn.request("POST", _http.BASE + "/sessions", json.dumps(request).encode("ascii"), headers)
        response = conn.getresponse()
        reply = _http.decode("unix://" + path, response, response.read())
    finally:
        conn.close()
    return reply


def _no_session(e: Exception) -> _errors.MusterError:
    message, hint = str(e) or type(e).__name__, ""
    if isinstance(e, _errors.MusterError):
        message, hint = e.message, e.hint
    elif isinstance(e, http.client.RemoteDisconnected):
        message = "its server hangs up, as it does on processes of other users and other containers"
        hint = "set MUSTER_RUNTIME_DIR to a folder of your own, and another server is started"
    return _errors.NoSessionError("this process could not become a Muster session: " + message, hint)

"""How a forked interpreter ends: as plain Python does, whatever the work has left behind."""

import glob
import os
import re
import subprocess
import sys

from .test_runner import DEADLINE, RUNNER, Folder

# What an interpreter is that was forked: the runner, with modules that were imported before the work came.
FORKED = """
import asyncio, concurrent.futures, concurrent.futures.process, gc, json, logging, tempfile, threading
__file__ = sys.argv[1]
with open(__file__) as f:
    exec(compile(f.read().rpartition("if __name__ ==")[0], __file__, "exec"))
del f
work = sys.argv[2:]

def _wait(folder, modules, forks):
    _load("_leave").share()
    gc.collect()
    gc.freeze()
    _load("_leave").rehearse()
    return work

main([__file__, "fork", "", ""])
"""

NOISY = """
import sys
class Noisy:
    def __init__(self, name, other=None):
        self.name, self.other = name, other
    def __del__(self):
        print("end of", self.name)
"""

WORK = {
    "nothing": "",
    "print": "print('x')",
    "no newline": "import sys\nsys.stdout.write('x')",
    "buffered": "import sys\nsys.stdout = open(1, 'w', closefd=False)\nprint('x')",
    "exit none": "import sys\nsys.exit()",
    "exit 3": "import sys\nsys.exit(3)",
    "exit 256": "import sys\nsys.exit(256)",
    "exit -1": "import sys\nsys.exit(-1)",
    "exit large": "import sys\nsys.exit(1 << 40)",
    "exit true": "import sys\nsys.exit(True)",
    "exit text": "import sys\nsys.exit('out of luck')",
    "error": NOISY + "x = Noisy('x')\n1 / 0",
    "error in function": NOISY + "def f():\n    x = Noisy('x')\n    1 / 0\nf()",
    "interrupt": NOISY + "x = Noisy('x')\nraise KeyboardInterrupt",
    "file left open": "f = open('left', 'w')\nf.write('all of it')",
    "file in a function": "def f():\n    yield open('left', 'w')\ng = f()\nnext(g).write('all of it')",
    "file in a shared module": "import json\njson.left = open('left', 'w')\njson.left.write('all of it')",
    "file in a shared class": "import logging\nlogging.Logger.left = open('left', 'w')\nlogging.Logger.left.write('all of it')",
    "file in sys": "import sys\nsys.left = open('left', 'w')\nsys.left.write('all of it')",
    "file in builtins": "import builtins\nbuiltins.left = open('left', 'w')\nbuiltins.left.write('all of it')",
    "file in a cycle": "f = [open('left', 'w')]\nf[0].write('all of it')\nf.append(f)\ndel f",
    "files in order": NOISY + "a, b, c = Noisy('a'), Noisy('b'), Noisy('c')",
    "private names first": NOISY + "a, _b, __c = Noisy('a'), Noisy('b'), Noisy('c')\ndef f(): pass",
    "garbage in cycles": NOISY + "a = Noisy('a'); a.other = Noisy('b', a)\nimport gc\ngc.disable()\ndel a\nc = Noisy('c')",
    "closure": NOISY + "def f(x):\n    return lambda: x\ng = f(Noisy('x'))",
    "in a shared module": NOISY + "import json\njson.x = Noisy('x')\ny = Noisy('y')",
    "in a module of its own": NOISY
    + "open('own.py', 'w').write('import json\\nx = None\\ndef f(): pass')\nimport own\nown.x = Noisy('x')\ny = Noisy('y', own)",
    "modules that hold each other": NOISY
    + "for n, o in 'ab', 'ba':\n    open(n + n + '.py', 'w').write('import %s%s' % (o, o))\nimport aa, bb\naa.x = Noisy('a'); bb.x = Noisy('b')",
    "a module that is not in sys": NOISY + "import types\nm = types.ModuleType('m')\nm.x = Noisy('x')\nm.f = lambda: m",
    "end that fails": "class C:\n    def __del__(self):\n        1 / 0\nc = C()",
    "end that imports": "class C:\n    def __del__(self):\n        import os, this\n        print(os.sep)\nc = C()",
    "end that asks for globals": "class C:\n    def __del__(self):\n        print(name, print, open)\nname = 'here'\nc = C()",
    "end that asks for modules": "import sys, json\nclass C:\n    def __del__(self):\n        print(sys and sys.modules.get('json'), json)\nc = C()",
    "suspended generator": "def g():\n    try:\n        yield\n    finally:\n        print('end')\nx = g()\nnext(x)",
    "weakref": NOISY + "import weakref\nx = Noisy('x')\nr = weakref.ref(x, lambda r: print('gone'))",
    "finalize": NOISY + "import weakref\nx = Noisy('x')\nweakref.finalize(x, print, 'finalized')",
    "atexit": NOISY + "import atexit\nx = Noisy('x')\natexit.register(print, 1)\natexit.register(print, 2)",
    "atexit that fails": "import atexit\natexit.register(lambda: 1 / 0)\natexit.register(print, 2)",
    "atexit that exits": "import atexit, sys\natexit.register(lambda: sys.exit(5))\natexit.register(print, 2)",
    "atexit that registers": "import atexit\natexit.register(lambda: atexit.register(print, 'more'))",
    "atexit that leaves": "import atexit, os\natexit.register(os._exit, 9)",
    "atexit called before": "import atexit\natexit.register(print, 'once')\natexit._run_exitfuncs()\nprint('on')",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print('t'))).start()\nprint('m')",
    "daemon": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nprint('m')",
    "thread of C": "import ctypes\nlib = ctypes.CDLL(None)\nt = ctypes.c_ulong()\nlib.pthread_create(ctypes.byref(t), None, lib.sleep, ctypes.c_void_p(60))",
    "detached": "import sys\nsys.stdout.detach()",
    "processes": "import concurrent.futures\ndef f(i):\n    open('left%d' % i, 'w').write('x')\n"
    "e = concurrent.futures.ProcessPoolExecutor(2)\n[e.submit(f, i) for i in range(20)]",
    "late thread": "import gc, pickle, threading, time\nclass C: pass\n"
    "def f():\n    time.sleep(0.3)\n    gc.collect()\n    print(pickle.loads(pickle.dumps(C())).__class__ is C, name)\n"
    "name = 'here'\nthreading.Thread(target=f).start()",
    "late thread and text": "import pickle, sys, threading, time\nclass C: pass\n"
    "def f():\n    time.sleep(0.3)\n    print(pickle.loads(pickle.dumps(C())).__class__ is C)\n"
    "threading.Thread(target=f).start()\nsys.exit('x')",
    "wrapped": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')\nprint('x')",
    "wrapped error": "import codecs, sys\nsys.stderr = codecs.getwriter('utf-8')(sys.stderr.detach())\nsys.stderr.write('x')",
    "wrapped, with something left": NOISY
    + "import io, json\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8', write_through=True)\njson.x = Noisy('x')",
    "stdout deleted": "import sys\ndel sys.stdout",
    "needs its own modules": "import csv, json\nclass C:\n    def __del__(self):\n        csv.writer(open('left', 'w')).writerow('ab')\njson.x = C()",
    "needs its own modules, in a class": "import csv, json\nclass C:\n    def __del__(self):\n        csv.writer(open('left', 'w')).writerow('ab')\n"
    "json.JSONEncoder.x = C()",
    "noisy in builtins": NOISY + "import builtins\nbuiltins.x = Noisy('x')",
    "lazy": "import importlib.util, sys\nopen('lazy.py', 'w').write('print(1)')\nspec = importlib.util.find_spec('lazy')\n"
    "spec.loader = importlib.util.LazyLoader(spec.loader)\nm = importlib.util.module_from_spec(spec)\nsys.modules['lazy'] = m\n"
    "spec.loader.exec_module(m)\nimport json\njson.m = m",
    "another name": "import builtins, gc, json, sys\nsys.modules.update({'__builtin__': builtins, 'g': gc, 's': sys, 'j': json})\n" + NOISY + "x = Noisy('x')",
    "types of types": "import json\nclass M(type):\n    __hash__ = None\n    def __getattr__(self, name): raise ValueError(name)\n"
    "class C(metaclass=M): pass\n" + NOISY + "json.x = Noisy('x')\nc = C()",
    "interrupted by its end": "import os\nclass C:\n    def __del__(self):\n        os.kill(os.getpid(), 2)\nc = C()",
    "import blocked": "import sys\nsys.modules['this'] = None",
    "frozen": NOISY + "import gc, json\njson.x = Noisy('x')\ngc.freeze()",
    "own exit": "import sys\nsys.exit = lambda code: None\nraise SystemExit(3)",
    "signal handled": "import os, signal, time\nclass C:\n    def __del__(self):\n        os.kill(os.getpid(), 15)\n        print(1)\n"
    "signal.signal(15, lambda *a: print('handled'))\nc = C()",
    "executor": "import concurrent.futures\ne = concurrent.futures.ThreadPoolExecutor(2)\ne.submit(print, 'x')",
    "lock that is held": "import threading\nlock = threading.Lock()\nlock.acquire()",
    "local": NOISY + "import threading\nx = threading.local()\nx.y = Noisy('y')",
    "loop": "import asyncio\nasync def f():\n    print('x')\nasyncio.run(f())",
    "loop left open": "import asyncio\nloop = asyncio.new_event_loop()\nloop.run_until_complete(asyncio.sleep(0))",
    "coroutine never awaited": "async def f():\n    pass\nx = f()",
    "log": "import logging\nlogging.basicConfig(filename='left')\nlogging.warning('all of it')",
    "memory handler": "import logging, logging.handlers\nh = logging.handlers.MemoryHandler(9, target=logging.StreamHandler())\nlogging.getLogger().addHandler(h)\nlogging.warning('all of it')",
    "temporary": "import os, tempfile\nf = tempfile.NamedTemporaryFile(dir='.')\nd = tempfile.TemporaryDirectory(dir='.')\nprint(len(os.listdir('.')))",
    "compressed": "import gzip\nf = gzip.GzipFile('left', 'w', mtime=0)\nf.write(b'all of it')",
    "archive": "import zipfile\nz = zipfile.ZipFile('left', 'w')\nz.writestr(zipfile.ZipInfo('a'), 'x')",
    "shelf": "import dbm.dumb\nd = dbm.dumb.open('left', 'n')\nd['a'] = 'x'",
    "unsent": "import socket\na, b = socket.socketpair()\nf = a.makefile('w')\nf.write('x')",
    "child": "import subprocess, sys\np = subprocess.Popen([sys.executable, '-c', ''])",
    "fork": "import os, sys\nif os.fork() == 0:\n    print('child')\n    sys.exit(4)\nprint(os.wait()[1])",
    "fork with a file": "import os\nf = open('left', 'a')\nif os.fork():\n    os.wait()\nf.write('x')",
    "pool": "import multiprocessing\np = multiprocessing.get_context('fork').Pool(1)\nprint(p.map(abs, [-1]))",
    "stdout closed": "import sys\nsys.stdout.close()",
    "stdout gone": "import os, sys\nsys.stdout = None",
    "descriptor closed": "import os\nprint('x')\nos.close(1)",
    "descriptor closed with text": "import os, sys\nsys.stdout = open(1, 'w', closefd=False)\nprint('x')\nos.close(1)",
    "full": "import sys\nsys.stdout = open('/dev/full', 'w')\nprint('x')",
    "own stream": NOISY
    + "class S(Noisy):\n    def write(self, s): sys.__stdout__.write(s.upper())\n    def flush(self): sys.__stdout__.write('flushed ')\nsys.stdout = S('s')\nprint('x')",
    "stream that fails": "import sys\nclass S:\n    def __repr__(self): return 'S'\n    def write(self, s): pass\n    def flush(self): raise OSError('no')\nsys.stdout = S()",
    "exception hook": NOISY + "x = Noisy('x')\nsys.excepthook = lambda k, e, t: print(k, x.name)\n1 / 0",
    "last value": NOISY + "sys.last_value = Noisy('x')\nsys.ps1 = Noisy('y')",
    "in the path": NOISY + "sys.path.append(Noisy('x'))",
    "shared class and text": "import logging, sys\nlogging.Logger.left = open('left', 'w')\nlogging.Logger.left.write('all of it')\nsys.exit('x')",
    "signal handler": NOISY + "import signal\nsignal.signal(signal.SIGTERM, Noisy('x').__init__)",
    "tracing": NOISY + "x = Noisy('x')\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)",
    "own main": NOISY + "sys.modules['__main__'] = Noisy('x')",
    "modules emptied": NOISY + "x = Noisy('x')\nsys.modules.clear()",
    "shared module replaced": NOISY + "sys.modules['json'] = Noisy('x')",
    "shared module reloaded": NOISY + "import importlib, json\njson.x = Noisy('x')\nimportlib.reload(json)",
    "garbage debugged": NOISY + "import gc\ngc.set_debug(gc.DEBUG_SAVEALL)\nx = Noisy('x'); x.other = x",
    "collector's callbacks": NOISY + "import gc\ngc.callbacks.append(lambda *a: None)\nx = Noisy('x')",
    "many": NOISY + "x = [Noisy(i) for i in range(1000)]\ny = {i: [i] for i in range(100000)}",
    "deep": NOISY + "x = Noisy(0)\nfor i in range(5000): x = Noisy('deep', x)",
    "very last": "import ctypes\nctypes.pythonapi.Py_AtExit(ctypes.CDLL(None).abort)",
    "output of C": "import ctypes\nctypes.CDLL(None).puts(b'buffered by C')",
    "warning": "import warnings\nwarnings.simplefilter('always')\nf = open('left', 'w')",
    "inspect": "import os\nos.environ['PYTHONINSPECT'] = '1'",
}


# Python ends objects of different modules in no order that it would promise.
ANY_ORDER = ("in a shared module", "in a module of its own", "modules that hold each other")


class TestLeave(Folder):
    def end(self, folder, arguments):
        where = os.path.join(self.dir, folder)
        os.makedirs(where, exist_ok=True)
        self.write(folder + "/code.py", self.work.encode())
        p = subprocess.run(
            # Without site: what is installed on the machine may have left something behind before the test begins.
            [self.python, "-S", "-u"] + arguments + ["code", "code.py"],
            cwd=where,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE,
        )
        files = {}
        for name in glob.glob(os.path.join(where, "*")):
            if os.path.isfile(name):
                with open(name, "rb") as f:
                    files[os.path.basename(name)] = f.read()
        return p.returncode, re.sub("0x[0-9a-f]+", "0x", p.stdout.decode()), files

    def test_ends(self):
        for name, self.work in WORK.items():
            with self.subTest(name):
                plain = self.end("plain " + name, [RUNNER])
                forked = self.end("forked " + name, ["-c", "import sys\n" + FORKED, RUNNER])
                if name in ANY_ORDER:
                    plain, forked = ((code, sorted(out), files) for code, out, files in (plain, forked))
                self.assertEqual(forked, plain)

    def test_shared_notices(self):
        """What a module has made that was imported before the work came is ended, too."""
        for folder in "plain", "forked":
            self.write(folder + "/mine.py", (NOISY + "mine = Noisy('mine')\n").encode())
        self.work = "import mine\nprint(mine.mine.name)"
        plain = self.end("plain", [RUNNER])
        self.assertEqual(plain[1], "mine\nend of mine\n")
        self.assertEqual(self.end("forked", ["-c", "import sys\nsys.path[0] = ''\nimport mine\n" + FORKED, RUNNER]), plain)

    def test_shared_ended(self):
        """As certifi does, which requests has a file of."""
        mine = "import atexit\ndef f():\n    try:\n        yield\n    finally:\n        print('closed')\ng = f()\nnext(g)\natexit.register(g.close)\n"
        for folder in "plain", "forked":
            self.write(folder + "/mine.py", mine.encode())
        self.work = "import mine, sys\nclass C:\n    def __del__(self):\n        print('whole' if finalizing() else 'short')\n"
        self.work += "finalizing, c = sys.is_finalizing, C()"
        self.assertEqual(self.end("plain", [RUNNER])[1], "closed\nwhole\n")
        forked = self.end("forked", ["-c", "import sys\nsys.path[0] = ''\nimport mine\n" + FORKED, RUNNER])
        self.assertEqual(forked[1], "closed\nshort\n")

    def test_short(self):
        """Nothing of what is shared is taken to pieces."""
        self.work = "import sys\nclass C:\n    def __del__(self):\n        print('whole' if finalizing() else 'short')\n"
        self.work += "finalizing, c = sys.is_finalizing, C()"
        self.assertEqual(self.end("plain", [RUNNER])[1], "whole\n")
        self.assertEqual(self.end("forked", ["-c", "import sys\n" + FORKED, RUNNER])[1], "short\n")

"""The runner: the same as plain Python, in every Python that is found here."""

import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

RUNNER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_muster", "_runner.py")
DEADLINE = 60
PYTHON2 = next(iter(glob.glob(os.path.expanduser("~/.pyenv/versions/2.7.*/bin/python"))), None) or shutil.which("python2.7")

SAME = {
    "globals": b"print(sorted(globals()))\nprint(__name__, __doc__, __package__)\n",
    "docstring": b'"""doc"""\nprint(__doc__)\n',
    "path and argv": b"import sys\nprint(sys.argv, sys.path[0], __file__)\n",
    "main": b"import sys, __main__\nx = 1\nprint(__main__.x, sys.modules['__main__'].__name__, __main__.__file__)\n",
    "traceback": b"def f():\n    1 / 0\n\ntry:\n    f()\nfinally:\n    print('end')\n",
    "chained": b"try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError(u'x')\n",
    "syntax error": b"print('never')\nx = = 1\n",
    "indentation": b"x = 1\n   y = 2\n",
    "import error": b"import no_such_module\n",
    "exit 0": b"import sys\nsys.exit(0)\n",
    "exit none": b"import sys\nsys.exit()\n",
    "exit 7": b"import sys\nsys.exit(7)\n",
    "exit text": b"import sys\nsys.exit('out of luck')\n",
    "exit big": b"import sys\nsys.exit(300)\n",
    "exit in finally": b"import sys\ntry:\n    1 / 0\nfinally:\n    sys.exit(3)\n",
    "atexit": b"import atexit, sys\natexit.register(lambda: print_('bye'))\ndef print_(s):\n    sys.stdout.write(s)\n1 / 0\n",
    "hook": b"import sys\ndef hook(k, e, t):\n    print(k.__name__, t.tb_lineno, t.tb_frame.f_code.co_name)\nsys.excepthook = hook\n1 / 0\n",
    "bom": b"\xef\xbb\xbfprint(len(u'\xc3\xa9'))\n",
    "cookie": b"# -*- coding: latin-1 -*-\nprint(len(u'\xe9'))\nraise ValueError(len(u'\xe9'))\n",
    "crlf": b"if 1:\r\n    print(1)\r\n",
    "no last newline": b"print(1)",
    "empty": b"",
    "future": b"from __future__ import division\nprint(1 / 2)\n",
    "no inherited future": b"print(eval('1'))\n",
    "interrupt": b"raise KeyboardInterrupt\n",
    "base exception": b"class E(BaseException):\n    pass\nraise E('x')\n",
    "pickle": b"import pickle\nclass C(object):\n    pass\nprint(type(pickle.loads(pickle.dumps(C()))) is C)\n",
    "source": b"import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f))\n",
    "thread": b"import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()\n",
    "globals at the end": b"class C:\n    def __del__(self):\n        print(name)\nname = 'here'\nc = C()\n",
}


class Folder(unittest.TestCase):
    python = sys.executable

    def setUp(self):
        self.dir = os.path.realpath(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.dir)

    def write(self, name, content):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content)
        return path

    def run_(self, *args, env=()):
        p = subprocess.run([self.python, "-u"] + list(args), cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=dict(os.environ, PYTHONIOENCODING="utf-8", **dict(env)), timeout=DEADLINE)  # fmt: skip
        return p.returncode, p.stdout.decode("utf-8"), p.stderr.decode("utf-8", "replace")

    def code(self, source, *args, env=()):
        return self.run_(RUNNER, "code", self.write("private/code", source), *args, env=env)


class Same(Folder):
    def test_as_plain_python(self):
        for name, source in SAME.items():
            if name == "thread" and self.python == PYTHON2:  # print is no function there
                continue
            with self.subTest(name):
                path = self.write("a.py", source)
                plain = self.run_(path, "x", "-y", "")
                ours = self.run_(RUNNER, "script", path, "x", "-y", "")
                self.assertEqual(ours, plain)


class Script(Folder):
    def test_sys_path_is_the_project(self):
        self.write("helper.py", b"print('from the project')\n")
        self.write("sub/a.py", b"import helper, sys, os\nprint(sys.path[0] == os.getcwd(), __file__, sys.argv)\n")
        code, out, err = self.run_(RUNNER, "script", "sub/a.py", "1")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(out.splitlines()[0], "from the project")
        self.assertIn(os.path.join(self.dir, "sub/a.py"), out)
        self.assertIn("True", out)
        self.assertIn("'sub/a.py', '1'", out)

    def test_the_runners_folder_is_not_on_the_path(self):
        self.write("a.py", b"import sys\nprint([p for p in sys.path if p.endswith('_muster')])\n")
        self.assertEqual(self.run_(RUNNER, "script", "a.py"), (0, "[]\n", ""))

    def test_missing(self):
        code, _, err = self.run_(RUNNER, "script", "no.py")
        self.assertEqual(code, 2)
        self.assertIn("can't open file 'no.py'", err)
        self.assertNotIn("Traceback", err)

    def test_output_is_not_held_back(self):
        self.write("a.py", b"import sys\nprint('first')\nsys.stdin.read()\n")
        p = subprocess.Popen([self.python, "-u", RUNNER, "script", "a.py"], cwd=self.dir, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)  # fmt: skip
        self.assertEqual(p.stdout.readline().strip(), b"first")
        p.stdin.close()
        p.stdout.close()
        self.assertEqual(p.wait(DEADLINE), 0)

    def test_multiprocessing(self):
        for method in ("fork", "spawn", "forkserver"):
            self.write("sub/a.py", (
                "import multiprocessing, os, sys\n"
                "class C:\n    def __init__(self, n):\n        self.n = n\n"
                "def work(c):\n    return C(c.n * 2), __name__\n"
                "if __name__ == '__main__':\n"
                "    with multiprocessing.get_context(%r).Pool(2) as pool:\n"
                "        for c, name in pool.map(work, [C(1), C(2)]):\n"
                "            print(c.n, name, type(c) is C)\n" % method).encode())  # fmt: skip
            code, out, err = self.run_(RUNNER, "script", "sub/a.py")
            name = "__main__" if method == "fork" else "__mp_main__"
            self.assertEqual((code, out, err), (0, "2 %s True\n4 %s True\n" % (name, name), ""), method)


class Code(Folder):
    def test_globals(self):
        code, out, err = self.code(b"import sys, os\nprint(__name__, '__file__' in globals(), sys.argv[1:], len(sys.argv[0]))\n"
                                   b"print(sys.path[0] == os.getcwd())", "a", "b")  # fmt: skip
        self.assertEqual((code, err), (0, ""))
        self.assertIn("__main__", out)
        self.assertIn("['a', 'b']", out)
        self.assertIn("False", out)
        self.assertIn("True", out)

    def test_traceback_shows_the_lines(self):
        code, _, err = self.code(b"\n\ndef f():\n    raise KeyError('x')  # here\n\nf()\n")
        self.assertEqual(code, 1)
        self.assertIn('File "<code>", line 6, in <module>\n    f()\n', err)
        self.assertIn('File "<code>", line 4, in f\n    raise KeyError(\'x\')  # here\n', err)
        self.assertNotIn("_runner", err)

    def test_syntax_error(self):
        code, _, err = self.code(b"x = = 1\n")
        self.assertEqual(code, 1)
        self.assertIn('File "<code>", line 1', err)
        self.assertIn("x = = 1", err)
        self.assertNotIn("_runner", err)

    def test_indented(self):
        for source in (b"    x = 1\n    if x:\n        print(x)\n", b"\n\n\tprint(1)\n\n", b"# c\n  print(1)\n# d\n",
                       b'    s = """\nzero"""\n    print(1)\n', b"    print(1)", b"  \r\n    print(1)\r\n    x = 2\r\n"):  # fmt: skip
            self.assertEqual(self.code(source), (0, "1\n", ""), source)
        self.assertEqual(self.code(b"    # c\nif 1:\n    print(1)\n"), (0, "1\n", ""))
        self.assertEqual(self.code(b"print(1)\n  print(2)\n")[0], 1)
        self.assertEqual(self.code(b"\n  \n"), (0, "", ""))

    def test_encodings(self):
        self.assertEqual(self.code(u"print(len(u'é'))\n".encode()), (0, "1\n", ""))
        self.assertEqual(self.code(b"\xef\xbb\xbfprint(1)"), (0, "1\n", ""))
        code, _, err = self.code(b"print('\xe9')")
        self.assertEqual(code, 1)
        self.assertIn("the code is not UTF-8", err)

    def test_nul(self):
        code, _, err = self.code(b"print(1)\0")
        self.assertEqual(code, 1)
        self.assertIn("null bytes", err)

    def test_exit(self):
        self.assertEqual(self.code(b"import sys\nsys.exit(7)")[0], 7)
        self.assertEqual(self.code(b"import sys\nsys.exit('no luck')"), (1, "", "no luck\n"))


class Lean(Folder):
    def test_code_pays_for_no_module_that_it_does_not_use(self):
        source = b"import sys\nprint([m for m in ('linecache', 'tokenize', 're', 'traceback') if m in sys.modules])\n"
        self.assertEqual(self.code(source), self.run_(self.write("plain.py", source)))

    def test_lines_of_code_are_there_for_whoever_asks(self):
        source = b"import sys\nimport linecache\nprint(repr(linecache.getline('<code>', 2)), linecache is sys.modules['linecache'])\n"
        source += b"from importlib import reload\nprint(linecache.__spec__.origin == linecache.__file__, reload(linecache) is linecache)\n"
        self.assertEqual(self.code(source), (0, "'import linecache\\n' True\nTrue True\n", ""))


class Retry(Folder):
    """A worker on a machine whose network cannot make a connect wait for the master's bind."""

    SOURCE = (b"import os, socket\ns = socket.socket()\ns.settimeout(%s)\n"
              b"print('begin')\ns.connect((os.environ['CDSW_MASTER_IP'], int(os.environ['PORT'])))\n"
              b"print(s.recv(10).decode())\n")  # fmt: skip

    def start(self, master, retry, port, timeout=b"None"):
        env = dict(os.environ, CDSW_MASTER_IP=master, PORT=str(port))
        if retry:
            env["MUSTER_CONNECT_RETRY"] = "1"
        path = self.write("private/code", self.SOURCE % timeout)
        return subprocess.Popen([self.python, "-u", RUNNER, "code", path], env=env, cwd=self.dir, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)  # fmt: skip

    def test_waits_for_the_master(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
            p = self.start("127.0.0.1", True, s.getsockname()[1])
            self.assertEqual(p.stdout.readline(), b"begin\n")
            s.listen(1)

            def serve():
                with s.accept()[0] as c:
                    c.sendall(b"hello")

            served = threading.Thread(target=serve)
            served.start()
            out, err = p.communicate(timeout=DEADLINE)
            served.join(DEADLINE)
            self.assertEqual((out, err), (b"hello\n", b""))

    def test_refused_is_refused(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            for master, retry, timeout in (("127.0.0.1", False, b"None"), ("127.0.0.1", True, b"0.2")):
                p = self.start(master, retry, s.getsockname()[1], timeout)
                out, err = p.communicate(timeout=DEADLINE)
                self.assertEqual((p.returncode, out), (1, b"begin\n"))
                self.assertIn(b"refused", err)


class Ahead(Folder):
    """The same by an interpreter that was started before its work was known, as another process and with another environment."""

    modules = ["no_such_module"]
    meanwhile = staticmethod(lambda: None)
    taken = b"t"

    def run_(self, *args, env=()):
        if args[0] != RUNNER:
            return super().run_(*args, env=env)
        folder = os.path.join(self.dir, "ahead")
        os.mkdir(folder)
        waits, work = os.path.join(folder, "waits"), os.path.join(folder, "work")
        os.mkfifo(waits)
        os.mkfifo(work)
        says, feed = os.open(waits, os.O_RDWR), os.open(work, os.O_RDWR)
        p = subprocess.Popen([self.python, "-u", RUNNER, "wait", folder] + self.modules, cwd=self.dir, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=dict(os.environ, PYTHONIOENCODING="utf-8", DECOY="x",
                             **{k: v for k, v in dict(env).items() if k.startswith("PYTHON")}))  # fmt: skip
        self.said = []  # to people
        for letter in iter(lambda: os.read(says, 1), b"w"):
            self.assertEqual(letter, b"n")
            self.said.append(b"".join(iter(lambda: os.read(says, 1), b"\n")).decode("utf-8"))
        self.meanwhile()
        environment = ["%s=%s" % v for v in dict(os.environ, PYTHONIOENCODING="utf-8", **dict(env)).items()]
        words = [str(len(args) - 1), str(len(environment))] + list(args[1:]) + environment
        os.write(feed, "".join(w + "\0" for w in words).encode())
        os.close(feed)
        out, err = p.communicate(timeout=DEADLINE)
        os.write(says, b".")
        rest = os.read(says, 3)
        self.apart = rest.startswith(b"a")
        self.assertEqual(rest.lstrip(b"a")[:1], self.taken)
        os.close(says)
        shutil.rmtree(folder)
        return p.returncode, out.decode("utf-8"), err.decode("utf-8", "replace")


class Preload(Ahead):
    """Modules that are imported before the work comes, and when that is declined."""

    def modules_of(self, **sources):
        for name, source in sources.items():
            self.write(name + ".py", source)
        self.modules = list(sources)

    def declines(self, ends=0, **options):
        self.taken = b"."
        self.assertEqual(self.code(b"print('never')", **options), (ends, "", ""))

    def test_is_imported(self):
        self.modules_of(early=b"import os\nvalue = os.environ.get('UNKNOWN')\nos.environ['LEFT'] = 'x'\n")
        source = b"import sys\nprint('early' in sys.modules)\nimport early\nprint(early.value, early.os.environ.get('LEFT'))\n"
        self.assertEqual(self.code(source), (0, "True\nNone x\n", ""))

    def test_what_site_has_done(self):
        site = os.path.dirname(self.write("site/sitecustomize.py", b"import os\nos.environ['FROM_SITE'] = 'x'\n"))
        subprocess.check_call([self.python, "-m", "venv", "--without-pip", os.path.join(self.dir, "venv")])
        self.modules, self.python = [], os.path.join(self.dir, "venv", "bin", "python")  # which imports nothing of others' at its start
        source = b"import os; print(os.environ.get('FROM_SITE'), os.environ.get('SAID'))"
        self.assertEqual(self.code(source, env={"SAID": "1"}), (0, "None 1\n", ""))
        self.assertEqual(self.apart, sys.version_info >= (3, 13))
        self.declines(env={"PYTHONPATH": site, "SAID": "1"})  # from which it may have made what it has set
        self.assertTrue(self.apart)
        self.taken = b"t"
        self.assertEqual(self.code(source, env={"PYTHONPATH": site, "DECOY": "x"}), (0, "x None\n", ""))

    def test_errors_are_for_who_imports(self):
        self.modules_of(broken=b"raise ValueError('no luck')\n")
        code, out, err = self.code(b"print('first')\nimport broken\n")
        self.assertEqual((code, out), (1, "first\n"))
        self.assertIn("ValueError: no luck", err)
        self.assertEqual(self.said, ["preload: broken cannot be imported: ValueError: no luck"])

    def test_what_was_read_of_the_environment(self):
        for read in ("environ.get('SAID')", "getenv('SAID')", "environ.get('SAID', 1)", "environ.copy()", "environ.keys() and list(os.environ)", "environb.get(b'SAID')"):
            self.modules_of(early=b"import os\nos.%s\n" % read.encode())
            with self.subTest(read):
                self.declines(env={"SAID": "1"})
        self.modules_of(early=b"import os\nos.environ.get('OTHER')\n'SAIDS' in os.environ\n")
        self.taken = b"t"
        self.assertEqual(self.code(b"import os; print(os.environ['SAID'])", env={"SAID": "1"}), (0, "1\n", ""))

    def test_what_changed_on_the_disk(self):
        libraries = os.path.join(self.dir, "libraries")
        self.write("libraries/numeric/__init__.py", b"")
        self.write("libraries/deep/down.py", b"")
        for change in ("early.py", "helper.py", "libraries/installed.dist-info", "libraries/numeric/other.py", "libraries/deep/down.py", "numeric.py"):
            self.modules_of(early=b"import helper, deep.down\n", helper=b"")
            self.modules.append("numeric")
            self.meanwhile = lambda: os.utime(os.path.dirname(self.write(change, b"# other\n"))) or os.utime(os.path.join(self.dir, change), (1, 1))
            with self.subTest(change):
                self.declines(65, env={"PYTHONPATH": libraries})
        self.meanwhile, self.taken = lambda: self.write("results.csv", b"1"), b"t"
        os.remove(os.path.join(self.dir, "numeric.py"))
        self.assertEqual(self.code(b"print(1)", env={"PYTHONPATH": libraries}), (0, "1\n", ""))


class SameAhead(Ahead, Same):
    pass


class ScriptAhead(Ahead, Script):
    pass


class CodeAhead(Ahead, Code):
    def test_environment(self):
        source = b"import os, sys\nprint(os.environ.get('DECOY'), os.environ['SAID'])\nos.system('echo $DECOY $SAID')\nprint(sys.argv)\n"
        code, out, err = self.code(source, "a", "", env={"SAID": "yes=\u00e9"})
        self.assertEqual((code, out, err), (0, "None yes=\u00e9\nyes=\u00e9\n['', 'a', '']\n", ""))

    def test_nothing_stays_open(self):
        source = b"import os\nprint([f for f in range(3, 64) if os.path.exists('/proc/self/fd/%d' % f)])"
        self.assertEqual(self.code(source), (0, "[]\n", ""))


@unittest.skipUnless(PYTHON2, "capability python2: there is no Python 2.7 on this machine")
class Same2(Same):
    python = PYTHON2


@unittest.skipUnless(PYTHON2, "capability python2: there is no Python 2.7 on this machine")
class Code2(Code):
    python = PYTHON2


@unittest.skipUnless(PYTHON2, "capability python2: there is no Python 2.7 on this machine")
class Retry2(Retry):
    python = PYTHON2

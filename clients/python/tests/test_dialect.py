"""IPython's syntax in scripts and code, run by real interpreters: with IPython where it is, without it everywhere."""

import importlib.util
import os
import signal
import subprocess
import sys
import unittest

from .test_runner import DEADLINE, PYTHON2, RUNNER, Folder

HAS_IPYTHON = importlib.util.find_spec("IPython") is not None
NEEDS_IPYTHON = unittest.skipUnless(HAS_IPYTHON, "capability ipython: IPython is not installed for this Python")

# name: source, stdout, end of stderr. The exit code is 0; each row runs as code and as a script.
LINES = {
    "a command": ("!echo hello", "hello\n"),
    "bash and not sh": ("![[ abc == a* ]] && echo bash $BASH | grep -o 'bash$'", "bash\n"),
    "both streams into a file": ("!ls /no-such &> out; wc -l < out | tr -d ' '", "1\n"),
    "standard error": ("!echo oops >&2", "", "oops\n"),
    "several commands": ("!echo a; echo b && echo c | tr c C", "a\nb\nC\n"),
    "a shell loop": ("!for i in 1 2 3; do echo n$i; done", "n1\nn2\nn3\n"),
    "a shell conditional": ("!if true; then echo yes; else echo no; fi", "yes\n"),
    "in a for": ("for i in range(2):\n    !echo $i", "0\n1\n"),
    "in an if": ("if True:\n    !echo in\nelse:\n    !echo out\n!echo after", "in\nafter\n"),
    "deeply nested": ("for a in 'x':\n\tif a:\n\t\twhile True:\n\t\t\t!echo $a\n\t\t\tbreak", "x\n"),
    "in a function": ("def f(v):\n    !echo $v\nf(7)", "7\n"),
    "in a with and a try": ("try:\n    with open('/dev/null'):\n        !echo a\nfinally:\n    !echo b", "a\nb\n"),
    "a failing command": ("!false\nprint('on', _exit_code)", "on 1\n"),
    "an unknown command": ("!no-such-command 2>/dev/null\nprint(_exit_code)", "127\n"),
    "a killed command": ("!kill -9 $$\nprint(_exit_code)", "-9\n"),
    "a variable": ("x = 5\n!echo $x", "5\n"),
    "an attribute": ("import os\n!echo $os.sep", "/\n"),
    "an expression": ("x = 5\n!echo {x * 2} {'a'.upper()}", "10 A\n"),
    "a slice": ("x = [1, 2, 3]\n!echo {x[1:]}", "[2, 3]\n"),
    "a conversion": ("x = 'a'\n!echo {x!r}", "a\n"),
    "a local before a global": ("x = 1\ndef f():\n    x = 2\n    !echo $x\nf()", "2\n"),
    "a variable of the environment": ("!echo $MARK ${MARK}", "mark mark\n"),
    "an undefined name leaves all to bash": ("x = 5\n!x=7; echo $x $MARK", "7 mark\n"),
    "a dollar that is doubled": ("MARK = 1\n!echo $$MARK $MARK", "mark 1\n"),
    "single quotes": ("x = 5\n!echo '$x' \"$x\"", "$x 5\n"),
    "doubled braces": ("x = 5\n!echo {{a,b}}{x}", "a5 b5\n"),
    "braces of bash": ("!echo {a,b}{1..3}", "a1 a2 a3 b1 b2 b3\n"),
    "awk": ("!echo a b | awk '{print $2}'", "b\n"),
    "find": ("!find /dev/null -exec echo {} \\;", "/dev/null\n"),
    "an assignment": ("x = !echo a; echo b\nprint(x, len(x), x[1])", "['a', 'b'] 2 b\n"),
    "an assignment without blanks": ("x=!echo a\nprint(x)", "['a']\n"),
    "an assignment takes standard error": ("x = !ls /no-such\nprint(len(x), '/no-such' in x.s)", "1 True\n"),
    "an assignment with a variable": ("v = 3\nx = !echo $v {v + 1}\nprint(x.s, x.n, x.l)", "3 4 3 4 ['3 4']\n"),
    "an assignment to an item": ("d = {}\nd['a=!b'] = !echo c\nprint(d)", "{'a=!b': ['c']}\n"),
    "an assignment to an annotated name": ("x: list = !echo a\nprint(x)", "['a']\n"),
    "an assignment in a block": ("if 1:\n  x = !echo a\n  print(x)", "['a']\n"),
    "an assignment behind a colon": ("if 1: x = !echo a\nprint(x)", "['a']\n"),
    "an assignment behind a semicolon": ("print(1); x = !echo a\nprint(x)", "1\n['a']\n"),
    "fields and grep": ("x = !printf 'b 2\\na 10\\nc\\n'\nprint(x.fields(0, 1), x.grep('A'), x.grep('a', prune=True), x.sort(1, nums=True))",
                        "['b 2', 'a 10', 'c'] ['a 10'] ['b 2', 'c'] ['c', 'b 2', 'a 10']\n"),
    "lines are a list in another process": ("import pickle\nx = !echo a\nprint(type(pickle.loads(pickle.dumps(x))).__name__)", "list\n"),
    "captured and dropped": ("!!echo a\nprint('b')", "b\n"),
    "standard input of a captured one": ("x = !cat\nprint(x)", "[]\n"),
    "a continued line": ("!echo a \\\n   b \\\n   c\nprint('d')", "a b c\nd\n"),
    "blanks around": ("\n\n   \n!echo a   \n\n\n  \n", "a\n"),
    "indented as a whole": ("    !echo a\n    for i in [1]:\n        !echo $i\n", "a\n1\n"),
    "indented with tabs and blank lines": ("\n\n\tx = 1\n\n\t!echo $x\n", "1\n"),
    "line ends of Windows": ("x = 1\r\nif x:\r\n    !echo $x\r\n!echo b\r\n", "1\nb\n"),
    "no newline at the end": ("print(1)\n!echo a", "1\na\n"),
    "a form feed": ("\f\n!echo a\n\f\n!echo b", "a\nb\n"),
    "the order of prints and commands": ("print(1)\n!echo 2\nprint(3)\n!echo 4\nprint(5)", "1\n2\n3\n4\n5\n"),
    "a write without a newline": ("import sys\n_ = sys.stdout.write('a')\n!echo b", "ab\n"),
    "in a docstring": ('!echo a\ndef f():\n    """\n!echo no\n%no\n    """\nf()', "a\n"),
    "in a string over lines": ("x = '''\n!echo no\n'''\n!echo {len(x)}", "10\n"),
    "in a continued string": ("x = 'a\\\n!echo no'\n!echo a\nprint(x)", "a\na!echo no\n"),
    "in a raw string": (r"x = r'\\'" + "\n!echo a", "a\n"),
    "in a comment": ("# !echo no\n!echo a # no\nx = 1  # = !echo no", "a\n"),
    "not equal": ("a = 1\nb = (a\n!= 2)\nprint(a != 2, b)\n!echo a", "True True\na\n"),
    "modulo at the beginning of a line": ("a = (7\n% 4)\nb = 7 \\\n% 4\nprint(a, b)\n!echo a", "3 3\na\n"),
    "divided at the beginning of a line": ("a = (8\n/ 4)\nprint(a)\n!echo a", "2.0\na\n"),
    "a decorator": ("def d(f):\n    return f\n@d\ndef f():\n    !echo a\nf()", "a\n"),
    "default arguments and keywords": ("def f(a=1, *b, c=2): return a\nprint(f(a=3))\n!echo a", "3\na\n"),
    "a walrus": ("if (y := 3) == 3: x = !echo $y\nprint(x)", "['3']\n"),
    "augmented assignments": ("x = 1\nx += 1; x //= 1; x **= 2\n!echo $x", "4\n"),
    "names beyond ASCII": ("größe = 5\n!echo $größe é", "5 é\n"),
    "quotes of the shell": ("!echo \"it's\" 'a \"b\"' \"\"\nprint('c')", "it's a \"b\" \nc\n"),
    "one quote": ("!echo it\\'s\nprint(\"x\")\n!echo \"(\"\nprint(')')", "it's\nx\n(\n)\n"),
    "three quotes": ("!echo '''a'''\nprint('b')", "a\nb\n"),
    "a comment at the end": ("x = 1\n!echo a ?  # a question", "a ?\n"),
    "a question mark in quotes": ("!echo 'why?'", "why?\n"),
    "annotations of the future": ("from __future__ import annotations\ndef f(x: Nothing): pass\n!echo a", "a\n"),
    "a docstring of the module": ("'''doc'''\n!echo a\nprint(__doc__)", "a\ndoc\n"),
    "the main guard": ("if __name__ == '__main__':\n    !echo main", "main\n"),
    "prompts": (">>> x = 1\n>>> for i in [1]:\n...     print(i)\n>>> !echo $x", "1\n1\n"),
    "prompts of IPython": ("In [1]: x = 1\n\nIn [2]: for i in [2]:\n   ...:     print(i)\n   ...:", "2\n"),
    "quoting calls": ("def f(*a): print(a)\n,f a b\n;f a b\n/f 1 2", "('a', 'b')\n('a b',)\n(1, 2)\n"),
    "top-level await": ("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 3\nx = await f()\nprint(x)", "3\n"),
    "await and commands": ("import asyncio\nx = await asyncio.sleep(0, 4)\n!echo $x", "4\n"),
    "async for and with": ("async def g():\n    yield 1\nasync for x in g():\n    print(x)", "1\n"),
    "a task in the background": ("import asyncio\nt = asyncio.create_task(asyncio.sleep(0, 5))\nprint(await t)", "5\n"),
    "a background command": ("!sleep 0 & echo a", "a\n"),
    "pickled classes": ("import pickle\n!true\nclass C(object): pass\nprint(type(pickle.loads(pickle.dumps(C()))) is C)", "True\n"),
    "the source of a function": ("import inspect\n!true\ndef f():\n    return 1\nprint(inspect.getsource(f))",
                                 "def f():\n    return 1\n\n"),
    "exit 0": ("import sys\n!true\nsys.exit(0)", ""),
    "exit none": ("import sys\n!true\nsys.exit()", ""),
}

# name: source, exit code, the whole of stderr with {name} for the name of the source
ENDS = {
    "exit 7": ("!true\nimport sys\nsys.exit(7)", 7, ""),
    "exit with text": ("!true\nimport sys\nsys.exit('no luck')", 1, "no luck\n"),
    "exit(3)": ("!true\nexit(3)", 3, ""),
    "an exception": ("!true\n\ndef f():\n    1 / 0  # here\n\nf()", 1,
                     'Traceback (most recent call last):\n  File "{name}", line 6, in <module>\n    f()\n'
                     '  File "{name}", line 4, in f\n    1 / 0  # here\nZeroDivisionError: division by zero\n'),
    "after a continued line": ("!true \\\n  a\nx = 1\nraise KeyError(x)", 1,
                               'Traceback (most recent call last):\n  File "{name}", line 4, in <module>\n    raise KeyError(x)\n'
                               "KeyError: 1\n"),
    "in the line itself": ("class E:\n    def __format__(self, spec): raise SystemExit(4)\ne = E()\n!echo $e", 4, ""),
    "a line that raises": ("x = !sleep 1 &", 1,
                           'Traceback (most recent call last):\n  File "{name}", line 1, in <module>\n    x = !sleep 1 &\n'
                           "OSError: a command in the background has no output to wait for: sleep 1 &\n"),
    "chained": ("!true\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    x = !a &", 1,
                'Traceback (most recent call last):\n  File "{name}", line 3, in <module>\n    1 / 0\n'
                "ZeroDivisionError: division by zero\n\nDuring handling of the above exception, another exception occurred:\n\n"
                'Traceback (most recent call last):\n  File "{name}", line 5, in <module>\n    x = !a &\n'
                "OSError: a command in the background has no output to wait for: a &\n"),
    "awaited": ("async def f():\n    raise KeyError(1)\nawait f()", 1,
                'Traceback (most recent call last):\n  File "{name}", line 3, in <module>\n    await f()\n'
                '  File "{name}", line 2, in f\n    raise KeyError(1)\nKeyError: 1\n'),
}  # fmt: skip

# Each is no Python and no IPython: what stderr must say.
WRONG = {
    "a syntax error after a command": ("!true\nx = = 1", "line 2\n    x = = 1"),
    "an indentation error": ("!true\n  x = 1", "IndentationError"),
    "a command where IPython knows none": ("if 1: !ls", "line 1\n    if 1: !ls"),
    "a command in an expression": ("print(!ls)", "SyntaxError"),
    "a command of another indentation": ("if 1:\n    x = 1\n  !ls", "line 3\n"),
    "an open bracket": ("x = (1\n!ls", "SyntaxError"),
    "an open string": ("x = '''\n!ls", "SyntaxError"),
    "await in a function": ("def f():\n    await g()", "SyntaxError"),
}


def without_marks(err):
    """Take away the lines with ^ that newer Pythons print."""
    return "".join(line for line in err.splitlines(True) if line.strip(" ~^\n") or not line.strip())


class Both(Folder):
    def one_of_both(self, source, i):
        """Run source as code if i is even, else as a script: the tables are long, and IPython is slow to start."""
        return list(self.both(source, [i % 2]))[0]

    def both(self, source, ways=(0, 1)):
        """Run source as code and as a script; yield (name of the source, result)."""
        if isinstance(source, str):
            source = source.encode("utf-8")
        env = {"MARK": "mark", "HOME": self.dir}
        if 0 in ways:
            yield "<code>", self.code(source, env=env)
        if 1 in ways:
            yield os.path.join(self.dir, "a.py"), self.run_(RUNNER, "script", self.write("a.py", source), env=env)


class Dialect(Both):
    def test_lines(self):
        for i, (name, row) in enumerate(LINES.items()):
            source, out, err = row if len(row) == 3 else row + ("",)
            with self.subTest(name):
                self.assertEqual(self.one_of_both(source, i)[1], (0, out, err))
        self.assertFalse(os.path.exists(os.path.join(self.dir, ".ipython")))

    def test_ends(self):
        for name, (source, code, err) in ENDS.items():
            for kind, got in self.both(source):
                with self.subTest(name, kind=kind):
                    self.assertEqual((got[0], without_marks(got[2])), (code, err.replace("{name}", kind)))

    def test_wrong(self):
        for name, (source, words) in WRONG.items():
            for kind, (code, out, err) in self.both(source):
                with self.subTest(name, kind=kind):
                    self.assertEqual((code, out), (1, ""))
                    self.assertIn(words, err)
                    self.assertNotIn("__muster_shell__", err)
                    self.assertNotIn("Traceback", err)

    def test_marks_of_a_traceback(self):
        """Where Python marks a part of the line, it is the part that was written."""
        code, _, err = self.code(b"if 1:\n    x = [\n      1]; y = !sleep 1 &\n    z = x[3]  # here\n")
        self.assertEqual(code, 1)
        code, _, err = self.code(b"def f():\n  x = !a &\nf()")
        lines = err.splitlines()
        at = lines.index("    x = !a &")
        self.assertNotIn("^", lines[at + 1])

    def test_not_utf8(self):
        latin = u"# -*- coding: latin-1 -*-\nx = 'é'\n!echo $x\n".encode("latin-1")
        self.assertEqual(self.run_(RUNNER, "script", self.write("a.py", latin)), (0, u"é\n", ""))
        code, _, err = self.run_(RUNNER, "script", self.write("a.py", b"x = '\xe9'\n!echo no\n"))
        self.assertEqual(code, 1)
        self.assertIn("SyntaxError", err)
        self.assertEqual(self.run_(RUNNER, "script", self.write("a.py", b"\xef\xbb\xbf!echo a\n")), (0, "a\n", ""))

    def test_names_are_left_alone(self):
        """A script sees nothing of ours, and may have modules of the same names."""
        for name in ("_shell", "_syntax", "_dialect", "_main"):
            self.write(name + ".py", b"print('mine')")
        source = (b"import sys\n!true\nprint(sorted(n for n in globals() if n[:2] != '__'))\n"
                  b"import _shell, _syntax, _dialect, _main\nprint(sys.path[0], sys.argv)\n")  # fmt: skip
        out = "['_exit_code', 'sys']\n" + "mine\n" * 4
        self.assertEqual(self.code(source), (0, out + "%s ['']\n" % self.dir, ""))

    def test_five_hundred_and_more(self):
        code, out, err = self.code(b"x = 1\nif 0:\n" + b"    !echo no\n" * 3000 + b"print(x)\n")
        self.assertEqual((code, out, err), (0, "1\n", ""))

    def test_ten_megabytes(self):
        line = b"x = 'a long line of text that goes on and on, and on and on, and on and on, and on and on'  # comment\n"
        self.assertEqual(self.code(line * 30000 + b"s = '''" + b"abc\n!no\n" * 900000 + b"'''\n!echo $x | wc -w\n" )[:2],
                         (0, "22\n"))  # fmt: skip

    def test_output_streams(self):
        """The output of a command is there while it runs."""
        self.write("a.py", b"print('begin')\n!echo first; read x; echo got $x\n")
        p = subprocess.Popen([self.python, "-u", RUNNER, "script", "a.py"], cwd=self.dir, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual([p.stdout.readline(), p.stdout.readline()], [b"begin\n", b"first\n"])
        p.stdin.write(b"answer\n")
        p.stdin.close()
        self.assertEqual(p.stdout.read(), b"got answer\n")
        p.stdout.close()
        self.assertEqual(p.wait(DEADLINE), 0)

    def signalled(self, number, source):
        path = self.write("private/code", source)
        p = subprocess.Popen([self.python, "-u", RUNNER, "code", path], cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             start_new_session=True)  # fmt: skip
        self.assertEqual(p.stdout.readline(), b"begin\n")
        os.killpg(p.pid, number)  # as an engine's init and a terminal do
        out, err = p.communicate(timeout=DEADLINE)
        return p.returncode, out.decode(), err.decode()

    def test_interrupt(self):
        for line in (b"!echo begin; sleep 100", b"!trap 'echo bye; exit' INT; echo begin; while :; do sleep 0.1; done"):
            code, out, err = self.signalled(signal.SIGINT, line + b"\nprint('no')\n")
            self.assertEqual(code, -signal.SIGINT)
            self.assertEqual(out, "bye\n" if b"trap" in line else "")
            self.assertIn("KeyboardInterrupt", err)
            self.assertIn('File "<code>", line 1', err)
            self.assertNotIn("_shell", err)
            self.assertNotIn("subprocess", err)
        caught = b"try:\n    !echo begin; sleep 100\nexcept KeyboardInterrupt:\n    print('caught')\n"
        self.assertEqual(self.signalled(signal.SIGINT, caught), (0, "caught\n", ""))

    def test_terminate(self):
        code, out, _ = self.signalled(signal.SIGTERM, b"!echo begin; sleep 100\nprint('no')\n")
        self.assertEqual((code, out), (-signal.SIGTERM, ""))

    def test_multiprocessing(self):
        source = (
            "import multiprocessing, sys\n"
            "v = !echo 2\n"
            "class C:\n    def __init__(self, n):\n        self.n = n\n"
            "def work(c):\n    w = !echo {c.n}\n    return C(int(w[0]) * int(v[0])), __name__\n"
            "if __name__ == '__main__':\n"
            "    !echo once\n"
            "    with multiprocessing.get_context(%r).Pool(2) as pool:\n"
            "        for c, name in pool.map(work, [C(1), C(2)]):\n"
            "            print(c.n, name, type(c) is C)\n"
        )
        for method in ("fork", "spawn", "forkserver"):
            name = "__main__" if method == "fork" else "__mp_main__"
            env = {"PYTHONPATH": os.path.dirname(os.path.dirname(RUNNER))}
            want = (0, "once\n2 %s True\n4 %s True\n" % (name, name), "")
            text = (source % method).encode()
            with self.subTest(method):
                self.assertEqual(self.run_(RUNNER, "script", self.write("a.py", text), env=env), want)
                self.assertEqual(self.code(text, env=env), want)
                plain = text.replace(b"!echo once", b"print('once')").replace(b"v = !echo 2", b"v = ['2']")
                plain = plain.replace(b"w = !echo {c.n}", b"w = [c.n]")
                self.assertEqual(self.code(plain, env=env), want)

    def test_unguarded_code_is_not_run_again(self):
        source = (b"import multiprocessing, os\nprint('once')\n!echo once\n"
                  b"p = multiprocessing.get_context('spawn').Process(target=os.getpid)\np.start()\np.join()\nprint(p.exitcode)\n")  # fmt: skip
        self.assertEqual(self.code(source), (0, "once\nonce\n0\n", ""))


MAGICS = {
    "a line magic": ("%env MARK=other\nimport os\nprint(os.environ['MARK'])", "env: MARK=other\nother\n"),
    "its value": ("x = %pwd\nimport os\nprint(x == os.getcwd())", "True\n"),
    "in a block": ("for i in [1]:\n    %time print(i)", None),
    "with a variable": ("x = 'MARK'\ny = %env $x\nprint(y)", "mark\n"),
    "cd": ("%cd -q /\nimport os\nprint(os.getcwd())", "/\n"),
    "a cell of bash": ("%%bash\nfor i in 1 2; do\n  echo $i\ndone", "1\n2\n"),
    "a cell of bash after blank lines": ("\n\n  %%bash\n  echo a", "a\n"),
    "a cell of sh with an error": ("%%sh --no-raise-error\nexit 3", ""),
    "a cell in a file": ("%%writefile here.txt\nsome text\n", None),
    "a cell with a variable": ("%%capture out\nprint(1)", ""),
    "a system magic": ("x = %sx echo a\nprint(x)", "['a']\n"),
    "a question": ("def f(a):\n    'about f'\nf?", None),
    "two questions": ("def f(a):\n    return 'deep inside'\nf??", None),
    "the shell": ("x = 3\nget_ipython().system('echo $x')\nprint(_exit_code)", "3\n0\n"),
    "its output": ("def f():\n    y = 4\n    print(get_ipython().getoutput('echo $y'))\nf()", "['4']\n"),
    "display": ("display('a')\ndef f():\n    display(1)\nf()", "'a'\n1\n"),
    "the name of its own": ("print(__IPYTHON__)", "True\n"),
    "exit": ("x = %pwd\nimport sys\nexit(0)", ""),
    "sys.path": ("x = %pwd\nimport sys\nprint(sys.path[0] == x, '' in sys.path)", "True False\n"),
    "main": ("x = %pwd\nimport __main__\nprint(__main__.x == x, __name__)", "True __main__\n"),
    "order": ("print(1)\n!echo 2\n%time print(3)", None),
}

SAYS = {"in a block": "1\nCPU times", "a cell in a file": "riting here.txt", "a question": "about f", "two questions": "deep inside",
        "order": "1\n2\n3\nCPU times"}  # fmt: skip

MAGIC_ENDS = {
    "an exception in a timed line": ("def f():\n    1 / 0\n%time f()", 1, '  File "{name}", line 2, in f\n    1 / 0\nZeroDivision'),
    "an exception in a timed cell": ("%%time\n1 / 0", 1, "ZeroDivisionError: division by zero\n"),
    "an unknown magic": ("x = 1\n%nosuch", 1, 'line 2, in <module>\n    %nosuch\n'),
    "a failing cell of bash": ("%%bash\nexit 3", 1, 'line 1, in <module>\n    %%bash\n'),
    "exit in a timed cell": ("%%time\nimport sys\nsys.exit(5)", 5, ""),
    "exit in a run file": ("%run inner.py", 6, ""),
}


class Magics(Both):
    """The whole of IPython, where it is; a clear error, where it is not."""

    @NEEDS_IPYTHON
    def test_magics(self):
        for i, (name, (source, out)) in enumerate(MAGICS.items()):
            with self.subTest(name):
                code, got, err = self.one_of_both(source, i)[1]
                self.assertEqual((code, err), (0, ""))
                if out is None:
                    self.assertIn(SAYS[name], got)
                else:
                    self.assertEqual(got, out)
        self.assertFalse(os.path.exists(os.path.join(self.dir, ".ipython")), "a profile in the home folder")

    @NEEDS_IPYTHON
    def test_ends_of_magics(self):
        self.write("inner.py", b"import sys\nsys.exit(6)\n")
        for i, (name, (source, want, words)) in enumerate(MAGIC_ENDS.items()):
            with self.subTest(name):
                kind, (code, _, err) = self.one_of_both(source, i)
                self.assertEqual(code, want)
                self.assertIn(words.replace("{name}", kind), without_marks(err))
                for hidden in ("_ipython.py", "/IPython/", "_dialect", "_runner", "asyncio"):
                    self.assertNotIn(hidden, err)

    @NEEDS_IPYTHON
    def test_no_ipython_for_plain_python(self):
        for source in ("print(1)", "from os import path as display\ndisplay", "display = 1\ndef f(): return display\nf()",
                       "# get_ipython\nx = 'display'", "def f(display): return display\nf(1)", "!true", "x = !true",
                       "class A:\n    def display(self): pass\nA().display()"):  # fmt: skip
            for kind, (code, out, err) in self.both(source + "\nimport sys\nprint('IPython' in sys.modules)"):
                with self.subTest(source, kind=kind):
                    self.assertEqual((code, out.splitlines()[-1:], err), (0, ["False"], ""))

    @NEEDS_IPYTHON
    def test_spawn(self):
        source = (b"import multiprocessing, os\nhere = %pwd\ndef work(n):\n    return n, here == os.getcwd()\n"
                  b"if __name__ == '__main__':\n    with multiprocessing.get_context('spawn').Pool(1) as p:\n"
                  b"        print(p.map(work, [1]))\n")  # fmt: skip
        env = {"PYTHONPATH": os.path.dirname(os.path.dirname(RUNNER))}
        self.assertEqual(self.run_(RUNNER, "script", self.write("a.py", source), env=env), (0, "[(1, True)]\n", ""))


class WithoutIPython(Both):
    """An interpreter for which IPython cannot be found: the folder holds an IPython that says so, as Python does."""

    def setUp(self):
        super().setUp()
        self.write("IPython.py", b"raise ModuleNotFoundError(\"No module named 'IPython'\", name='IPython')\n")

    def test_the_line_and_the_package_are_named(self):
        for source, line, what in (
            ("print('never')\n\nif 1:\n    %timeit 1", 4, "%timeit"), ("%%bash\nls", 1, "%%bash"), ("x = 1\nx?", 2, "x?"),
            ("x = %pwd", 1, "%pwd"), ("!echo a \\\n b\n?x", 3, "x?"),
        ):  # fmt: skip
            for kind, (code, out, err) in self.both(source):
                with self.subTest(source, kind=kind):
                    self.assertEqual((code, out), (1, ""), "nothing has run")
                    self.assertEqual([part.strip() for part in err.splitlines()[:2]],
                                     ['File "%s", line %d' % (kind, line), source.splitlines()[line - 1].strip()])  # fmt: skip
                    self.assertIn("SyntaxError: %s is run by IPython, which is not installed" % what, err)
                    self.assertIn("-m pip install ipython\n", err)
                    self.assertNotIn("Traceback", err)

    def test_names(self):
        code, out, err = self.code(b"try:\n    get_ipython()\nexcept NameError:\n    print('no notebook')\n")
        self.assertEqual((code, out, err), (0, "no notebook\n", ""))
        for name in ("get_ipython", "display"):
            code, _, err = self.code(b"%s(1)\n" % name.encode())
            self.assertEqual(code, 1)
            self.assertIn("NameError", err)
            self.assertIn("-m pip install ipython", err)

    def test_lines_need_none(self):
        self.assertEqual(self.code(b"x = 1\n!echo $x\n"), (0, "1\n", ""))


@unittest.skipUnless(PYTHON2, "capability python2: there is no Python 2.7 on this machine")
class Python2(Folder):
    python = PYTHON2

    def test_lines(self):
        newer = ("annotated", "default arguments", "walrus", "names beyond", "future", "await", "async", "task in", "quoting",
                 "fields and", "divided at")  # fmt: skip
        for name, row in LINES.items():
            if any(n in name for n in newer):
                continue
            source, out, err = row if len(row) == 3 else row + ("",)
            source = "from __future__ import print_function\n" + source if source.lstrip(" \n\t\f") == source else source
            if source.startswith("from") and ("doc" in name or "prompts" in name):
                continue
            with self.subTest(name):
                self.assertEqual(self.code(source.encode("utf-8"), env={"MARK": "mark"}), (0, out, err))

    def test_ends(self):
        code, _, err = self.code(b"!true\n\ndef f():\n    1 / 0  # here\n\nf()")
        self.assertEqual(code, 1)
        self.assertIn('File "<code>", line 4, in f\n    1 / 0  # here\n', err)
        self.assertNotIn("_runner", err)

    def test_magics_are_refused(self):
        code, out, err = self.code(b"print 1\n%pwd\n")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("%pwd is run by IPython", err)

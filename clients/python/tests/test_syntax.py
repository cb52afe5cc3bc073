"""The rewriting of IPython's syntax against IPython's own, and the filling in of variables."""

import ast
import importlib.util
import os
import random
import re
import subprocess
import sys
import unittest
import warnings

from _muster import _shell, _syntax

from .dialect_table import LINES
from .test_dialect import NEEDS_IPYTHON
from .test_runner import DEADLINE, RUNNER, Folder

PIECES = ["!ls", "!echo a", "x", "=", " = ", "!", "%", "%pwd", "%%time", "?", "??", "f", "(", ")", "[", "]", "{", "}", "'", '"',
          '"""', "'''", "\n", "\n", "\n    ", "\n", "\\\n", " ", "\t", "#", ":", "if 1:", "for i in x:", ";", ",", "/", "==", "!=",
          "+=", ":=", "lambda a=1: a", "1", "f(a=1)", "x = !ls", "x = %pwd", "y?", "'?'", "*", ".", "$x", "{x}", "é", "def f():",
          "\\", "'it'", "r'\\'", "async", "await f()", "@d", "x: int = !ls"]  # fmt: skip


@NEEDS_IPYTHON
class AgainstIPython(Folder):
    def rewritten(self, text):
        """Return text as IPython rewrites it, None where it fails; and as we do."""
        from IPython.core.inputtransformer2 import TransformerManager

        try:
            theirs = TransformerManager().transform_cell(text)
        except Exception:
            theirs = None
        ours = _syntax.translate(text)[0].replace(_syntax.SHELL, "get_ipython()")
        return theirs, ours

    def test_the_table(self):
        for name, row in LINES.items():
            text = row[0].strip("\n ").replace("\r\n", "\n")
            if "prompts" in name or name.startswith("indented") or "\f" in text:  # IPython ends a line at a form feed
                continue
            with self.subTest(name):
                theirs, ours = self.rewritten(text)
                self.assertEqual(self.tree(ours), self.tree(theirs))

    def tree(self, text):
        try:
            return ast.dump(compile(text, "x", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST, True))
        except (SyntaxError, ValueError):
            return None

    def test_random_texts(self):
        """Whatever IPython makes valid Python of, we make the same of; and of nothing else."""
        warnings.simplefilter("ignore")
        rng = random.Random(int(os.environ.get("MUSTER_SEED", "1")))
        valid = 0
        for _ in range(int(os.environ.get("MUSTER_ROUNDS", "20000"))):
            text = "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 9))).lstrip(" \t\n\f")
            text = re.sub(r"^[ \t]+$", "", text, flags=re.M)  # in cell magics, IPython 9 does so itself
            if re.search(r"^\s*(>>>|\.\.\.)|^[\s\\]*[!%?]+[\s\\]*$|^\s*[,;/]", text, re.M):
                continue  # a mark alone, calls: IPython's answer hangs on the version of Python
            if "?" in text and re.search(r"[(){}\[\]\\'\"]", text) or "\\" in text[-2:] + text[:1] or "!=" in text:
                continue  # a question in an open bracket or string makes IPython drop statements before it; and other garbage
            theirs, ours = self.rewritten(text)
            if theirs is None or _syntax.translate(ours)[1]:
                continue  # garbage, which IPython rewrites once more or gives up
            tree = theirs and self.tree(theirs)
            # From 3.12 on, Python's tokenizer, on which IPython relies, gives up at open quotes; ours does not.
            if tree is not None or (sys.version_info < (3, 12) and self.tree(ours) is not None):
                valid += 1
                self.assertTrue(self.tree(ours) == tree, "%r: %r, IPython: %r" % (text, ours, theirs))
        self.assertGreater(valid, 50)

    def test_the_same_output(self):
        """All of the table that IPython can run, run by IPython itself and by us: the same output."""
        bodies, x = [], 0
        for name, row in LINES.items():
            if any(n in name for n in ("prompts", "indented", "blanks around", "doc", "future", "main guard", "exit", "pickled",
                                       "source of", "Windows", "form feed", "standard error", "rest of all", "await",
                                       "async", "task in", "another process", "kill", "captured and", "of its own", "quoting", "one quote")):  # fmt: skip
                continue
            x += 1
            bodies.append("print('== %s')\n%s\n" % (name, row[0]))
        self.assertGreater(x, 40)
        reset = "for _n in 'x y v d a b MARK'.split(): globals().pop(_n, None)\n"
        path = self.write("all.ipy", (reset.join([""] + bodies)).encode())
        env = dict(os.environ, SHELL="/bin/bash", HOME=self.dir, IPYTHONDIR=self.dir, MARK="mark", TERM="dumb")
        outs = []
        for command in (["-m", "IPython", "--no-banner", "--colors=NoColor", path], [RUNNER, "script", path]):
            p = subprocess.run([sys.executable, "-u"] + command, cwd=self.dir, env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=DEADLINE)  # fmt: skip
            outs.append(p.stdout.decode().splitlines())
        self.assertEqual(outs[1], outs[0])

    def test_expansion(self):
        from IPython.utils.text import DollarFormatter

        rng = random.Random(2)
        pieces = ["$x", "${x}", "{x}", "{x!r}", "{y[0]}", "{y[1:]}", "$y", "$$x", "$$$x", "$", "$1", "$nosuch", "{nosuch}", "{}", "{{",
                  "}}", "{", "}", "'", '"', " ", "$x.", "$o.sep", "{x:5}", "{x+1}", "{'a'}", "\\", "é", "$é", "a", "$x'", "'$x'"]  # fmt: skip
        names = {"x": 5, "y": [1, "b"], "o": os, "é": "e"}
        for _ in range(20000):
            command = "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 7)))
            try:
                theirs = DollarFormatter().vformat(command, [], dict(names))
            except Exception:
                theirs = command
            self.assertEqual(_shell.expand(command, dict(names)), theirs, command)


class Properties(unittest.TestCase):
    def test_lines_stay_where_they_are(self):
        rng = random.Random(3)
        for _ in range(5000):
            text = "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 12)))
            ours, found = _syntax.translate(text)
            self.assertEqual(ours.count("\n"), text.count("\n") + (not text.endswith("\n")), text)
            for special in found:
                self.assertEqual(special.line, text.count("\n", 0, special.start) + 1, text)

    def test_python_stays_as_it_is(self):
        """The standard library, which has no special lines, comes out as it went in."""
        folder = os.path.dirname(os.__file__)
        for name in sorted(os.listdir(folder))[:120]:
            if name.endswith(".py"):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    text = f.read()
                self.assertEqual([s.python for s in list(_syntax._specials(text))], [], name)

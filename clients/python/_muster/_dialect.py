"""Source that Python itself does not compile, or that uses IPython's names: what a script may hold beside plain Python.

Loaded by _runner.py when it meets such source; plain Python pays nothing for it. Lines with "!" are run by _shell.py and
need no IPython; magics and questions are run by the IPython of the interpreter at hand, and where there is none the line that
needs it is told before anything has run. Top-level await needs no IPython either.

Valid in Python 2.7 and from 3.6 on.
"""

import os
import sys

_COROUTINE = 0x80  # a code's flag that it awaits at the top level

shell = None  # the IPython that runs the magics, once it was needed


def compile_text(text, name, module, error, load):
    """Compile the text of a script or code that plain Python refused with error.

    load(name) gives a file of this folder as a module. Returns the code, and the text as Python.
    """
    syntax = load("_syntax")
    mark = "\xef\xbb\xbf" if str is bytes else ""  # without it, Python 2 takes the text for ASCII
    if mark and text.startswith(mark):
        text = text[len(mark) :]
    python, specials = syntax.translate(syntax.without_prompts(text))
    try:
        code = _compile(mark + python, name, text, specials)
    except SyntaxError as e:
        if not specials and "await" not in text and "async" not in text:
            e = error  # what Python said at first
        e.__suppress_context__ = True
        lines = text.split("\n")
        if e.filename == name and e.lineno and e.lineno <= len(lines):
            e.text = lines[e.lineno - 1] + "\n"
        raise e
    if specials:
        _builtins()[syntax.SHELL] = load("_shell")
    needs = [special for special in specials if special.ipython]
    if needs:
        _need_ipython(needs[0], name, text, module, load)
    return code, python


def provide(source, name, wanted, module, load):
    """Start IPython if source uses one of the wanted names without defining it, and return whether it runs."""
    if shell is None and str is not bytes:
        import symtable

        top = symtable.symtable(source, name, "exec")
        if any(not _defines(top, n) and _uses(top, n, top) for n in wanted):
            try:
                start(module, load)
            except ImportError:
                pass  # then it runs without, as in any Python
    return shell is not None


def _defines(top, name):
    if name not in top.get_identifiers():
        return False
    symbol = top.lookup(name)
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _uses(scope, name, top):
    """Report whether scope, or one within it, reads the global of that name."""
    if name in scope.get_identifiers():
        symbol = scope.lookup(name)
        if symbol.is_referenced() and (symbol.is_global() or scope is top):
            return True
    return any(_uses(child, name, top) for child in scope.get_children())


def _need_ipython(special, name, text, module, load):
    try:
        start(module, load)
    except ImportError as e:
        lines = text.split("\n")
        why = "is not installed" if getattr(e, "name", "IPython") == "IPython" else "cannot be imported (%s)" % e
        message = "%s is run by IPython, which %s for this Python; install it: %s -m pip install ipython"
        if str is bytes:
            message = "%s is run by IPython, which %s for this Python; write it without: %s runs lines with ! only"
        missing = SyntaxError(message % (special.ipython, why, sys.executable))
        missing.__suppress_context__ = True
        missing.filename, missing.lineno, missing.text = name, special.line, lines[special.line - 1] + "\n"
        raise missing


def start(module, load):
    """Start IPython for the module __main__, once. ImportError if it is not there."""
    global shell
    if shell is None:
        if str is bytes:
            raise ImportError("IPython for Python 2 is not supported")
        shell = load("_ipython").start(module, load("_shell"))


def _builtins():
    return (sys.modules.get("builtins") or sys.modules["__builtin__"]).__dict__


def _compile(python, name, text, specials):
    if sys.version_info < (3, 8):
        return compile(python, name, "exec", 0, True)
    import ast

    awaits = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    if not specials:
        return compile(python, name, "exec", awaits, True)
    tree = compile(python, name, "exec", awaits | ast.PyCF_ONLY_AST, True)
    _place(tree, text.split("\n"), {s.line: s for s in specials}, ast.walk)
    return compile(tree, name, "exec", awaits, True)


def _place(tree, lines, specials, walk):
    """Give what replaced a special line the place of that line, so that a traceback marks no part of another text."""
    blocks = [tree.body]
    while blocks:
        for statement in blocks.pop():
            special = specials.get(statement.lineno)
            for field in ("body", "orelse", "finalbody"):
                inner = getattr(statement, field, None)
                if isinstance(inner, list):
                    blocks.append(inner)
            blocks += [part.body for part in getattr(statement, "handlers", []) + getattr(statement, "cases", [])]
            if special is None:
                continue
            width = len(lines[special.last - 1].rstrip().encode("utf-8"))
            for node in walk(statement):
                if getattr(node, "end_lineno", None) != special.line:
                    continue
                node.col_offset, node.end_col_offset = statement.col_offset, width
                if not hasattr(node, "attr"):  # a call of a method counts to the line on which the method's name ends
                    node.end_lineno = special.last


def run(code, names):
    """Run code, which may await at the top level."""
    if not code.co_flags & _COROUTINE or str is bytes:
        exec(code, names)
        return
    import asyncio

    asyncio.run(eval(code, names))


def without_hidden(error, here):
    """Take the frames of IPython, of this folder, and of what they call, out of the traceback of an exception and of those
    that led to it."""
    seen = []
    if sys.version_info < (3, 7):  # no traceback can be made
        return
    while error is not None and not any(error is e for e in seen):
        seen.append(error)
        error.with_traceback(_visible(error.__traceback__, here))
        error = error.__cause__ or error.__context__


def _visible(trace, here):
    library = os.path.dirname(os.__file__) + os.sep
    own = [here + os.sep]
    if shell is not None:
        site = os.path.dirname(os.path.dirname(os.path.abspath(sys.modules["IPython"].__file__))) + os.sep
        own += [site + "IPython" + os.sep, site + "traitlets" + os.sep, site + "decorator.py", "<decorator-gen"]
    kept, inside = [], False
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(tuple(own)):
            inside = True
        elif not (inside and (file.startswith(library) or file.startswith("<frozen "))):
            inside = False
            kept.append(trace)
        trace = trace.tb_next
    visible = None
    for t in reversed(kept):
        visible = type(t)(visible, t.tb_frame, t.tb_lasti, t.tb_lineno)
    return visible

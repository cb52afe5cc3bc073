"""IPython's syntax, found in a script and rewritten as Python. Pure: text in, text out.

IPython recognises its own lines where a statement begins, and after the first = of one; never in strings, comments, or
within brackets. So does this. What is rewritten keeps its line numbers, so that a traceback points at the line that was
written. Unlike IPython's own rewriting it takes time proportional to the text, and any number of special lines.

Valid in Python 2.7 and from 3.6 on; in Python 2 the text is bytes.
"""

import re

# The name, among the builtins, of what runs the "!" lines.
SHELL = "__muster_shell__"

_MAYBE = re.compile(r"^[ \t\f]*[!%?,;/]|=[ \t]*[!%]|\?[ \t\r]*$", re.MULTILINE)

_TOKEN = re.compile(
    r"""
    (?P<newline>\n)
  | (?P<space>[ \t\f]+|\\\n)
  | (?P<comment>\#[^\n]*)
  | (?P<triple>\"\"\"[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:\"\"\"|\Z) | '''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*(?:'''|\Z))
  | (?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*)*" | '[^'\\\n]*(?:\\.[^'\\\n]*)*')
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
  | (?P<operator>[-+*/%&|^@<>!=:]=|//|->)
  | (?P<assign>=)
  | (?P<other>[^\n \t\f\\\#"'()\[\]{}=!%?+*/&|^@<>:-]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)

_AFTER_ASSIGN = re.compile(r"(?:[ \t]|\\\n)*(!|%(?=[ \t]*[^\W\d]))")
_HELP = re.compile(r"(%{0,2}(?!\d)[\w*]+(?:\.(?!\d)[\w*]+|\[-?[0-9]+\])*)(\?\??)$")
_PROMPT = re.compile(r"(?:>>>|\.\.\.)(?: |$)|(?: ?In \[\d+\]: |\s*\.{3,}: ?)", re.MULTILINE)
_FIRST_PROMPT = re.compile(r">>>(?: |$)| ?In \[\d+\]: ", re.MULTILINE)


class Special(object):
    """A piece of IPython's syntax: text[start:end], and the Python that replaces it.

    line and last count from 1. ipython: what it is called in messages if it needs IPython, else "".
    """

    def __init__(self, start, end, python, ipython=""):
        self.start, self.end, self.python, self.ipython = start, end, python, ipython
        self.line = self.last = 0


def without_prompts(text):
    """Take away the prompts of an example that was copied from a Python or IPython session."""
    if not _FIRST_PROMPT.match(text.lstrip("\n")):
        return text
    return "\n".join(_PROMPT.sub("", line, 1) if _PROMPT.match(line) else line for line in text.split("\n"))


def translate(text):
    """Return text (its lines end in \\n) as Python, and the list of the Specials in it."""
    if not text.endswith("\n"):
        text += "\n"
    if not _MAYBE.search(text):
        return text, []
    found = _cell_magic(text) or list(_specials(text))
    out, end, line = [], 0, 1
    for special in found:
        out.append(text[end : special.start])
        line += text.count("\n", end, special.start)
        more = text.count("\n", special.start, special.end)
        out.append(special.python + "\n" * more)
        special.line, special.last = line, line + more
        line, end = line + more, special.end
    return "".join(out) + text[end:], found


def _cell_magic(text):
    """Return the Special of a text that is one cell magic, as a list; else an empty one."""
    start = len(text) - len(text.lstrip("\n \t\f"))
    if not text.startswith("%%", start) or re.match(r"%%\w+\?", text[start:]):
        return []
    first, _, body = text[start:].partition("\n")
    name, _, rest = first[2:].rstrip().partition(" ")
    call = "get_ipython().run_cell_magic(%r, %r, %r)" % (name, rest, body)
    return [Special(start, len(text) - 1, call, "%%" + name)]


def _specials(text):
    position = 0
    while position < len(text):
        special = _next(text, position)
        if special is None:
            return
        yield special
        position = special.end


def _next(text, position):
    """Return the first Special in text from position on, which is outside of any statement; None: there is none."""
    begin, depth, assigned, last = None, 0, False, ""
    for m in _TOKEN.finditer(text, position):
        kind = m.lastgroup
        if kind == "newline" and depth == 0:
            special = last == "?" and text[m.start() - 1] == "?" and _help(text, begin, m.start())
            if special:
                return special
            begin, assigned, last = None, False, ""
        elif kind == "space" or kind == "newline":
            continue
        else:
            last = m.group()
            if begin is None:
                begin = m.start()
                if last in ("!", "%", "?", ",", ";", "/") or last[0] in ",;" and kind == "other":
                    return _command(text, begin)
            if kind == "open":
                depth += 1
            elif kind == "close":
                depth = max(0, depth - 1)
            elif kind == "assign" and depth == 0 and not assigned:
                assigned = True
                special = _assigned(text, begin, m.end())
                if special:
                    return special
    return None


def _extent(text, start):
    """Return where the line that starts at start ends, with those that a backslash adds to it, and all as one line."""
    end, parts = start, []
    while True:
        begin, end = end, text.find("\n", end)
        part = text[begin:end]
        if not part.endswith("\\") or end + 1 >= len(text):
            return end, " ".join(parts + [part.rstrip()])
        parts.append(part[:-1])
        end += 1


def _command(text, start):
    """Return the Special of a line that begins with one of the characters ! % ? , ; /"""
    end, line = _extent(text, start)
    special = text[end - 1] == "?" and _asks(line) and _help(text, start, end)
    if special:
        return special
    mark, rest = line[0], line[1:]
    name, _, words = rest.partition(" ")
    if mark == "!":
        python = "%s.getoutput(%r)" % (SHELL, rest[1:]) if rest[:1] == "!" else "%s.system(%r)" % (SHELL, rest)
        return Special(start, end, python)
    if mark == "?":
        twice = rest[:1] == "?"
        return _asking(start, end, rest[1:] if twice else rest, twice)
    if mark == "%":
        return Special(start, end, _magic(name, words), "%" + name)
    if mark == ",":
        return Special(start, end, '%s("%s")' % (name, '", "'.join(words.split())))
    return Special(start, end, '%s("%s")' % (name, words) if mark == ";" else "%s(%s)" % (name, ", ".join(words.split())))


def _assigned(text, begin, start):
    """Return the Special of what stands after the = of an assignment that begins at begin, if it is one."""
    m = _AFTER_ASSIGN.match(text, start)
    if not m:
        return None
    start = m.start(1)
    end, line = _extent(text, start)
    special = text[end - 1] == "?" and _asks(line) and _help(text, begin, end)
    if special:
        return special
    if line[0] == "!":
        return Special(start, end, "%s.getoutput(%r)" % (SHELL, line[1:]))
    name, _, words = line[1:].partition(" ")
    return Special(start, end, _magic(name, words), "%" + name)


def _magic(name, words):
    return "get_ipython().run_line_magic(%r, %r)" % (name, words)


def _asks(line):
    """Report whether the last token of a line is a question mark."""
    return [m.group() for m in _TOKEN.finditer(line)][-1] == "?"


def _help(text, start, end):
    """Return the Special of a statement that ends in ? or ??, if that asks for something."""
    m = _HELP.search(text[start:end])
    return _asking(start, end, m.group(1), m.group(2) == "??") if m else None


def _asking(start, end, target, twice):
    if not target:
        return Special(start, end, "get_ipython().show_usage()", "?")
    how = "pinfo2" if twice else "psearch" if "*" in target else "pinfo"
    return Special(start, end, _magic(how, target), target + "?")

"""What the lines with "!" do: commands run by bash, with the output where the script's own output goes.

Loaded by _runner.py, for scripts and code that have such lines. The command inherits stdin, stdout and stderr, so that its
output streams and stands in order between the script's prints. Variables are filled in by IPython's rules.

Valid in Python 2.7 and from 3.6 on.
"""

import errno
import os
import re
import signal
import subprocess
import sys

_BASH = "/bin/bash" if os.path.exists("/bin/bash") else "bash"


def system(command):
    """Run a command for a line "!command" in the calling frame. Its exit code is told in _exit_code and raises nothing."""
    frame = sys._getframe(1)
    frame.f_globals["_exit_code"] = run(expand(command, _names(frame)))


def getoutput(command):
    """Run a command for "x = !command" in the calling frame, and return the lines of its stdout and stderr."""
    return capture(expand(command, _names(sys._getframe(1))))


def _names(frame):
    names = dict(frame.f_globals)
    names.update(frame.f_locals)
    return names


def run(command):
    """Run a command and return its exit code; the negative number of the signal that ended it."""
    _flush()
    stdout, stderr = _descriptor(sys.stdout), _descriptor(sys.stderr)
    if stdout == subprocess.PIPE and stderr == subprocess.PIPE:
        stderr = subprocess.STDOUT
    with _Patience():
        child = _start(command, None, stdout, None if stderr == subprocess.PIPE else stderr)
        if child.stdout:
            _copy(child.stdout, sys.stdout)
        code = child.wait()
    return 128 - code if code > 128 else code


class _Patience:
    """Puts KeyboardInterrupt off to the end of a block: a command has got the signal too, and may say its last words.

    Wherever the signal finds us, while the command is started or between reading and writing, nothing is lost. A second
    signal waits no longer. A script's own handler is left alone; a thread gets no signals.
    """

    def __enter__(self):
        self.came = False
        self.usual = signal.getsignal(signal.SIGINT) == signal.default_int_handler
        if self.usual:
            try:
                signal.signal(signal.SIGINT, self._take)
            except ValueError:  # not the main thread
                self.usual = False

    def _take(self, number, frame):
        if self.came:
            signal.default_int_handler(number, frame)
        self.came = True

    def __exit__(self, kind, error, trace):
        if self.usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.came and kind is not KeyboardInterrupt:
            raise KeyboardInterrupt


def _descriptor(stream):
    """Return where a command writes what is to appear in stream; PIPE: the stream is of the script's own making."""
    if stream is None:
        return None
    try:
        return stream.fileno()
    except Exception:
        return subprocess.PIPE


def _copy(pipe, stream):
    """Write to stream what comes through pipe, as it comes."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        try:
            data = os.read(pipe.fileno(), 1 << 16)
        except OSError as e:
            if e.errno != errno.EINTR:  # which only Python 2 lets us see
                raise
            continue
        stream.write(data if str is bytes else decoder.decode(data, not data))
        if not data:
            pipe.close()
            return


def capture(command):
    """Run a command and return the lines of its stdout and stderr."""
    if command.rstrip().endswith("&"):
        raise OSError("a command in the background has no output to wait for: %s" % command)
    _flush()
    with open(os.devnull, "rb") as nothing:
        out = _start(command, nothing, subprocess.PIPE, subprocess.STDOUT).communicate()[0]
    return Lines((out if str is bytes else out.decode("utf-8", "replace")).splitlines())


def _start(command, stdin, stdout, stderr):
    try:
        return subprocess.Popen([_BASH, "-c", command], stdin=stdin, stdout=stdout, stderr=stderr)
    except OSError as e:
        if os.path.exists(_BASH):  # a command that is too long, no memory
            raise
        raise OSError("cannot run !%s: bash is not installed (%s)" % (command, e))


def _flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, or none, or of the script's own making
            pass


def expand(command, names):
    """Fill in $name, $name.attribute and {expression}, each evaluated among names.

    As in IPython: $name between single quotes is left alone, $$name gives $name, {{ gives {; and if anything cannot be
    evaluated the whole command is left as it is, for bash.
    """
    if "$" not in command and "{" not in command and "}" not in command:
        return command
    import string

    form = string.Formatter()
    done = []
    try:
        for text, field, spec, conversion in form.parse(command):
            done += _dollars(text, names)
            if field is not None:
                # No format specifications, so that slices work.
                value = eval(field + ":" + spec if spec else field, names)
                done.append(format(form.convert_field(value, conversion), ""))
        return "".join(done)
    except Exception:
        return command


def _dollars(text, names):
    """Return the pieces of text, with the values of the names that follow a dollar."""
    pieces, end = [], 0
    for m in re.finditer(r"\$(\$?[\w.]+)", text):
        if text.count("'", m.end()) % 2:
            continue
        pieces.append(text[end : m.start()])
        name = m.group(1)
        pieces.append(name if name.startswith("$") else format(eval(name, names), ""))
        end = m.end()
    return pieces + [text[end:]]


class Lines(list):
    """The lines of a command's output: a list, with the additions of IPython's SList."""

    def __reduce__(self):  # a process that gets a copy need not know this class
        return list, (list(self),)

    l = list = property(lambda self: self)  # noqa: E741
    n = nlstr = property("\n".join)
    s = spstr = property(" ".join)

    @property
    def p(self):
        import pathlib

        return [pathlib.Path(line) for line in self if os.path.exists(line)]

    paths = p

    def grep(self, pattern, prune=False, field=None):
        """Return the lines that match a regular expression (in any case) or a function; prune: those that do not."""

        def part(line):
            if field is None:
                return line
            words = line.split()
            return words[field] if -len(words) <= field < len(words) else ""

        match = pattern if callable(pattern) else lambda s: re.search(pattern, s, re.IGNORECASE)
        return Lines(line for line in self if bool(match(part(line))) != bool(prune))

    def fields(self, *numbers):
        """Return the words of each line; with numbers, these words of each line that has any, joined by spaces."""
        words = [line.split() for line in self]
        if not numbers:
            return words
        rows = [[w[i] for i in numbers if -len(w) <= i < len(w)] for w in words]
        return Lines(" ".join(row) for row in rows if row)

    def sort(self, field=None, nums=False):
        """Return the lines in order of a word of theirs; nums: of the digits in it."""

        def key(line):
            part = line if field is None else "".join(Lines([line]).fields(field))
            digits = "".join(c for c in part if c.isdigit())
            return (int(digits or 0) if nums else part, line)

        return Lines(sorted(self, key=key))

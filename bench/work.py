"""The work that Muster and every peer do: a line, or a line after the imports. Peers' children import this: it imports nothing."""

MARK = "first line"
# What interpreters get as text. Flushed, so that no time of an interpreter's end is in the bare figure.
CODE = {
    "python": "print('%s', flush=True)" % MARK,
    "numpy+pandas": "import numpy, pandas; print('%s', flush=True)" % MARK,
    "r": "cat('%s\\n')" % MARK,
    "scala": 'println("%s")' % MARK,
}


def python():
    return MARK


def numpy_and_pandas():
    import numpy  # noqa: F401
    import pandas  # noqa: F401

    return MARK


# What libraries call.
CALL = {"python": python, "numpy+pandas": numpy_and_pandas}
MODULES = {"python": [], "numpy+pandas": ["numpy", "pandas"]}


def send(pipe, name):
    """Send the line of a work: the body of a multiprocessing.Process."""
    pipe.send(CALL[name]())

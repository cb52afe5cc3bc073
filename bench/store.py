"""The file of raw numbers: what was measured, on which machine, with what. Lists of numbers stand in one line each."""

import json
import os
import re

from bench.world import REPOSITORY

LAST = os.path.join(REPOSITORY, "build", "bench.json")
KEPT = os.path.join(REPOSITORY, "docs", "benchmarks.json")

_NUMBERS = re.compile(r"\[\s+([-+\d.eE,\s]+?)\s+\]")


def text(report):
    rounded = json.loads(json.dumps(report), parse_float=lambda s: round(float(s), 4))
    indented = json.dumps(rounded, indent=1, sort_keys=True, ensure_ascii=False)
    return _NUMBERS.sub(lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", indented) + "\n"


def write(path, report):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as f:
        f.write(text(report))


def read(path):
    try:
        with open(path) as f:
            return json.load(f)
    except FileNotFoundError:
        raise SystemExit("bench: there is no %s; run: make bench" % path) from None
    except ValueError as e:
        raise SystemExit("bench: %s is no JSON (%s); remove it and run: make bench" % (path, e)) from None

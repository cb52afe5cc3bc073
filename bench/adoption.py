"""The server of chatty workers is killed and started again: measured and checked by test/chaos, which looks at nothing of Muster's code."""

import json
import os
import shutil
import subprocess
import tempfile

from bench import world
from bench.cases import Missing


def adopt(runs, size):
    if os.geteuid() != 0:
        raise Missing("needs root: test/chaos gives the server a small disk of its own")
    if shutil.which("go") is None:
        raise Missing("needs Go, to build test/chaos: https://go.dev/dl")
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "adopt.json")
        command = [
            "go",
            "run",
            "./test/chaos",
            "-adopt",
            "-workers",
            str(size),
            "-chatty",
            str(size),
            "-rounds",
            str(runs),
            "-json",
            out,
        ]
        env = dict(world.environment(), CGO_ENABLED="0")
        done = subprocess.run(
            command, cwd=world.REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if not os.path.exists(out):
            raise RuntimeError("%s ended with %d: %s" % (" ".join(command), done.returncode, done.stdout[-2000:]))
        with open(out) as f:
            report = json.load(f)
    samples = {"answers": report["answers_ms"], "adopted": report["adopted_ms"]}
    return {
        "samples": samples,
        "facts": {"workers": size, "lines checked": report["lines"], "broken promises": report["violations"]},
    }

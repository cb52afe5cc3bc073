"""Runs one case in a process of its own and writes what it measured as JSON. Children that import this main module import little."""


def main():
    import argparse
    import importlib
    import json
    import signal
    import sys

    from bench import cases

    p = argparse.ArgumentParser(prog="python3 -m bench.probe", description=__doc__)
    p.add_argument("case", help="a name that python3 -m bench --list shows")
    p.add_argument("--runs", type=int, required=True, help="how often what is measured is done")
    p.add_argument("--size", type=int, default=0, help="how many workers, or megabytes, in cases that have such a number")
    p.add_argument("--out", required=True, help="where the JSON goes")
    options = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what the case has open is closed
    case = cases.find(options.case)
    module = importlib.import_module("bench." + case.module)
    arguments = dict(case.arguments, runs=options.runs)
    if case.size:
        arguments["size"] = options.size or case.size
    try:
        result = getattr(module, case.function)(**arguments)
    except cases.Missing as e:
        result = {"missing": str(e)}
    with open(options.out, "w") as f:
        json.dump(result, f)


if __name__ == "__main__":
    main()

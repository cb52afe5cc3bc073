"""The table of all cases: what is measured, by which function, how often. One line each; what measures stands in the modules."""

import dataclasses
import fnmatch


class Missing(Exception):
    """Something that a case needs is not on this machine: the text says what, and how to get it."""


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    what: str  # for people
    module: str
    function: str
    arguments: dict
    runs: int  # as often as makes a median worth something and takes no hours
    size: int = 0  # workers, or megabytes
    tiny_size: int = 0  # of the smoke test
    tiny: bool = True  # whether the smoke test runs it: seconds count there
    limit: int = 900  # seconds, after which it is ended


def _own():
    def case(name, what, where, runs, size=0, tiny_size=0, tiny=True, **arguments):
        module, function = where.split(".")
        return Case(name, what, module, function, arguments, runs, size, tiny_size, tiny)

    return [
        case("launch/python", "launch → first line, plain Python, started ahead", "launches.warm", 100, work="python"),
        case(
            "launch/numpy+pandas", "launch → first line, numpy and pandas preloaded", "launches.warm", 50, work="numpy+pandas"
        ),
        case("launch/r", "launch → first line, R, started ahead", "launches.warm", 50, work="r"),
        case("launch/scala", "launch → first line, Scala, started ahead", "launches.warm", 5, tiny=False, work="scala"),
        case("cold/python", "launch → first line, plain Python, cold", "launches.cold", 100, work="python"),
        case("cold/numpy+pandas", "launch → first line, with numpy and pandas, cold", "launches.cold", 15, work="numpy+pandas"),
        case("cold/r", "launch → first line, R, cold", "launches.cold", 30, work="r"),
        case("crowd", "100 workers at once, all printed and ended", "crowd.at_once", 5, size=100, tiny_size=4),
        case("await", "exit of a worker → await_workers returns", "ends.await_returns", 100),
        case("output", "output of one worker → disk and a following reader", "flow.output", 3, size=1000, tiny_size=4),
        case("idle", "1,000 idle workers: start, list, stop, memory", "crowd.idle", 20, size=1000, tiny_size=5),
        case("killed", "session killed → every descendant gone", "ends.session_killed", 10),
        case("adopt", "chatty workers, server killed and restarted", "adoption.adopt", 5, size=200, tiny_size=4),
    ]


def _peers():
    from bench import peers

    return [
        Case(
            "peer/%s/%s" % (p.name, work),
            "%s, %s" % (p.title, work),
            "peers",
            "measure",
            {"peer": p.name, "work": work},
            p.runs(work),
            tiny=p.tiny and work != "scala",
            limit=300,
        )
        for p in peers.PEERS
        for work in p.works
    ]


def table():
    return _own() + _peers()


def find(name):
    for case in table():
        if case.name == name:
            return case
    raise SystemExit("bench: there is no case %r; python3 -m bench --list shows them" % name)


def chosen(patterns):
    """Return the cases that the patterns name: names, beginnings of names up to a /, or with * and ?."""
    found = []
    for case in table():
        if not patterns or any(
            fnmatch.fnmatchcase(case.name, p) or case.name.startswith(p.rstrip("/") + "/") for p in patterns
        ):
            found.append(case)
    if not found:
        raise SystemExit("bench: no case is named %s; python3 -m bench --list shows them" % " or ".join(patterns))
    return found

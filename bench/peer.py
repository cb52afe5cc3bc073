"""What a peer is: how it does a call, and what it does and does not do for its caller."""

import dataclasses

PYTHON = ("python", "numpy+pandas")
SAME = "nothing: the session's user, files, network and memory"


@dataclasses.dataclass(frozen=True)
class Peer:
    name: str
    title: str
    pool: str  # what of it was started before the call; "": nothing
    fresh: bool  # whether each call has a process of its own
    apart: str  # what keeps the work from the rest of the machine
    how: object  # the context manager; in other modules a name
    package: str = ""
    works: tuple = PYTHON
    slow: bool = False  # seconds for each call
    note: object = lambda: ""  # what of it is different on this machine
    tiny: bool = False  # whether the smoke test runs it

    def runs(self, work):
        if self.slow or work == "scala":
            return 5
        return 20 if work != "python" and not (self.pool and "imports" in self.pool) else 50

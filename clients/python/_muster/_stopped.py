"""What stop_workers returns."""

from __future__ import annotations


class StopResponse:
    """What became of one id given to stop_workers. Looks like a response of the library requests."""

    def __init__(self, worker_id: str, status_code: int, text: str = "") -> None:
        self.id = worker_id
        self.status_code = status_code
        self.text = text

    @property
    def ok(self) -> bool:
        return self.status_code < 400

    @property
    def content(self) -> bytes:
        return self.text.encode("utf-8")

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return "<Response [%d]>" % self.status_code

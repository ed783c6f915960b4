"""Chunks and logs of attempts on their way from hosts to servers."""

from typing import Protocol

from stepwave_server.core.info import RunKey
from stepwave_server.core.model import Payload
from stepwave_server.wire.events.encode import LogEntry

__all__ = ["NO_TRANSIENTS", "TransientSink"]


class TransientSink(Protocol):
    """Takes what attempts show. It never blocks: what it cannot take is dropped."""

    def chunk(self, key: RunKey, step_id: str, attempt: int, index: int, chunk: Payload) -> None:
        """Take a chunk; `index` counts from 0."""
        ...

    def log(self, key: RunKey, step_id: str, attempt: int, entry: LogEntry) -> None:
        """Take what an attempt logged. It may be called from any thread."""
        ...


class _NoTransients:
    """Drops everything: there is no way from hosts to servers."""

    def chunk(self, key: RunKey, step_id: str, attempt: int, index: int, chunk: Payload) -> None:
        """Drop a chunk."""

    def log(self, key: RunKey, step_id: str, attempt: int, entry: LogEntry) -> None:
        """Drop what an attempt logged."""


NO_TRANSIENTS: TransientSink = _NoTransients()

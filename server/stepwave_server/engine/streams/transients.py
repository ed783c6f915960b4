"""What running attempts said so far: transient events, remembered within bounds for watchers who join."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from stepwave_server.wire.events.encode import Kind

__all__ = ["Transient", "TransientEvents"]

MAX_CHUNK_BYTES = 64 * 1024
"""Bytes of chunks that are kept for one step."""


class Transient(NamedTuple):
    """An event that is not kept.

    Attributes:
        after: The number of the newest event when it was made: it is shown after that one.
        kind: What kind of event it is.
        data: A `WatchRunResponse` with it alone.
    """

    after: int
    kind: Kind
    data: bytes


@dataclass(slots=True)
class _Said:
    """What one step said: its attempt's newest chunks, and the newest of every other kind."""

    chunks: deque[Transient] = field(default_factory=deque)
    size: int = 0
    others: dict[Kind, Transient] = field(default_factory=dict)


@dataclass(slots=True)
class TransientEvents:
    """What the running attempts of one run said so far, and what its other steps wait for."""

    _steps: dict[str, _Said] = field(default_factory=dict)

    def add(self, step_id: str, transient: Transient) -> None:
        """Remember an event; the oldest chunks of the step make room for it."""
        said = self._steps.setdefault(step_id, _Said())
        if transient.kind is not Kind.STEP_CHUNK:
            said.others[transient.kind] = transient
            return
        said.chunks.append(transient)
        said.size += len(transient.data)
        while said.size > MAX_CHUNK_BYTES and len(said.chunks) > 1:
            said.size -= len(said.chunks.popleft().data)

    def forget(self, step_id: str) -> None:
        """Forget what a step said: it has ended, or waits no more."""
        self._steps.pop(step_id, None)

    def waiting(self, step_id: str) -> Transient | None:
        """Return what a step was last said to wait for, if it has not been forgotten."""
        said = self._steps.get(step_id)
        return None if said is None else said.others.get(Kind.STEP_WAITING)

    def so_far(self) -> list[Transient]:
        """Return what a watcher who joins now gets."""
        found: list[Transient] = []
        for said in self._steps.values():
            found += said.chunks
            found += said.others.values()
        return sorted(found, key=lambda transient: transient.after)

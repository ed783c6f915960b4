"""The transient events of running attempts, kept within bounds for watchers that join."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from stepwave_server.wire.events.encode import Kind

__all__ = ["Transient", "TransientEvents"]

MAX_CHUNK_BYTES = 64 * 1024
"""Maximum size of the chunks that are kept for one step, in bytes."""


class Transient(NamedTuple):
    """An event that the journal does not keep.

    Attributes:
        after: The sequence number of the numbered event that it follows.
        kind: The kind of the event.
        data: An encoded `WatchRunResponse` with this event.
    """

    after: int
    kind: Kind
    data: bytes


@dataclass(slots=True)
class _StepEvents:
    """The transient events of one step: the newest chunks of its attempt, and the newest event of every other kind."""

    chunks: deque[Transient] = field(default_factory=deque)
    size: int = 0
    others: dict[Kind, Transient] = field(default_factory=dict)


@dataclass(slots=True)
class TransientEvents:
    """The transient events of one run so far."""

    _steps: dict[str, _StepEvents] = field(default_factory=dict)

    def add(self, step_id: str, transient: Transient) -> None:
        """Keep an event. The oldest chunks of the step make room for new ones."""
        events = self._steps.setdefault(step_id, _StepEvents())
        if transient.kind is not Kind.STEP_CHUNK:
            events.others[transient.kind] = transient
            return
        events.chunks.append(transient)
        events.size += len(transient.data)
        while events.size > MAX_CHUNK_BYTES and len(events.chunks) > 1:
            events.size -= len(events.chunks.popleft().data)

    def forget(self, step_id: str) -> None:
        """Forget the events of a step that has ended, or waits no longer."""
        self._steps.pop(step_id, None)

    def all(self) -> list[Transient]:
        """Return the events for a watcher that joins now, in order."""
        found: list[Transient] = []
        for events in self._steps.values():
            found += events.chunks
            found += events.others.values()
        return sorted(found, key=lambda transient: transient.after)

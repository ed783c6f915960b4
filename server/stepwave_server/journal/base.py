"""What every journal does. Commits complete later, in the order of the calls; effects wait for them."""

from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.model import Payload, State
from stepwave_server.core.record import record
from stepwave_server.core.state import RunOptions
from stepwave_server.wire.events import Record

__all__ = ["Header", "Journal", "Kept", "Listing"]


@record
class Header:
    """What a run was given: with it and its events, the run can be folded again.

    Attributes:
        key: What names the run.
        workflow: The workflow as it was sent, a `Workflow` message in bytes.
        input: The run's input.
        options: What else its decisions depend on.
        create_time: When it was accepted, in nanoseconds since the epoch.
        traceparent: The caller's W3C trace context; empty if there was none.
        tracestate: Its vendor part.
    """

    key: RunKey
    workflow: bytes
    input: Payload
    options: RunOptions
    create_time: int
    traceparent: str = ""
    tracestate: str = ""


@record
class Kept:
    """A run that has ended.

    Attributes:
        header: What it was given.
        info: How it ended.
        finishes: For every step in declaration order, the number of its `step_finished` event.
    """

    header: Header
    info: RunInfo
    finishes: "array[int]"


class Listing(NamedTuple):
    """Which runs to list."""

    namespace: str
    states: frozenset[State] = frozenset()
    workflow_name: str = ""
    prefix: str = ""

    def matches(self, info: RunInfo) -> bool:
        """Say whether a run belongs to the list."""
        return (
            info.key.namespace == self.namespace
            and info.key.run_id.startswith(self.prefix)
            and (not self.states or info.state in self.states)
            and (not self.workflow_name or info.workflow_name == self.workflow_name)
        )


class Journal(Protocol):
    """Keeps the events of runs."""

    name: str

    def create(self, header: Header) -> None:
        """Open a run. It is committed with its first events."""
        ...

    def append(self, key: RunKey, records: Sequence[Record], committed: Callable[[], None]) -> None:
        """Add events to a run, all or none.

        `committed` is called on the event loop once they are safe, perhaps before this returns.
        """
        ...

    def finish(self, kept: Kept) -> None:
        """Note that a run has ended; its events are committed. From now on retention may forget it."""
        ...

    async def read(self, key: RunKey, after: int, most_bytes: int) -> Sequence[Record] | None:
        """Return committed events after a number: one if there is any, more while they stay below `most_bytes`.

        `None`: the run is not kept.
        """
        ...

    def reading(self, key: RunKey) -> AbstractContextManager[None]:
        """Keep retention from forgetting a run while inside: who reads it, reads it to its end."""
        ...

    async def pick(self, key: RunKey, sequences: Sequence[int]) -> Sequence[Record]:
        """Return the committed events with these numbers."""
        ...

    def kept(self, key: RunKey) -> Kept | None:
        """Return a run that has ended; `None` if there is none."""
        ...

    def list_kept(self, listing: Listing) -> Sequence[RunInfo]:
        """Return the runs that have ended and match, in no order."""
        ...

    def delete(self, key: RunKey) -> None:
        """Forget a run that has ended."""
        ...

    def discard(self, key: RunKey) -> None:
        """Forget a run that has not ended and never will: a defect broke it."""
        ...

    async def close(self) -> None:
        """Commit what is outstanding and release everything."""
        ...

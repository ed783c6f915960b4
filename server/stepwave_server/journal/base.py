"""What every journal does. Commits complete later, in the order of the calls; effects wait for them."""

from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.model import Payload, State, immutable
from stepwave_server.core.state import RunOptions
from stepwave_server.wire.events.encode import Record

__all__ = ["Ended", "Header", "Journal", "JournalError", "Listing", "Position", "Trouble", "Unfinished"]

Position: TypeAlias = tuple[int, str]
"""Where in a list of runs, newest first, a page begins: after the run of this creation time and id."""

Trouble: TypeAlias = Callable[[str], None]
"""Told why a journal cannot commit, in a sentence; empty once it can again."""


class JournalError(Exception):
    """Raised when a journal cannot be opened or read. The message is for a person, and names the journal.

    Attributes:
        lasting: Trying again is in vain.
    """

    lasting = False


@immutable
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
        window: How many seconds it outlives the last stream that held it; `None`: nobody holds it.
        rerun_of: The run whose workflow and input it took; empty if it is no rerun.
    """

    key: RunKey
    workflow: bytes
    input: Payload
    options: RunOptions
    create_time: int
    traceparent: str = ""
    tracestate: str = ""
    window: float | None = None
    rerun_of: str = ""


@immutable
class Ended:
    """How a run ended; committed together with its last event.

    Attributes:
        info: How it stands, for ever.
        finishes: For every step in declaration order, the number of its `step_finished` event.
        outputs: The numbers of the `step_finished` events whose outputs the run's last event tells again.
    """

    info: RunInfo
    finishes: "array[int]"
    outputs: "array[int]"


class Unfinished(NamedTuple):
    """A run that had not ended when its server did.

    Attributes:
        header: What it was given.
        records: Its events so far.
        broken: It met a defect of a server.
        unreadable: Why its events cannot be read here; empty if they can.
    """

    header: Header
    records: Sequence[Record]
    broken: bool = False
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """Which runs to list. Times are nanoseconds since the epoch; what is empty or `None` leaves all in.

    Attributes:
        namespace: Only runs of this namespace.
        states: Only runs in one of these states.
        workflow_name: Only runs of this workflow.
        prefix: Only runs whose id begins so.
        labels: Only runs that have all these labels.
        since: Only runs accepted then or later.
        until: Only runs accepted before.
    """

    namespace: str
    states: frozenset[State] = frozenset()
    workflow_name: str = ""
    prefix: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None

    def matches(self, info: RunInfo) -> bool:
        """Say whether a run belongs to the list."""
        return (
            info.key.namespace == self.namespace
            and info.key.run_id.startswith(self.prefix)
            and (not self.states or info.state in self.states)
            and (not self.workflow_name or info.workflow_name == self.workflow_name)
            and self.labels.items() <= info.labels.items()
            and (self.since is None or info.create_time >= self.since)
            and (self.until is None or info.create_time < self.until)
        )


class Journal(Protocol):
    """Keeps the events of runs.

    A run is *under way* from `create` on, and has *ended* once an `append` with `ended` is committed.
    """

    name: str
    durable: bool
    """Whether it outlives the process."""
    lost: bool
    """Whether it will never commit anything any more: it is damaged, or another server has taken it over."""

    clean: bool
    """Whether the last server that took up its runs, if there was one, stopped in order."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        ...

    def create(self, header: Header) -> None:
        """Open a run. It is committed with its first events."""
        ...

    def append(
        self, key: RunKey, records: Sequence[Record], committed: Callable[[], None], ended: Ended | None = None
    ) -> None:
        """Add events to a run, all or none.

        Args:
            key: The run, under way.
            records: The events.
            committed: Called on the event loop once they are safe, perhaps before this returns.
            ended: How the run ended, if its last event is among them. From now on retention may forget it.
        """
        ...

    async def detach(self, key: RunKey) -> None:
        """Forget that a run under way is held; done when that is committed.

        Raises:
            JournalError: Commits fail now. It may be committed all the same when they succeed again.
        """
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
        """Return the committed events with these numbers, in their order; none if the run is not kept."""
        ...

    def has_ended(self, key: RunKey) -> bool:
        """Say whether a run has ended and is kept."""
        ...

    async def header(self, key: RunKey) -> Header | None:
        """Return what a run that has ended was given; `None` if there is none."""
        ...

    async def info(self, key: RunKey) -> RunInfo | None:
        """Return how a run that has ended stands; `None` if there is none."""
        ...

    async def finishes(self, key: RunKey) -> Sequence[int] | None:
        """Return the numbers of the `step_finished` events of a run that has ended; `None` if there is none."""
        ...

    async def list_ended(self, listing: Listing, before: Position | None, most: int) -> Sequence[RunInfo]:
        """Return runs that have ended and match, newest first, from after a position."""
        ...

    async def delete(self, key: RunKey) -> None:
        """Forget a run that has ended; done when that is committed.

        Raises:
            JournalError: Commits fail now. It may be committed all the same when they succeed again.
        """
        ...

    def mark_broken(self, key: RunKey) -> None:
        """Note that a run under way met a defect, behind its events so far. Without events there is nothing to note."""
        ...

    def discard(self, key: RunKey) -> bool:
        """Let go of a run under way: it has no more events while this journal is open.

        Returns:
            Whether it is kept all the same, for another server to take up; its id is not free then.
        """
        ...

    def unfinished(self) -> AsyncIterator[Unfinished]:
        """Yield the runs that an earlier process left under way, the oldest first; they are under way again."""
        ...

    def listen(self, told: Trouble) -> None:
        """Tell when commits begin to fail, and when they succeed again. At once, if they fail now."""
        ...

    async def close(self) -> None:
        """Commit what is outstanding and release everything."""
        ...

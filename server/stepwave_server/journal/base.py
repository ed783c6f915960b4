"""The protocol of journals. Commits complete later, in the order of the calls. Effects wait for them."""

from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.model import Payload, State, immutable
from stepwave_server.core.state import RunOptions
from stepwave_server.journal.commits import Commits
from stepwave_server.journal.kept_bytes import KeptBytes
from stepwave_server.wire.events.encode import Record

__all__ = ["CommitListener", "Ended", "Header", "Journal", "JournalError", "Listing", "Position", "Unfinished"]

Position: TypeAlias = tuple[int, str]
"""The creation time and id of a run, after which a page of a list of runs, newest first, begins."""

CommitListener: TypeAlias = Callable[[str], None]
"""Called with the reason when commits begin to fail, and with an empty string when they succeed again."""


class JournalError(Exception):
    """Raised when a journal cannot be opened or read. The message names the journal.

    Attributes:
        lasting: Whether the error is permanent: a retry cannot succeed.
    """

    lasting = False


@immutable
class Header:
    """The definition of a run. The run's state can be rebuilt from it and the run's events.

    Attributes:
        key: The run's key.
        workflow: The workflow as it was sent, an encoded `Workflow` message.
        input: The run's input.
        options: The other options that its decisions depend on.
        create_time: When it was accepted, in nanoseconds since the epoch.
        traceparent: The caller's W3C trace context; empty if there was none.
        tracestate: The vendor part of the trace context.
        window: Reconnect window in seconds; `None`: the run is detached.
        rerun_of: Id of the run that it runs again; empty if it is not a rerun.
        workflow_digest: The digest of the workflow; empty: it was not computed at the start.
        created_by: Who started it; empty: not known.
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
    workflow_digest: str = ""
    created_by: str = ""


@immutable
class Ended:
    """The summary of a run that has ended, committed together with its last event.

    Attributes:
        info: The run's final state.
        finishes: The sequence number of every step's `step_finished` event, in declaration order.
        outputs: The sequence numbers of the `step_finished` events whose outputs the run's last event repeats.
    """

    info: RunInfo
    finishes: "array[int]"
    outputs: "array[int]"


class Unfinished(NamedTuple):
    """A run that was under way when an earlier server ended.

    Attributes:
        header: Its definition.
        records: Its events so far.
        broken: Whether a defect of a server broke it.
        unreadable: Why this version cannot read its events; empty if it can.
    """

    header: Header
    records: Sequence[Record]
    broken: bool = False
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A filter of runs. A criterion that is empty or `None` matches every run.

    Attributes:
        namespace: The runs' namespace.
        states: The runs' states; one of them must match.
        workflow_name: The name of the runs' workflow.
        prefix: The prefix of the runs' ids.
        labels: The runs' labels; all of them must match.
        since: Earliest time of acceptance, in nanoseconds since the epoch.
        until: Time before which the runs were accepted, in nanoseconds since the epoch.
    """

    namespace: str
    states: frozenset[State] = frozenset()
    workflow_name: str = ""
    prefix: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None

    def matches(self, info: RunInfo) -> bool:
        """Return whether a run matches the filter."""
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

    Attributes:
        name: The kind of journal.
        durable: Whether it outlives the process.
        lost: Whether no commit can succeed any more: it is damaged, or another server has taken it over.
        clean: Whether the last server that recovered its runs, if there was one, stopped in order.
        commits: Its commits.
        kept_bytes: The bytes that its runs keep.
    """

    name: str
    durable: bool
    lost: bool
    clean: bool
    commits: Commits
    kept_bytes: KeptBytes

    @property
    def location(self) -> str:
        """The journal's location, for messages."""
        ...

    def create(self, header: Header) -> None:
        """Add a run. It is committed with its first events."""
        ...

    def append(
        self, key: RunKey, records: Sequence[Record], committed: Callable[[], None], ended: Ended | None = None
    ) -> None:
        """Append events to a run, all or none.

        Args:
            key: The run, which is under way.
            records: The events.
            committed: Called on the event loop once they are committed, perhaps before this returns.
            ended: The run's summary, if its last event is among them. Retention may delete the run from now on.
        """
        ...

    async def detach(self, key: RunKey) -> None:
        """Detach a run under way; returns when that is committed.

        Raises:
            JournalError: Commits fail now. The change may still be committed when they succeed again.
        """
        ...

    async def read(self, key: RunKey, after: int, max_bytes: int) -> Sequence[Record] | None:
        """Return committed events of a run.

        Args:
            key: The run.
            after: The sequence number after which to begin.
            max_bytes: Bytes at which to stop. At least one event is returned, if there is any.

        Returns:
            The events; `None`: the run is not in the journal.
        """
        ...

    def reading(self, key: RunKey) -> AbstractContextManager[None]:
        """Keep retention from deleting a run while inside, so that it can be read to its end."""
        ...

    async def pick(self, key: RunKey, sequences: Sequence[int]) -> Sequence[Record]:
        """Return the committed events with these sequence numbers, in this order; none if the run is unknown."""
        ...

    def has_ended(self, key: RunKey) -> bool:
        """Return whether a run has ended and is in the journal."""
        ...

    async def header(self, key: RunKey) -> Header | None:
        """Return the header of a run that has ended; `None` if there is no such run."""
        ...

    async def info(self, key: RunKey) -> RunInfo | None:
        """Return the final state of a run that has ended; `None` if there is no such run."""
        ...

    async def finishes(self, key: RunKey) -> Sequence[int] | None:
        """Return `Ended.finishes` of a run that has ended; `None` if there is no such run."""
        ...

    async def list_ended(self, listing: Listing, before: Position | None, most: int) -> Sequence[RunInfo]:
        """Return at most `most` runs that have ended and match, newest first, after a position."""
        ...

    async def delete(self, key: RunKey) -> None:
        """Delete a run that has ended; returns when that is committed.

        Raises:
            JournalError: Commits fail now. The change may still be committed when they succeed again.
        """
        ...

    def mark_broken(self, key: RunKey) -> None:
        """Mark a run under way as broken by a defect, after its events so far. Does nothing if it has none."""
        ...

    def discard(self, key: RunKey) -> bool:
        """Discard a run under way. It gets no more events while this journal is open.

        Returns:
            Whether the run stays in the journal for the next server to recover. Its id is not free then.
        """
        ...

    def unfinished(self) -> AsyncIterator[Unfinished]:
        """Yield the runs that an earlier process left under way, the oldest first. They are under way again."""
        ...

    def listen(self, listener: CommitListener) -> None:
        """Add a listener for failing commits. It is called at once if commits fail now."""
        ...

    async def close(self) -> None:
        """Commit the outstanding events, and close the journal."""
        ...

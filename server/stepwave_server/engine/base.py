"""What every engine does, whatever drives it."""

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from stepwave_server.core.explanation import Explanation, Waiting
from stepwave_server.core.info import LimitInfo, RunInfo, RunKey
from stepwave_server.core.messages import StepFinished
from stepwave_server.core.model import MAX_PAYLOAD_BYTES, Payload, Workflow, immutable
from stepwave_server.core.state import RunOptions, RunState, StepState
from stepwave_server.core.validate import Violation
from stepwave_server.engine.admission.limits import Limit
from stepwave_server.journal import Header, Listing, Position
from stepwave_server.telemetry import TraceParent
from stepwave_server.wire.events.encode import Kind, Record

__all__ = ["Batch", "Engine", "EngineOptions", "Page", "Recover", "Recovery", "StepPage", "Submission"]


class Recover(StrEnum):
    """What a starting server does with the runs that it finds under way: goes on, leaves them alone, or fails them."""

    RESUME = "resume"
    PAUSE = "pause"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Bounds and manners of an engine. Durations are in seconds.

    Attributes:
        max_runs: Runs under way at once.
        max_attempts_in_flight: Attempts in flight at once, over all runs.
        limits: What actions are allowed beside.
        max_payload_bytes: Bytes that a payload may have. A new run records it.
        cancel_grace: How long the clean-up of an interrupted attempt is awaited.
        tracebacks: Whether failures carry the traceback of the action's code.
        heartbeat: How long a watch may be silent.
        run: What every run is given: step timeout, limits.
    """

    max_runs: int = 10_000
    max_attempts_in_flight: int = 1_000
    limits: tuple[Limit, ...] = ()
    max_payload_bytes: int = MAX_PAYLOAD_BYTES
    cancel_grace: float = 10.0
    tracebacks: bool = True
    heartbeat: float = 15.0
    run: RunOptions = field(default_factory=RunOptions)


@immutable
class Submission:
    """A run to start, prepared: its state before the first event is built.

    Attributes:
        key: What names it.
        state: The run before its first event.
        definition: The workflow as it was sent, a `Workflow` message in bytes.
        parent: The caller's span; `None` if it has none.
        window: How many seconds it outlives the last stream that held it; `None`: nobody holds it.
        rerun_of: The run whose workflow and input it takes; empty if it is no rerun.
        reused: Outputs that it takes over from that run, by step id.
    """

    key: RunKey
    state: RunState
    definition: bytes
    parent: TraceParent | None = None
    window: float | None = None
    rerun_of: str = ""
    reused: tuple[tuple[str, Payload], ...] = ()


@dataclass(slots=True)
class Recovery:
    """What became of the runs that a starting engine found under way.

    Attributes:
        runs: How many there were.
        attempts: How many of their attempts had been running.
        held: Runs that go on and are held, and how many seconds they outlive their last stream.
        unreadable: Runs that this version cannot go on with, and why; they are left as they are.
    """

    runs: int = 0
    attempts: int = 0
    held: dict[RunKey, float] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


class Batch(NamedTuple):
    """Events that were ready together: a `WatchRunResponse` in bytes, and whether the run's last one is among them."""

    data: bytes
    last: bool


class Page(NamedTuple):
    """Runs, newest first, and whether there are more."""

    runs: Sequence[RunInfo]
    more: bool


class StepPage(NamedTuple):
    """How steps stand, and the index to go on at; 0: there are no more.

    One that has ended is given by the record of its `step_finished`, another by its state.
    """

    steps: Sequence[Record | StepState]
    next_index: int


class Engine(Protocol):
    """Drives runs."""

    name: str

    @property
    def draining(self) -> bool:
        """Whether it takes no new runs."""
        ...

    def check(self, workflow: Workflow, *, open_run: bool) -> list[Violation]:
        """Return every reason why a workflow cannot run here."""
        ...

    async def start(self, submission: Submission) -> bool:
        """Start a run; `False`: a run of the same id and content exists.

        Raises:
            NotAccepting, TooManyRuns, RunExists, JournalUnavailable: It cannot be started.
        """
        ...

    async def recover(self, how: Recover) -> Recovery:
        """Take up the runs that an earlier engine left under way. Called once, before anything else."""
        ...

    def listen(self, told: Callable[[str], None]) -> None:
        """Tell why nothing can be committed, when that begins, or now; and the empty text when it is over."""
        ...

    async def info(self, key: RunKey) -> RunInfo:
        """Return how a run stands, by what is committed."""
        ...

    async def explain(self, key: RunKey) -> Explanation:
        """Say what a run waits for; of one that has ended, only how it stands."""
        ...

    def waiting(self, key: RunKey) -> Sequence[Waiting]:
        """Return why ready steps of a run have not started, the most frequent reason first."""
        ...

    def limits(self, action: str) -> Sequence[LimitInfo]:
        """Return what an action is allowed, and how that stands now."""
        ...

    async def result(self, key: RunKey) -> Record:
        """Return the record of a run's `run_finished`."""
        ...

    async def steps(self, key: RunKey, start: int, most: int) -> StepPage:
        """Return how steps stand, from an index in declaration order."""
        ...

    async def list_runs(self, listing: Listing, before: Position | None, most: int) -> Page:
        """Return runs that match, newest first, from after a position."""
        ...

    def watch(self, key: RunKey, after: int, kinds: Collection[Kind]) -> AsyncGenerator[Batch, None]:
        """Stream a run's events after a number. An empty batch is a sign of life."""
        ...

    def cancel(self, key: RunKey, reason: str) -> None:
        """Ask a run to end; one that has ended stays as it is."""
        ...

    async def delete(self, key: RunKey) -> None:
        """Forget a run that has ended."""
        ...

    async def detach(self, key: RunKey) -> None:
        """Note that nobody holds a run any more; one that has ended stays as it is."""
        ...

    async def header(self, key: RunKey) -> Header:
        """Return what a run was given."""
        ...

    def export(self, key: RunKey) -> AsyncGenerator[bytes, None]:
        """Yield the events of a run as far as they are committed, each an `ExportRunResponse` in bytes."""
        ...

    async def finished_steps(self, key: RunKey) -> Sequence[StepFinished]:
        """Return how the steps of a run that has ended did, in the order in which they ended."""
        ...

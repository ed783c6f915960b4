"""What every engine does, whatever drives it."""

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.model import Payload, Workflow
from stepwave_server.core.record import record
from stepwave_server.core.state import RunOptions, RunState, StepState
from stepwave_server.core.validate import Violation
from stepwave_server.journal import Listing
from stepwave_server.telemetry import TraceParent
from stepwave_server.wire.events import Kind, Record

__all__ = ["Batch", "Engine", "EngineOptions", "Page", "StepPage", "Submission"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Bounds and manners of an engine. Durations are in seconds.

    Attributes:
        max_runs: Runs under way at once.
        max_attempts_in_flight: Attempts in flight at once, over all runs.
        max_payload_bytes: The bound of an answer.
        cancel_grace: How long the clean-up of an interrupted attempt is awaited.
        tracebacks: Whether failures carry the traceback of the action's code.
        heartbeat: How long a watch may be silent.
        run: What every run is given: step timeout, limits.
    """

    max_runs: int = 10_000
    max_attempts_in_flight: int = 1_000
    max_payload_bytes: int = 1 << 20
    cancel_grace: float = 10.0
    tracebacks: bool = True
    heartbeat: float = 15.0
    run: RunOptions = field(default_factory=RunOptions)


@record
class Submission:
    """A run to start, prepared: its state before the first event is built.

    Attributes:
        key: What names it.
        state: The run before its first event.
        definition: The workflow as it was sent, a `Workflow` message in bytes.
        parent: The caller's span; `None` if it has none.
    """

    key: RunKey
    state: RunState
    definition: bytes
    parent: TraceParent | None = None


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

    def start(self, submission: Submission) -> bool:
        """Start a run; `False`: a run of the same id and content exists.

        Raises:
            NotAccepting, TooManyRuns, RunExists: It cannot be started.
        """
        ...

    async def info(self, key: RunKey) -> RunInfo:
        """Return how a run stands, by what is committed."""
        ...

    async def result(self, key: RunKey) -> Record:
        """Return the record of a run's `run_finished`."""
        ...

    async def steps(self, key: RunKey, start: int, most: int) -> StepPage:
        """Return how steps stand, from an index in declaration order."""
        ...

    async def list_runs(self, listing: Listing, before: tuple[int, str] | None, most: int) -> Page:
        """Return runs that match, newest first, from after `(create_time, run_id)`."""
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

    def content(self, key: RunKey) -> tuple[bytes, Payload]:
        """Return the workflow and input that a run was started with."""
        ...

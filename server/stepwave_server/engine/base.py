"""The protocol of engines, their options, and the values that they take and return."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from stepwave.v1 import workflow_pb2
from stepwave_server.actions import KnownAction
from stepwave_server.core.explanation import Explanation, Waiting
from stepwave_server.core.info import LimitInfo, Load, RunInfo, RunKey
from stepwave_server.core.messages import AddSteps, StepCompleted, StepFinished
from stepwave_server.core.model import MAX_PAYLOAD_BYTES, Payload, Workflow, immutable
from stepwave_server.core.state import DEFAULT_IDLE_TIMEOUT, RunOptions, RunState, StepState
from stepwave_server.core.validate import Violation
from stepwave_server.engine.admission.limits import Limit
from stepwave_server.engine.admission.shares import WeightOf, equal_weights
from stepwave_server.engine.secrets.store import Secrets
from stepwave_server.journal import Header, Listing, Position
from stepwave_server.telemetry import TraceParent
from stepwave_server.wire.events.encode import Kind, Record

__all__ = [
    "Batch",
    "Engine",
    "EngineOptions",
    "LogPage",
    "Page",
    "Recover",
    "Recovery",
    "StepPage",
    "Submission",
    "not_allowed",
]


class Recover(StrEnum):
    """The treatment of runs that an earlier server left under way."""

    RESUME = "resume"
    """Continue them."""

    PAUSE = "pause"
    """Keep them under way, and start nothing."""

    FAIL = "fail"
    """End them as failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Options of an engine.

    Attributes:
        max_runs: Maximum number of runs under way; 0: the engine has no bound.
        max_attempts_in_flight: Maximum number of attempts in flight, over all runs; 0: the engine has no bound.
        limits: Limits of actions, beside `max_attempts_in_flight`.
        max_payload_bytes: Maximum size of a payload in bytes. A new run records it.
        cancel_grace: Seconds to wait for the clean-up of an interrupted attempt.
        tracebacks: Whether failures and logs carry tracebacks of the actions' code.
        heartbeat: Seconds without a message after which a watch sends a heartbeat.
        idle_timeout: The time that a new open run may be idle, unless it says otherwise, in nanoseconds.
        max_runs_of: Returns how many runs of a namespace may be under way; `None`: as many as the engine allows.
        max_kept_bytes_of: Returns how many bytes the runs of a namespace may keep before it starts no more; `None`: as
            many as they have.
        attempt_bounds: Returns how many attempts may be in flight, for the namespaces that have a bound; `None`: none
            ever has one.
        weight_of: Returns the weight of a namespace, for its share of the places of attempts.
        may_call: Returns whether the steps of a namespace may call an action. It is asked when an attempt starts.
        secrets: The secrets of this process, and the actions that may use them.
        run: Options of new runs, such as the default step timeout.
    """

    max_runs: int = 10_000
    max_attempts_in_flight: int = 1_000
    limits: tuple[Limit, ...] = ()
    max_payload_bytes: int = MAX_PAYLOAD_BYTES
    cancel_grace: float = 10.0
    tracebacks: bool = True
    heartbeat: float = 15.0
    idle_timeout: int = DEFAULT_IDLE_TIMEOUT
    max_runs_of: Callable[[str], int | None] = lambda namespace: None
    max_kept_bytes_of: Callable[[str], int | None] = lambda namespace: None
    attempt_bounds: Callable[[], Mapping[str, int]] | None = None
    weight_of: WeightOf = equal_weights
    may_call: Callable[[str, str], bool] = lambda namespace, action: True
    secrets: Secrets = field(default_factory=Secrets)
    run: RunOptions = field(default_factory=RunOptions)


def not_allowed(namespace: str, action: str) -> str:
    """Return the message about an action that the steps of a namespace may not call."""
    return f'steps of the namespace "{namespace}" may not call the action "{action}"'


@immutable
class Submission:
    """A validated run, ready to start.

    Attributes:
        key: The run's key.
        state: Its state before the first event.
        definition: The workflow as it was sent, an encoded `Workflow` message.
        parent: The caller's span; `None`: there is none.
        window: Reconnect window in seconds; `None`: the run is detached.
        rerun_of: Id of the run that it runs again; empty if it is not a rerun.
        reused: Outputs taken over from that run, by step id.
        workflow_digest: The digest of the workflow; empty: it is computed when the run is asked for.
        created_by: Who starts it; empty: not known.
    """

    key: RunKey
    state: RunState
    definition: bytes
    parent: TraceParent | None = None
    window: float | None = None
    rerun_of: str = ""
    reused: tuple[tuple[str, Payload], ...] = ()
    workflow_digest: str = ""
    created_by: str = ""


@dataclass(slots=True)
class Recovery:
    """The result of recovering the runs that an earlier engine left under way.

    Attributes:
        runs: Number of recovered runs.
        attempts: Number of their attempts that were running.
        attached: Continued runs that are attached, with their reconnect window in seconds.
        unsupported: Ids of runs that this version cannot continue, with the reason. They are left unchanged.
    """

    runs: int = 0
    attempts: int = 0
    attached: dict[RunKey, float] = field(default_factory=dict)
    unsupported: dict[str, str] = field(default_factory=dict)


class Batch(NamedTuple):
    """Events that are sent together.

    Attributes:
        data: An encoded `WatchRunResponse`.
        last: Whether the run's last event is among them.
    """

    data: bytes
    last: bool


class Page(NamedTuple):
    """One page of a list of runs.

    Attributes:
        runs: The runs, newest first.
        more: Whether there are more.
    """

    runs: Sequence[RunInfo]
    more: bool


class StepPage(NamedTuple):
    """One page of a run's steps.

    Attributes:
        steps: For a step that has ended, the record of its `step_finished` event; for another step, its state.
        next_index: The index of the next page's first step; 0: there are no more.
    """

    steps: Sequence[Record | StepState]
    next_index: int


class LogPage(NamedTuple):
    """One page of what a run's actions have logged.

    Attributes:
        events: The messages in order, each an encoded `WatchRunResponse` with this `step_log` event alone.
        dropped: Number of messages of the run that are no longer kept.
        next_after: The number after which the next page begins; 0: there are no more.
    """

    events: Sequence[bytes]
    dropped: int
    next_after: int


class Engine(Protocol):
    """Drives runs.

    Attributes:
        name: The name of the engine.
        options: The options, within the bounds of the engine.
    """

    name: str
    options: EngineOptions

    @property
    def draining(self) -> bool:
        """Whether it accepts no new runs."""
        ...

    @property
    def attempts_in_flight(self) -> int:
        """Number of attempts in flight, of the runs that this server knows."""
        ...

    @property
    def watchers(self) -> int:
        """Number of open streams."""
        ...

    def load(self) -> Load:
        """Return what the engine does now. It may be called on any thread."""
        ...

    async def find_actions(self, names: Collection[str]) -> None:
        """Find out which of these actions exist. To be called before a check of steps that call them.

        Raises:
            JournalUnavailable: That cannot be found out now.
        """
        ...

    async def list_actions(self) -> Sequence[KnownAction]:
        """Return the actions that steps may call, by name."""
        ...

    def check(self, workflow: Workflow, namespace: str, *, open_run: bool) -> list[Violation]:
        """Return every reason why a workflow cannot run on this engine, in a namespace."""
        ...

    async def start(self, submission: Submission) -> bool:
        """Start a run.

        Returns:
            Whether a run was started; `False`: a run of the same id and content exists.

        Raises:
            NotAccepting: The engine accepts no new runs.
            TooManyRuns: The limit of runs under way is reached.
            TooManyKeptBytes: The runs of the namespace keep as many bytes as they may.
            RunExists: A run with this id and other content exists.
            JournalUnavailable: The journal cannot commit.
        """
        ...

    def check_steps(self, key: RunKey, addition: AddSteps) -> list[Violation]:
        """Return every reason why steps cannot be added to a run; empty if the run takes none, or is not under way."""
        ...

    async def add_steps(self, key: RunKey, addition: AddSteps) -> None:
        """Add steps to an open run. Return when they are committed. It is no error if the run has them already.

        Raises:
            StepsRefused: The steps cannot be added. Nothing has changed.
            RunNotOpen: The run takes no more steps.
            RunNotFound: The run does not exist.
            JournalUnavailable: The journal cannot commit.
        """
        ...

    async def recover(self, how: Recover) -> Recovery:
        """Recover the runs that an earlier engine left under way. Called once, before any other method."""
        ...

    def listen(self, listener: Callable[[str], None]) -> None:
        """Add a listener for failing commits.

        Args:
            listener: Called with the reason when commits begin to fail, and with an empty string when they succeed
                again. Called at once if they fail now.
        """
        ...

    async def info(self, key: RunKey) -> RunInfo:
        """Return the information of a run, when it is committed."""
        ...

    async def explain(self, key: RunKey) -> Explanation:
        """Return what a run waits for. For a run that has ended, the explanation has no steps."""
        ...

    def waiting(self, key: RunKey) -> Sequence[Waiting]:
        """Return why ready steps of a run have not started, the most frequent reason first."""
        ...

    def limits(self, action: str) -> Sequence[LimitInfo]:
        """Return the limits of an action, and their state now."""
        ...

    async def result(self, key: RunKey) -> Record:
        """Return the record of a run's `run_finished`."""
        ...

    async def steps(self, key: RunKey, start: int, most: int) -> StepPage:
        """Return at most `most` steps of a run, from an index in declaration order."""
        ...

    async def logs(self, key: RunKey, step_id: str, after: int, most: int) -> LogPage:
        """Return at most `most` messages that actions of a run have logged, after a number.

        Args:
            key: The run.
            step_id: Only messages of this step; empty: all steps.
            after: The number of the message after which to begin; 0: the first that is kept.
            most: Maximum number of messages.
        """
        ...

    async def list_runs(self, listing: Listing, before: Position | None, most: int) -> Page:
        """Return at most `most` runs that match, newest first, after the position `before`."""
        ...

    def watch(
        self, key: RunKey, after: int, kinds: Collection[Kind], first: bytes = b""
    ) -> AsyncGenerator[Batch, None]:
        """Stream a run's events after a sequence number. A batch without events is a heartbeat.

        With `first`, an encoded message, its fields come before all events.
        """
        ...

    async def cancel(self, key: RunKey, reason: str, caller: str = "") -> None:
        """Request the cancellation of a run by a caller. A run that has ended stays unchanged."""
        ...

    async def complete(self, key: RunKey, completion: StepCompleted) -> None:
        """Complete a step that waits. Return when that is committed. It is no error if it had this outcome before."""
        ...

    async def delete(self, key: RunKey) -> None:
        """Delete a run that has ended."""
        ...

    async def detach(self, key: RunKey) -> None:
        """Detach a run, so that it no longer depends on its streams. A run that has ended stays unchanged."""
        ...

    async def header(self, key: RunKey) -> Header:
        """Return the definition of a run."""
        ...

    def export(self, key: RunKey) -> AsyncGenerator[bytes, None]:
        """Yield the committed events of a run in parts, each an encoded `ExportRunResponse`."""
        ...

    async def added_steps(self, key: RunKey) -> Sequence[workflow_pb2.Step]:
        """Return the steps that were added to a run that has ended, in their order."""
        ...

    async def finished_steps(self, key: RunKey) -> Sequence[StepFinished]:
        """Return the `step_finished` events of a run that has ended, in their order."""
        ...

    async def drain(self, seconds: float) -> None:
        """Accept no new runs, and wait for the runs under way that end with this server, at most so long."""
        ...

    async def close(self) -> None:
        """End all streams, and drive no more runs."""
        ...

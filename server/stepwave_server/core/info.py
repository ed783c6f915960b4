"""Information on runs, limits and load, as queries return it."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from .model import State, immutable
from .state import RunState

__all__ = [
    "DEFAULT_NAMESPACE",
    "CommitInfo",
    "LimitInfo",
    "Load",
    "RunInfo",
    "RunKey",
    "info_of",
    "namespace_of",
    "seed_of",
]


DEFAULT_NAMESPACE = "default"
"""The namespace of a call that names none."""


class RunKey(NamedTuple):
    """The identity of a run."""

    namespace: str
    run_id: str


def namespace_of(idempotency_key: str) -> str:
    """Return the namespace of the run in the idempotency key of an attempt, `NAMESPACE/RUN/STEP`."""
    return idempotency_key.partition("/")[0]


def seed_of(key: RunKey) -> str:
    """Return the seed of a run's random draws. It is derived from the key, so every server draws the same."""
    return f"{key.namespace}/{key.run_id}"


@immutable
class LimitInfo:
    """A limit of actions, and its state now.

    Attributes:
        actions: What the limit covers, as it was configured.
        per_key: It counts each value of a key on its own. The numbers below are then those of all keys together.
        concurrency: The bound of attempts in flight; `None`: no bound.
        rate: Starts, in how many nanoseconds, and how many may start together; `None`: no rate.
        adaptive: The lowest and the highest adaptive bound, and the bound now (the lowest of all keys); `None`: no
            adaptive bound.
        in_flight: Attempts that have a place.
        refused: Refusals since the server started. Keys that were forgotten are not counted.
        paused_until: The end of the longest pause that a refusal asked for, since the epoch; `None`: no pause.
    """

    actions: str
    per_key: bool
    concurrency: int | None
    rate: tuple[int, int, int] | None
    adaptive: tuple[int, int, int] | None
    in_flight: int
    refused: int
    paused_until: int | None


@immutable
class CommitInfo:
    """The commits of a journal on disk.

    Attributes:
        count: Commits so far.
        events: Events in them.
        median: The median time of the latest commits, in nanoseconds.
        longest: The longest time of the latest commits, in nanoseconds.
    """

    count: int
    events: int
    median: int
    longest: int


@immutable
class Load:
    """The load of a process now.

    Attributes:
        runs: Runs under way.
        attempts: Attempts that run in this process, by action.
        queued: Attempts that are ready and wait for a place, by action.
        streams: Open streams.
        stream_lag: Committed events that the slowest stream has not sent.
        limits: The limits of actions, and their state.
        commits: The commits of the journal; `None`: it is not on disk.
        kept_bytes: Bytes that runs keep in the journal, by namespace; empty: not known.
    """

    runs: int = 0
    attempts: Mapping[str, int] = field(default_factory=dict)
    queued: Mapping[str, int] = field(default_factory=dict)
    streams: int = 0
    stream_lag: int = 0
    limits: Sequence[LimitInfo] = ()
    commits: CommitInfo | None = None
    kept_bytes: Mapping[str, int] = field(default_factory=dict)


@immutable
class RunInfo:
    """A run now.

    `counts` is by `State`, in its order. Times are nanoseconds since the epoch. `rerun_of` is empty if it is no rerun.
    `paused` means that its server does not continue it. `missing` are the first actions that its steps wait for.
    `workflow_digest` is that of the workflow that it was started with; empty: not computed. `created_by` is who started
    it; empty: not known.
    """

    key: RunKey
    workflow_name: str
    state: State
    labels: dict[str, str]
    create_time: int
    start_time: int | None
    end_time: int | None
    counts: tuple[int, ...]
    last_sequence: int
    open: bool
    stopping: bool
    rerun_of: str = ""
    paused: bool = False
    missing: tuple[str, ...] = ()
    workflow_digest: str = ""
    created_by: str = ""

    @property
    def position(self) -> tuple[int, str]:
        """Its position in lists, newest first."""
        return self.create_time, self.key.run_id


def info_of(
    key: RunKey,
    create_time: int,
    run: RunState,
    *,
    rerun_of: str = "",
    paused: bool = False,
    missing: tuple[str, ...] = (),
    workflow_digest: str = "",
    created_by: str = "",
) -> RunInfo:
    """Return the information of a run. For what its state does not tell, see `RunInfo`."""
    state = run.finished or (State.RUNNING if run.started else State.PENDING)
    return RunInfo(
        key,
        run.workflow.name,
        state,
        run.workflow.labels,
        create_time,
        run.start_time if run.started else None,
        run.time if run.finished else None,
        tuple(run.counts),
        run.sequence,
        run.open and run.finished is None,
        (run.stopping is not None or run.failing) and run.finished is None,
        rerun_of,
        paused,
        missing,
        workflow_digest,
        created_by,
    )

"""A run as others see it: its identity, and how it stands now."""

from typing import NamedTuple

from .model import State, immutable
from .state import RunState

__all__ = ["LimitInfo", "RunInfo", "RunKey", "info_of", "seed_of"]


class RunKey(NamedTuple):
    """What names a run."""

    namespace: str
    run_id: str


def seed_of(key: RunKey) -> str:
    """Return the seed of a run's draws: derived from what names it, so that whoever goes on with it draws the same."""
    return f"{key.namespace}/{key.run_id}"


@immutable
class LimitInfo:
    """What an action is allowed, with all others that a limit covers, and how that stands now.

    Attributes:
        actions: What the limit covers, as it was configured.
        per_key: It counts each value of a key apart; what follows is then of all of them together.
        concurrency: Attempts in flight at once; `None`: as many as come.
        rate: How many may start in how many nanoseconds, and together; `None`: however many.
        adaptive: How far the bound that finds itself may fall and climb, and where it is, the lowest of all keys;
            `None`: there is none.
        in_flight: Attempts that hold a place.
        refused: Refusals since the server started, of the keys that are remembered.
        paused_until: When the latest pause ends for which a refusal asked, since the epoch; `None`: there is none.
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
class RunInfo:
    """A run as it stands now.

    `counts` is by `State`, in its order; times are nanoseconds since the epoch. `rerun_of` is empty if it is no rerun;
    `paused` says that its server leaves it alone; `missing` are actions that its steps wait for, the first of them.
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

    @property
    def position(self) -> tuple[int, str]:
        """Its place in lists, which are sorted by it, newest first."""
        return self.create_time, self.key.run_id


def info_of(key: RunKey, create_time: int, run: RunState) -> RunInfo:
    """Return how a run stands."""
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
    )

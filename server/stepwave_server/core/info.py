"""A run as others see it: its identity, and how it stands now."""

from typing import NamedTuple

from .model import State
from .record import record
from .state import RunState

__all__ = ["RunInfo", "RunKey", "info_of", "seed_of"]


class RunKey(NamedTuple):
    """What names a run."""

    namespace: str
    run_id: str


def seed_of(key: RunKey) -> str:
    """Return the seed of a run's draws: derived from what names it, so that whoever goes on with it draws the same."""
    return f"{key.namespace}/{key.run_id}"


@record
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

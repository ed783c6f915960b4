"""The load of the local engine now, in numbers."""

from collections import Counter
from collections.abc import Collection

from stepwave_server.core.info import CommitInfo, LimitInfo, Load
from stepwave_server.engine.attempts.attempt import AttemptState
from stepwave_server.engine.runs.run import LocalRun
from stepwave_server.engine.streams.watcher import Watcher

__all__ = ["lag_of", "load_of"]


def load_of(
    runs: Collection[LocalRun],
    streams: Collection[Watcher],
    limits: Collection[LimitInfo],
    commits: CommitInfo | None,
) -> Load:
    """Return the load. It may be called on any thread, with collections that no other thread changes.

    It looks at every attempt, which takes about 3 ms for 10,000 of them. Counters would cost every step more.
    """
    total: Counter[str] = Counter()
    queued: Counter[str] = Counter()
    for run in runs:
        attempts = run.attempts.all()
        total.update([attempt.action.name for attempt in attempts])
        queued.update([attempt.action.name for attempt in attempts if attempt.state is AttemptState.WAITING])
    return Load(
        runs=len(runs),
        attempts=total - queued,
        queued=queued,
        streams=len(streams),
        stream_lag=lag_of(streams),
        limits=tuple(limits),
        commits=commits,
    )


def lag_of(streams: Collection[Watcher]) -> int:
    """Return how many committed events the slowest stream has not sent."""
    return max((stream.lag for stream in streams), default=0)

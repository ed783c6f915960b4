"""The numbers of this process that metrics are made of. They are recorded on the event loop, and read on any thread."""

import threading
from collections import Counter
from typing import TypeAlias

from stepwave_server.core.messages import RunFinished
from stepwave_server.core.model import SECOND, Failure, State
from stepwave_server.telemetry.metrics.histogram import COMMIT_SIZES, LAGS, Histogram, Samples

__all__ = ["OTHER", "ActionMeasures", "Key", "Measures"]

Key: TypeAlias = tuple[str, ...]
"""The values of a metric's attributes."""

MAX_ACTIONS = 100
"""Actions with numbers of their own. Together with outcomes they stay below the 2,000 series of OpenTelemetry."""

MAX_NAMESPACES = 100
"""Namespaces with numbers of their own."""

OTHER = "other"
"""The name under which further actions and namespaces are counted together."""

MAX_WAITING = 4_096
"""Events after which the samples are counted, even if nobody asks for metrics."""

SUCCEEDED = State.SUCCEEDED.name.lower()


class ActionMeasures:
    """The numbers of one action.

    Histograms change only in `fold`. Everything else changes only on the event loop.

    Attributes:
        wait: Time from when an attempt is ready to its start.
        steps: Durations of steps, from the start of the first attempt.
        attempts: Durations of attempts.
        waits: Adds a value to `wait`.
        regular: Adds the duration of a step whose first attempt succeeded, to `steps` and to `attempts` at once.
        irregular_steps: Adds a value to `steps`.
        irregular_attempts: Adds a value to `attempts`.
    """

    __slots__ = (
        "_outcomes",
        "_regular",
        "_regular_count",
        "_samples",
        "_states",
        "attempts",
        "irregular_attempts",
        "irregular_steps",
        "regular",
        "steps",
        "wait",
        "waits",
    )

    def __init__(self) -> None:
        self.wait, self.steps, self.attempts = Histogram(), Histogram(), Histogram()
        waits, steps, attempts = Samples(self.wait), Samples(self.steps), Samples(self.attempts)
        self._regular = Samples(self.steps, self.attempts)
        self._samples = waits, steps, attempts
        self.waits, self.regular = waits.append, self._regular.append
        self.irregular_steps, self.irregular_attempts = steps.append, attempts.append
        self._states: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._regular_count = 0

    def step_ended(self, state: State) -> None:
        """Count an irregular step that has ended."""
        self._states[state.name.lower()] += 1

    def attempt_ended(self, failure: Failure | None, duration: int) -> None:
        """Count an irregular attempt that has ended; `failure`: `None`: it succeeded."""
        self._outcomes[SUCCEEDED if failure is None else failure.reason.name.lower()] += 1
        self.irregular_attempts(duration)

    def fold(self) -> None:
        """Count the samples that wait."""
        self._regular_count += self._regular.fold()
        for samples in self._samples:
            samples.fold()

    @property
    def states(self) -> "Counter[str]":
        """Steps that have ended, by state."""
        return self._states.copy() + Counter({SUCCEEDED: self._regular_count})

    @property
    def outcomes(self) -> "Counter[str]":
        """Attempts that have ended: `succeeded`, or the reason of the failure."""
        return self._outcomes.copy() + Counter({SUCCEEDED: self._regular_count})


class Measures:
    """The numbers of this process.

    Attributes:
        actions: The numbers of each action. Those of actions beyond a bound are together in `OTHER`.
        started_runs: Runs that have started, by namespace.
        ended_runs: Runs that have ended, by namespace and state.
        runs: Durations of runs, by namespace and state.
        commit_sizes: Events in each commit of the journal.
        commits: Durations of commits.
        loop_lag: How late the event loop called a timer.
        calls: Calls that have ended, by method and code.
        refusals: Calls that were refused, by method and reason.
        call_durations: Durations of calls without a stream, by method.
    """

    def __init__(self) -> None:
        self.actions: dict[str, ActionMeasures] = {}
        self.started_runs: Counter[Key] = Counter()
        self.ended_runs: Counter[Key] = Counter()
        self.runs: dict[Key, Histogram] = {}
        self.commit_sizes = Histogram(COMMIT_SIZES, 1)
        self.commits = Histogram(LAGS)
        self.loop_lag = Histogram(LAGS)
        self.calls: Counter[Key] = Counter()
        self.refusals: Counter[Key] = Counter()
        self.call_durations: dict[Key, Histogram] = {}
        self._namespaces: set[str] = set()
        self._waiting = 0
        self._folding = threading.Lock()

    # Actions.

    def action(self, name: str) -> ActionMeasures:
        """Return the numbers of an action; those of `OTHER` if there are too many actions."""
        found = self.actions.get(name)
        if found is None:
            name = self.action_name(name)
            found = self.actions.get(name) or self.actions.setdefault(name, ActionMeasures())
        return found

    def action_name(self, name: str) -> str:
        """Return the name under which an action is counted."""
        return name if name in self.actions or len(self.actions) < MAX_ACTIONS else OTHER

    def note(self, events: int) -> None:
        """Note that events were measured. Their samples are counted when many wait."""
        self._waiting += events
        if self._waiting >= MAX_WAITING:
            self.fold()

    def fold(self) -> None:
        """Count the samples that wait."""
        with self._folding:
            self._waiting = 0
            for action in list(self.actions.values()):
                action.fold()

    # Runs.

    def run_started(self, namespace: str) -> None:
        """Count a run that has started."""
        self.started_runs[(self.namespace_name(namespace),)] += 1

    def run_ended(self, namespace: str, event: RunFinished) -> None:
        """Count a run that has ended."""
        key = self.namespace_name(namespace), event.state.name.lower()
        self.ended_runs[key] += 1
        self.runs.setdefault(key, Histogram()).add(event.time - event.start_time)

    def namespace_name(self, name: str) -> str:
        """Return the name under which a namespace is counted."""
        if name not in self._namespaces:
            if len(self._namespaces) >= MAX_NAMESPACES:
                return OTHER
            self._namespaces.add(name)
        return name

    # The server.

    def committed(self, events: int, seconds: float) -> None:
        """Count a commit of the journal."""
        self.commit_sizes.add(events)
        self.commits.add(round(seconds * SECOND))

    def lagged(self, seconds: float) -> None:
        """Count a timer of the event loop that was called so much too late."""
        self.loop_lag.add(round(seconds * SECOND))

    def call_ended(self, method: str, code: str, reason: str, seconds: float | None) -> None:
        """Count a call that has ended.

        Args:
            method: The method.
            code: The code of its status.
            reason: Why it was refused; empty: it was not.
            seconds: Its duration; `None`: it was a stream.
        """
        self.calls[method, code] += 1
        if reason:
            self.refusals[method, reason] += 1
        if seconds is not None:
            self.call_durations.setdefault((method,), Histogram()).add(round(seconds * SECOND))

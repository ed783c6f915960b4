"""Tests of the attempts of a run: their permits when attempts are replaced, withdrawn, or admitted too late."""

from dataclasses import dataclass, field

import pytest

from stepwave import action
from stepwave_server.actions import Registry
from stepwave_server.core.decide import decide
from stepwave_server.core.evolve import new_run
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import Input, Invoke, Started
from stepwave_server.core.model import Step, Workflow
from stepwave_server.core.state import RunState
from stepwave_server.engine.admission.base import Permit
from stepwave_server.engine.admission.controller import AdmissionController
from stepwave_server.engine.admission.limits import Bound, Limit
from stepwave_server.engine.attempts.attempt import Attempt, AttemptState
from stepwave_server.engine.attempts.nested import NestedWorkflows
from stepwave_server.engine.attempts.table import Attempts
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.engine.runs.commit_watermark import CommitWatermark
from stepwave_server.engine.runs.watcher_reports import WatcherReports
from stepwave_server.engine.streams.logs import LogStore, RunLog
from stepwave_server.engine.streams.subscribers import Subscribers
from unit.server.clocked import ClockedLoop

EVALUATOR = JsonEvaluator(1_000_000)


@action
async def work() -> None: ...


@action
async def other() -> None: ...


@dataclass(eq=False)
class Owner:
    """A run that records its admitted attempts."""

    reports: WatcherReports
    log: RunLog
    key: RunKey = field(default_factory=lambda: RunKey("default", "run"))
    admitted: list[Attempt] = field(default_factory=list)

    @property
    def nested(self) -> NestedWorkflows:
        raise AssertionError("no attempt chooses a workflow")

    async def add_steps(self, steps: object, *, seal: bool) -> None: ...

    def attempt_admitted(self, attempt: Attempt) -> None:
        self.admitted.append(attempt)

    def attempt_timed_out(self, attempt: Attempt) -> None: ...

    def attempt_ended(self, attempt: Attempt, permit: Permit, outcome: Input) -> None: ...


class Table:
    """The attempts of a run with one step, `a`, on a server with some places."""

    def __init__(self, loop: ClockedLoop, places: int, *limits: Limit) -> None:
        self.admission: AdmissionController[Attempt] = AdmissionController(loop, places, limits)
        self.subscribers = Subscribers("run", lambda: 0)
        state = _started_run()
        reports = WatcherReports(self.subscribers, self.admission, state, CommitWatermark(0))
        self.owner = Owner(reports, LogStore(lambda: 0).open(RunKey("default", "run")))
        self.attempts = Attempts(
            self.owner,
            state,
            self.subscribers,
            clock=lambda: 0,
            actions=Registry([work, other], entry_points=False),
            admission=self.admission,
            evaluator=EVALUATOR,
        )

    def request(self, action: str = "work", *, fallback: bool = False) -> Attempt:
        self.attempts.request(Invoke("a", 1, action, "null", fallback=fallback))
        attempt = self.attempts.get("a")
        assert attempt is not None
        return attempt


def _started_run() -> RunState:
    run = new_run(Workflow(name="flow", steps=(Step("a", "work"),)))
    decide(run, Started(), 0, EVALUATOR)
    return run


@pytest.fixture
def table(loop: ClockedLoop) -> Table:
    return Table(loop, 1)


@pytest.fixture
def limited(loop: ClockedLoop) -> Table:
    """Return attempts under a limit that covers `work` alone."""
    return Table(loop, 2, Limit(actions="work", total=Bound(concurrency=1)))


def test_an_admitted_attempt_hands_its_permit_to_one_that_needs_the_same(table: Table) -> None:
    first = table.request()
    table.admission.admit()
    second = table.request("other", fallback=True)
    assert (first.state, second.state) == (AttemptState.ENDED, AttemptState.ADMITTED)
    assert table.owner.admitted == [first, second]
    assert table.admission.in_flight == 1


def test_an_admitted_attempt_releases_its_permit_for_one_that_needs_another(limited: Table) -> None:
    first = limited.request()
    limited.admission.admit()
    second = limited.request("other", fallback=True)
    assert (first.state, second.state) == (AttemptState.ENDED, AttemptState.WAITING)
    assert limited.admission.in_flight == 0
    limited.admission.admit()
    assert limited.owner.admitted == [first, second]
    assert limited.admission.in_flight == 1


def test_a_waiting_attempt_leaves_the_queue_to_the_one_that_replaces_it(table: Table) -> None:
    permit = table.admission.occupy()
    first = table.request()
    second = table.request("other", fallback=True)
    table.admission.release(permit)
    table.admission.admit()
    assert (first.state, second.state) == (AttemptState.ENDED, AttemptState.ADMITTED)
    assert table.owner.admitted == [second]


def test_withdrawing_an_admitted_attempt_frees_its_place_once(limited: Table) -> None:
    attempt = limited.request()
    limited.admission.admit()
    limited.attempts.withdraw(attempt)
    assert (attempt.state, limited.admission.in_flight) == (AttemptState.ENDED, 0)
    assert attempt.withdraw() is None
    assert limited.attempts.get("a") is None


def test_a_withdrawn_attempt_cannot_be_admitted_or_started(table: Table) -> None:
    attempt = table.request()
    table.attempts.withdraw(attempt)
    table.admission.admit()
    assert table.owner.admitted == []
    with pytest.raises(AssertionError, match="only a waiting attempt"):
        attempt.admit(Permit())


def test_an_attempt_that_hands_on_its_permit_is_not_shown_as_waiting_any_more(table: Table) -> None:
    permit = table.admission.occupy()
    table.request()
    table.admission.admit()
    assert table.subscribers.knows_waiting("a")
    table.admission.release(permit)
    table.admission.admit()
    table.request("other", fallback=True)
    assert not table.subscribers.knows_waiting("a")
    assert table.subscribers.transients() == []


def test_a_step_whose_action_is_missing_waits_without_a_place(table: Table) -> None:
    table.request()
    table.admission.admit()
    table.attempts.request(Invoke("a", 1, "gone", "null"))
    assert table.admission.in_flight == 0
    assert table.attempts.missing == ("gone",)
    missing = table.attempts.missing_of("a")
    assert missing is not None
    assert missing.obstacle.message == 'this server has no action "gone"'

"""Tests of the engine's timers, on a loop whose clock the test moves."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator

import pytest

from integration.server.slow_journal import SlowJournal
from stepwave import Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.actions import Registry
from stepwave_server.core.evolve import new_run
from stepwave_server.core.info import RunKey
from stepwave_server.core.model import FailurePolicy, FallbackAction, Join, Retry, Step, Workflow
from stepwave_server.core.state import RunOptions
from stepwave_server.engine.admission.limits import Bound, Limit, Rate
from stepwave_server.engine.base import Batch, EngineOptions, Submission
from stepwave_server.engine.local import LocalEngine
from stepwave_server.wire.events.encode import Kind
from unit.server.clocked import ClockedLoop

KEY = RunKey("default", "run")
SECOND = 1_000_000_000
OPTIONS = RunOptions(step_timeout=600 * SECOND)


class EngineHarness:
    """An engine on a clocked loop.

    Attributes:
        log: What its actions did, in order.
        releases: The events that end the actions, by step id.
    """

    def __init__(self, loop: ClockedLoop, *, places: int = 1_000, limits: tuple[Limit, ...] = ()) -> None:
        self.loop = loop
        self.places = places
        self.limits = limits
        self.log: list[str] = []
        self.releases: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.journal = SlowJournal()
        self.engine = loop.run(self._make())

    async def _make(self) -> LocalEngine:
        @action
        async def waits(context: Context) -> None:
            self.log.append(f"{context.step_id} began" + (" again" if context.attempt > 1 else ""))
            try:
                await self.releases[context.step_id].wait()
            except asyncio.CancelledError:
                self.log.append(f"{context.step_id} interrupted")
                raise

        @action
        async def stubborn(context: Context) -> None:
            while not self.releases[context.step_id].is_set():
                try:
                    await self.releases[context.step_id].wait()
                except asyncio.CancelledError:
                    self.log.append(f"{context.step_id} goes on")

        @action
        async def fails(context: Context) -> None:
            await self.releases[context.step_id].wait()
            raise ValueError

        @action
        async def blocks(seconds: float) -> str:
            self.loop.block(seconds)
            return "answer"

        registry = Registry([waits, stubborn, fails, blocks], entry_points=False)
        options = EngineOptions(
            cancel_grace=10,
            heartbeat=15,
            max_attempts_in_flight=self.places,
            limits=self.limits,
            run=OPTIONS,
        )
        return LocalEngine(journal=self.journal, actions=registry, clock=self.loop.nanos, options=options)

    def start(self, *steps: Step, timeout: float | None = None, prompt: bool = True) -> None:
        """Start a run. If `prompt`, its events are committed soon after they are appended."""
        nanos = None if timeout is None else round(timeout * SECOND)
        workflow = Workflow(name="flow", steps=steps, timeout=nanos, failure_policy=FailurePolicy.FAIL_FAST)

        async def submit() -> None:
            if prompt:
                self.journal.commit_promptly()
            await self.engine.start(Submission(KEY, new_run(workflow, "null", OPTIONS), b""))

        self.loop.run(submit())
        self.loop.turn()

    def commit(self) -> None:
        """Commit all appended events, on the loop."""
        self.loop.call_soon(self.journal.commit)
        self.loop.turn()

    def cancel(self) -> None:
        self.loop.call_soon(self.engine.cancel, KEY, "enough")
        self.loop.turn()

    def release(self, step_id: str) -> None:
        self.releases[step_id].set()
        self.loop.turn()

    def watch(self, *kinds: Kind, after: int = 0) -> tuple[list[Batch], "asyncio.Task[None]"]:
        """Watch the run. Return the list of its batches, and the task that ends with the stream."""
        got: list[Batch] = []

        async def follow() -> None:
            async for batch in self.engine.watch(KEY, after, kinds):
                got.append(batch)  # noqa: PERF401 - tests read the list while it grows

        return got, self.loop.create_task(follow())

    def kinds(self) -> list[str]:
        """Return the kinds of the committed events."""
        return [str(event.WhichOneof("kind")) for event in self.journal.committed]

    def finished(self) -> run_pb2.StepResult:
        """Return the result of the only finished step."""
        (result,) = [event.step_finished.result for event in self.journal.committed if event.HasField("step_finished")]
        return result

    def last(self) -> RunEvent:
        return self.journal.committed[-1]


@pytest.fixture
def harness(loop: ClockedLoop) -> Iterator[EngineHarness]:
    harness = EngineHarness(loop)
    yield harness
    close(harness)


@pytest.fixture(params=[1])
def limited(loop: ClockedLoop, request: pytest.FixtureRequest) -> Iterator[EngineHarness]:
    """Return an engine with few places, and with limits of actions."""
    one = Bound(concurrency=1)
    paced = Limit(actions="fails", total=Bound(rate=Rate(count=1, per=60 * SECOND)))
    limits = (Limit(actions="waits", total=one), Limit(actions="stubborn", total=one), paced)
    harness = EngineHarness(loop, places=request.param, limits=limits)
    yield harness
    close(harness)


@pytest.fixture
def single_place(loop: ClockedLoop) -> Iterator[EngineHarness]:
    """Return an engine with one place."""
    harness = EngineHarness(loop, places=1)
    yield harness
    close(harness)


def close(harness: EngineHarness) -> None:
    for event in harness.releases.values():
        event.set()
    harness.loop.turn()
    harness.loop.run(harness.engine.close())


def test_an_attempts_timeout_counts_from_its_start(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits", timeout=5 * SECOND))
    harness.loop.advance(4.9)
    assert harness.log == ["a began"]
    harness.loop.advance(0.2)
    assert harness.log == ["a began", "a interrupted"]
    assert "run_finished" in harness.kinds()


@pytest.mark.parametrize(("seconds", "state"), [(5, run_pb2.STATE_SUCCEEDED), (6, run_pb2.STATE_FAILED)])
def test_an_answer_counts_until_the_deadline_even_if_the_loop_was_blocked(
    harness: EngineHarness, seconds: int, state: run_pb2.State.ValueType
) -> None:
    harness.start(Step("a", "blocks", input=f'{{"seconds": {seconds}}}', timeout=5 * SECOND))
    assert harness.finished().state == state


def test_an_answer_after_the_deadline_is_a_timeout_like_any_other(harness: EngineHarness) -> None:
    harness.start(Step("a", "blocks", input='{"seconds": 6}', timeout=5 * SECOND))
    failure = harness.finished().failure
    assert (failure.reason, failure.retryable) == (run_pb2.FAILURE_REASON_TIMEOUT, True)
    assert failure.message == "the attempt took longer than the step's timeout of 5 s"
    assert harness.engine.attempts_in_flight == 0


def test_an_answer_after_an_interruption_by_timeout_is_too_late(harness: EngineHarness) -> None:
    harness.start(Step("a", "stubborn", timeout=5 * SECOND))
    harness.loop.advance(6)
    harness.release("a")
    assert (harness.finished().failure.reason, harness.finished().abandoned) == (run_pb2.FAILURE_REASON_TIMEOUT, False)


def test_the_default_timeout_is_ten_minutes(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits"))
    harness.loop.advance(599)
    assert harness.log == ["a began"]
    harness.loop.advance(2)
    assert harness.log == ["a began", "a interrupted"]


def test_a_runs_timeout_counts_from_its_start(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits"), timeout=30)
    harness.loop.advance(29)
    assert "run_stopping" not in harness.kinds()
    harness.loop.advance(2)
    assert harness.kinds()[-1] == "run_finished"
    assert harness.last().run_finished.result.failures[0].message == "the run took longer than its timeout of 30 s"


def test_no_timer_runs_before_its_events_are_committed(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits", timeout=5 * SECOND), timeout=30, prompt=False)
    waiting = harness.journal.pending()
    harness.loop.advance(100)
    assert harness.journal.pending() == waiting
    assert harness.log == []


def test_a_deadline_that_passes_before_its_commit_fires_after_it(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits"), timeout=30, prompt=False)
    harness.loop.advance(100)
    harness.commit()
    harness.loop.advance(0.001)
    assert "run_stopping" in [event.WhichOneof("kind") for event in harness.journal.pending()]


def test_clean_up_within_the_grace_is_awaited(harness: EngineHarness) -> None:
    harness.start(Step("a", "stubborn"))
    harness.cancel()
    harness.loop.advance(9)
    assert "run_finished" not in harness.kinds()
    harness.release("a")
    assert harness.kinds()[-1] == "run_finished"


def test_an_attempt_is_abandoned_when_its_grace_is_over(harness: EngineHarness) -> None:
    harness.start(Step("a", "stubborn"))
    harness.cancel()
    harness.loop.advance(10.1)
    assert harness.kinds()[-1] == "run_finished"
    assert harness.finished().abandoned
    assert harness.engine.attempts_in_flight == 0


def test_a_second_cancel_does_not_prolong_the_grace(harness: EngineHarness) -> None:
    harness.start(Step("a", "stubborn"))
    harness.cancel()
    harness.loop.advance(6)
    harness.cancel()
    harness.loop.advance(4.1)
    assert harness.kinds()[-1] == "run_finished"
    assert harness.log == ["a goes on"]


def test_clean_up_steps_get_thirty_seconds_after_a_failure(harness: EngineHarness) -> None:
    tidy = Step("tidy", "waits", ("bad",), join=Join.ALL_DONE)
    harness.start(Step("bad", "fails"), Step("next", "waits", ("bad",)), tidy)
    harness.release("bad")
    harness.loop.advance(29)
    assert harness.log == ["tidy began"]
    harness.loop.advance(2)
    assert harness.log == ["tidy began", "tidy interrupted"]
    assert harness.kinds()[-1] == "run_finished"


def test_a_run_with_timeouts_that_ends_leaves_no_timer(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits", timeout=5 * SECOND), timeout=30)
    harness.release("a")
    kinds = harness.kinds()
    harness.loop.advance(1_000)
    assert harness.kinds() == kinds


def test_a_silent_watch_sends_heartbeats(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits"))
    got, task = harness.watch()
    harness.loop.advance(0)
    assert len(got) == 1
    harness.loop.advance(14.9)
    assert len(got) == 1
    for expected in (2, 3, 4):
        harness.loop.advance(15)
        assert len(got) == expected
        assert not pb.WatchRunResponse.FromString(got[-1].data).events
    harness.release("a")
    assert task.done()


def test_a_resumed_watch_starts_with_a_heartbeat(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits"))
    got, _ = harness.watch(after=len(harness.kinds()))
    harness.loop.turn()
    (heartbeat,) = [pb.WatchRunResponse.FromString(batch.data) for batch in got]
    assert (list(heartbeat.events), heartbeat.last_sequence) == ([], len(harness.kinds()))


def test_a_watch_with_frequent_events_sends_no_heartbeat(harness: EngineHarness) -> None:
    chain = [Step(f"s{i}", "waits", (f"s{i - 1}",) if i else ()) for i in range(5)]
    harness.start(*chain)
    got, task = harness.watch(Kind.STEP_STARTED)
    for spec in chain:
        harness.loop.advance(10)
        harness.release(spec.id)
    assert task.done()
    assert [batch.last for batch in got] == [False] * 5 + [True]


# Retries, fallbacks and admission.

POLICY = Retry(3, 10 * SECOND, jitter=0.0)
BLOCKS = Step("blocks", "blocks", input='{"seconds": 10}')
INSTEAD = FallbackAction("waits")


def test_a_backoff_lasts_as_long_as_the_policy_demands(harness: EngineHarness) -> None:
    harness.releases["a"].set()
    harness.start(Step("a", "fails", retry=POLICY))
    harness.loop.advance(9.9)
    assert harness.kinds()[-1] == "step_retrying"
    harness.loop.advance(0.2)
    assert harness.kinds()[-3:] == ["step_ready", "step_started", "step_retrying"]
    harness.loop.advance(20)
    assert harness.last().run_finished.result.state == run_pb2.STATE_FAILED


def test_a_backoff_begins_when_it_is_committed(harness: EngineHarness) -> None:
    harness.releases["a"].set()
    harness.start(Step("a", "fails", retry=POLICY), prompt=False)
    harness.commit()
    harness.loop.advance(60)
    assert harness.kinds()[-1] == "step_started"
    harness.commit()
    assert harness.kinds()[-1] == "step_retrying"
    harness.loop.turn()
    harness.commit()
    assert harness.kinds()[-2:] == ["step_ready", "step_started"]


def test_a_run_with_total_timeouts_that_ends_leaves_no_timer(harness: EngineHarness) -> None:
    harness.start(Step("a", "waits", total_timeout=60 * SECOND), Step("b", "waits", retry=POLICY))
    harness.release("a")
    harness.release("b")
    assert harness.last().HasField("run_finished")
    before = len(harness.kinds())
    harness.loop.advance(600)
    assert len(harness.kinds()) == before


def test_a_total_timeout_ends_a_step_that_waits_for_admission(single_place: EngineHarness) -> None:
    single_place.start(Step("a", "waits"), Step("b", "waits", total_timeout=5 * SECOND, allow_failure=True))
    single_place.loop.advance(5)
    assert single_place.finished().failure.message == "the step took longer than its total timeout of 5 s"
    single_place.release("a")
    assert single_place.log == ["a began"]
    assert single_place.engine.attempts_in_flight == 0


@pytest.mark.parametrize("fallback", [None, "1", INSTEAD])
def test_an_attempt_that_is_admitted_too_late_releases_its_place_or_hands_it_to_its_fallback(
    single_place: EngineHarness, fallback: str | FallbackAction | None
) -> None:
    late = Step("late", "waits", total_timeout=5 * SECOND, fallback=fallback, allow_failure=True)
    single_place.start(BLOCKS, late, Step("last", "waits"))
    assert single_place.log == (["late began"] if fallback is INSTEAD else ["last began"])
    assert single_place.engine.attempts_in_flight == 1
    single_place.release("late")
    assert single_place.log[-1] == "last began"
    assert single_place.engine.attempts_in_flight == 1
    single_place.release("last")
    assert single_place.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED
    assert single_place.engine.attempts_in_flight == 0


def test_a_fallback_waits_in_the_queue_like_the_attempt_that_it_replaces(single_place: EngineHarness) -> None:
    late = Step("late", "fails", total_timeout=5 * SECOND, fallback=INSTEAD)
    single_place.start(Step("a", "waits"), late)
    single_place.loop.advance(60)
    assert single_place.log == ["a began"]
    single_place.release("a")
    assert single_place.log == ["a began", "late began"]
    single_place.release("late")
    assert single_place.engine.attempts_in_flight == 0
    assert single_place.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED


def test_a_fallback_with_other_limits_takes_over_no_place(limited: EngineHarness) -> None:
    late = Step("late", "waits", total_timeout=5 * SECOND, fallback=FallbackAction("stubborn"))
    limited.start(BLOCKS, late, Step("last", "waits"))
    assert limited.log == ["last began"]
    assert limited.engine.attempts_in_flight == 1
    limited.release("late")
    limited.release("last")
    assert limited.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED
    in_flight = [it.in_flight for action in ("waits", "stubborn") for it in limited.engine.limits(action)]
    assert (limited.engine.attempts_in_flight, in_flight) == (0, [0, 0])


@pytest.mark.parametrize("limited", [2], indirect=True)
def test_an_attempt_that_is_admitted_when_its_fallback_replaces_it_does_not_start(limited: EngineHarness) -> None:
    late = Step("late", "fails", total_timeout=59 * SECOND, fallback=FallbackAction("stubborn"))
    limited.releases["first"].set()
    limited.start(Step("first", "fails", allow_failure=True), Step("blocking", "stubborn"), late)
    limited.loop.advance(60)  # both its total timeout and its turn by the rate
    assert limited.kinds().count("step_started") == 2
    in_flight = {it.actions: it.in_flight for action in ("fails", "stubborn") for it in limited.engine.limits(action)}
    assert (limited.engine.attempts_in_flight, in_flight) == (1, {"fails": 0, "stubborn": 1})
    limited.release("blocking")
    assert limited.kinds().count("step_started") == 3
    limited.release("late")
    assert limited.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED
    assert limited.engine.attempts_in_flight == 0


def test_attempts_that_wait_for_a_rate_start_when_it_allows_them(limited: EngineHarness) -> None:
    for step_id in "abc":
        limited.releases[step_id].set()
    limited.start(*[Step(step_id, "fails", allow_failure=True) for step_id in "abc"])
    starts = [limited.kinds().count("step_started")]
    for _ in range(4):
        limited.loop.advance(30)
        starts.append(limited.kinds().count("step_started"))
    assert starts == [1, 1, 2, 2, 3]
    assert limited.last().HasField("run_finished")


def test_a_cancel_ends_a_backoff_and_its_timer(harness: EngineHarness) -> None:
    harness.releases["a"].set()
    harness.start(Step("a", "fails", retry=POLICY))
    harness.cancel()
    assert harness.finished().state == run_pb2.STATE_CANCELLED
    assert harness.engine.attempts_in_flight == 0

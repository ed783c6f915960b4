"""The engine's timers, on a loop whose time the test moves: what counts from when, and what waits for its commit."""

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


class Bench:
    """An engine on a clocked loop.

    Attributes:
        log: What its actions did, in order.
    """

    def __init__(self, loop: ClockedLoop, *, places: int = 1_000, limits: tuple[Limit, ...] = ()) -> None:
        self.loop = loop
        self.places = places
        self.limits = limits
        self.log: list[str] = []
        self.gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.journal = SlowJournal()
        self.engine = loop.run(self._make())

    async def _make(self) -> LocalEngine:
        @action
        async def waits(context: Context) -> None:
            self.log.append(f"{context.step_id} began" + (" again" if context.attempt > 1 else ""))
            try:
                await self.gates[context.step_id].wait()
            except asyncio.CancelledError:
                self.log.append(f"{context.step_id} interrupted")
                raise

        @action
        async def stubborn(context: Context) -> None:
            while not self.gates[context.step_id].is_set():
                try:
                    await self.gates[context.step_id].wait()
                except asyncio.CancelledError:
                    self.log.append(f"{context.step_id} goes on")

        @action
        async def fails(context: Context) -> None:
            await self.gates[context.step_id].wait()
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
        """Start a run; `prompt`: its events are committed soon after they come."""
        nanos = None if timeout is None else round(timeout * SECOND)
        workflow = Workflow(name="flow", steps=steps, timeout=nanos, failure_policy=FailurePolicy.FAIL_FAST)

        async def submit() -> None:
            if prompt:
                self.journal.commit_promptly()
            await self.engine.start(Submission(KEY, new_run(workflow, "null", OPTIONS), b""))

        self.loop.run(submit())
        self.loop.turn()

    def commit(self) -> None:
        """Commit all that waits, on the loop."""
        self.loop.call_soon(self.journal.commit)
        self.loop.turn()

    def cancel(self) -> None:
        self.loop.call_soon(self.engine.cancel, KEY, "enough")
        self.loop.turn()

    def let(self, step_id: str) -> None:
        self.gates[step_id].set()
        self.loop.turn()

    def watch(self, *kinds: Kind, after: int = 0) -> tuple[list[Batch], "asyncio.Task[None]"]:
        """Watch the run; return where its batches go, and what ends with the stream."""
        got: list[Batch] = []

        async def follow() -> None:
            async for batch in self.engine.watch(KEY, after, kinds):
                got.append(batch)  # noqa: PERF401 - each is looked at as it comes

        return got, self.loop.create_task(follow())

    def kinds(self) -> list[str]:
        """Return the kinds of the committed events."""
        return [str(event.WhichOneof("kind")) for event in self.journal.committed]

    def finished(self) -> run_pb2.StepResult:
        """Return what the only step came to."""
        (result,) = [event.step_finished.result for event in self.journal.committed if event.HasField("step_finished")]
        return result

    def last(self) -> RunEvent:
        return self.journal.committed[-1]


@pytest.fixture
def bench(loop: ClockedLoop) -> Iterator[Bench]:
    bench = Bench(loop)
    yield bench
    close(bench)


@pytest.fixture(params=[1])
def limited(loop: ClockedLoop, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Give an engine with few places, and actions with limits of their own."""
    one = Bound(concurrency=1)
    paced = Limit(actions="fails", total=Bound(rate=Rate(count=1, per=60 * SECOND)))
    limits = (Limit(actions="waits", total=one), Limit(actions="stubborn", total=one), paced)
    bench = Bench(loop, places=request.param, limits=limits)
    yield bench
    close(bench)


@pytest.fixture
def narrow(loop: ClockedLoop) -> Iterator[Bench]:
    """Give an engine in which one attempt may be in flight."""
    bench = Bench(loop, places=1)
    yield bench
    close(bench)


def close(bench: Bench) -> None:
    for gate in bench.gates.values():
        gate.set()
    bench.loop.turn()
    bench.loop.run(bench.engine.close())


def test_an_attempts_timeout_counts_from_its_start(bench: Bench) -> None:
    bench.start(Step("a", "waits", timeout=5 * SECOND))
    bench.loop.advance(4.9)
    assert bench.log == ["a began"]
    bench.loop.advance(0.2)
    assert bench.log == ["a began", "a interrupted"]
    assert "run_finished" in bench.kinds()


@pytest.mark.parametrize(("seconds", "state"), [(5, run_pb2.STATE_SUCCEEDED), (6, run_pb2.STATE_FAILED)])
def test_an_answer_counts_until_the_deadline_though_the_loop_was_blocked(
    bench: Bench, seconds: int, state: run_pb2.State.ValueType
) -> None:
    bench.start(Step("a", "blocks", input=f'{{"seconds": {seconds}}}', timeout=5 * SECOND))
    assert bench.finished().state == state


def test_an_answer_after_the_deadline_is_a_timeout_like_any_other(bench: Bench) -> None:
    bench.start(Step("a", "blocks", input='{"seconds": 6}', timeout=5 * SECOND))
    failure = bench.finished().failure
    assert (failure.reason, failure.retryable) == (run_pb2.FAILURE_REASON_TIMEOUT, True)
    assert failure.message == "the attempt took longer than the step's timeout of 5 s"
    assert bench.engine.attempts_in_flight == 0


def test_an_answer_in_spite_of_a_timeout_comes_too_late(bench: Bench) -> None:
    bench.start(Step("a", "stubborn", timeout=5 * SECOND))
    bench.loop.advance(6)
    bench.let("a")
    assert (bench.finished().failure.reason, bench.finished().abandoned) == (run_pb2.FAILURE_REASON_TIMEOUT, False)


def test_the_default_timeout_is_ten_minutes(bench: Bench) -> None:
    bench.start(Step("a", "waits"))
    bench.loop.advance(599)
    assert bench.log == ["a began"]
    bench.loop.advance(2)
    assert bench.log == ["a began", "a interrupted"]


def test_a_runs_timeout_counts_from_its_start(bench: Bench) -> None:
    bench.start(Step("a", "waits"), timeout=30)
    bench.loop.advance(29)
    assert "run_stopping" not in bench.kinds()
    bench.loop.advance(2)
    assert bench.kinds()[-1] == "run_finished"
    assert bench.last().run_finished.result.failures[0].message == "the run took longer than its timeout of 30 s"


def test_no_timer_runs_before_its_events_are_committed(bench: Bench) -> None:
    bench.start(Step("a", "waits", timeout=5 * SECOND), timeout=30, prompt=False)
    waiting = bench.journal.pending()
    bench.loop.advance(100)
    assert bench.journal.pending() == waiting
    assert bench.log == []


def test_a_deadline_that_passed_while_its_commit_was_awaited_has_passed(bench: Bench) -> None:
    bench.start(Step("a", "waits"), timeout=30, prompt=False)
    bench.loop.advance(100)
    bench.commit()
    bench.loop.advance(0.001)
    assert "run_stopping" in [event.WhichOneof("kind") for event in bench.journal.pending()]


def test_clean_up_that_ends_within_the_grace_is_awaited(bench: Bench) -> None:
    bench.start(Step("a", "stubborn"))
    bench.cancel()
    bench.loop.advance(9)
    assert "run_finished" not in bench.kinds()
    bench.let("a")
    assert bench.kinds()[-1] == "run_finished"


def test_an_attempt_is_abandoned_when_its_grace_is_over(bench: Bench) -> None:
    bench.start(Step("a", "stubborn"))
    bench.cancel()
    bench.loop.advance(10.1)
    assert bench.kinds()[-1] == "run_finished"
    assert bench.finished().abandoned
    assert bench.engine.attempts_in_flight == 0


def test_a_second_cancel_does_not_prolong_the_grace(bench: Bench) -> None:
    bench.start(Step("a", "stubborn"))
    bench.cancel()
    bench.loop.advance(6)
    bench.cancel()
    bench.loop.advance(4.1)
    assert bench.kinds()[-1] == "run_finished"
    assert bench.log == ["a goes on"]


def test_clean_up_steps_get_thirty_seconds_after_a_failure(bench: Bench) -> None:
    tidy = Step("tidy", "waits", ("bad",), join=Join.ALL_DONE)
    bench.start(Step("bad", "fails"), Step("next", "waits", ("bad",)), tidy)
    bench.let("bad")
    bench.loop.advance(29)
    assert bench.log == ["tidy began"]
    bench.loop.advance(2)
    assert bench.log == ["tidy began", "tidy interrupted"]
    assert bench.kinds()[-1] == "run_finished"


def test_a_run_that_ends_leaves_no_timer(bench: Bench) -> None:
    bench.start(Step("a", "waits", timeout=5 * SECOND), timeout=30)
    bench.let("a")
    told = bench.kinds()
    bench.loop.advance(1_000)
    assert bench.kinds() == told


def test_a_watch_gives_a_sign_of_life_when_it_was_silent_for_so_long(bench: Bench) -> None:
    bench.start(Step("a", "waits"))
    got, task = bench.watch()
    bench.loop.advance(0)
    assert len(got) == 1
    bench.loop.advance(14.9)
    assert len(got) == 1
    for expected in (2, 3, 4):
        bench.loop.advance(15)
        assert len(got) == expected
        assert not pb.WatchRunResponse.FromString(got[-1].data).events
    bench.let("a")
    assert task.done()


def test_a_watch_that_resumes_hears_at_once_that_it_goes_on(bench: Bench) -> None:
    bench.start(Step("a", "waits"))
    got, _ = bench.watch(after=len(bench.kinds()))
    bench.loop.turn()
    (sign,) = [pb.WatchRunResponse.FromString(batch.data) for batch in got]
    assert (list(sign.events), sign.last_sequence) == ([], len(bench.kinds()))


def test_a_watch_that_hears_enough_needs_no_sign_of_life(bench: Bench) -> None:
    chain = [Step(f"s{i}", "waits", (f"s{i - 1}",) if i else ()) for i in range(5)]
    bench.start(*chain)
    got, task = bench.watch(Kind.STEP_STARTED)
    for spec in chain:
        bench.loop.advance(10)
        bench.let(spec.id)
    assert task.done()
    assert [batch.last for batch in got] == [False] * 5 + [True]


# What follows a failure.

POLICY = Retry(3, 10 * SECOND, jitter=0.0)
BLOCKS = Step("blocks", "blocks", input='{"seconds": 10}')
INSTEAD = FallbackAction("waits")


def test_a_pause_lasts_as_long_as_it_was_told(bench: Bench) -> None:
    bench.gates["a"].set()
    bench.start(Step("a", "fails", retry=POLICY))
    bench.loop.advance(9.9)
    assert bench.kinds()[-1] == "step_retrying"
    bench.loop.advance(0.2)
    assert bench.kinds()[-3:] == ["step_ready", "step_started", "step_retrying"]
    bench.loop.advance(20)
    assert bench.last().run_finished.result.state == run_pb2.STATE_FAILED


def test_a_pause_begins_only_when_it_is_committed(bench: Bench) -> None:
    bench.gates["a"].set()
    bench.start(Step("a", "fails", retry=POLICY), prompt=False)
    bench.commit()
    bench.loop.advance(60)
    assert bench.kinds()[-1] == "step_started"
    bench.commit()
    assert bench.kinds()[-1] == "step_retrying"
    bench.loop.turn()
    bench.commit()
    assert bench.kinds()[-2:] == ["step_ready", "step_started"]


def test_a_run_that_ended_leaves_no_timer(bench: Bench) -> None:
    bench.start(Step("a", "waits", total_timeout=60 * SECOND), Step("b", "waits", retry=POLICY))
    bench.let("a")
    bench.let("b")
    assert bench.last().HasField("run_finished")
    before = len(bench.kinds())
    bench.loop.advance(600)
    assert len(bench.kinds()) == before


def test_a_total_timeout_ends_what_waits_for_admission(narrow: Bench) -> None:
    narrow.start(Step("a", "waits"), Step("b", "waits", total_timeout=5 * SECOND, allow_failure=True))
    narrow.loop.advance(5)
    assert narrow.finished().failure.message == "the step took longer than its total timeout of 5 s"
    narrow.let("a")
    assert narrow.log == ["a began"]
    assert narrow.engine.attempts_in_flight == 0


@pytest.mark.parametrize("fallback", [None, "1", INSTEAD])
def test_an_attempt_that_is_let_in_too_late_gives_its_place_back_or_to_its_fallback(
    narrow: Bench, fallback: str | FallbackAction | None
) -> None:
    late = Step("late", "waits", total_timeout=5 * SECOND, fallback=fallback, allow_failure=True)
    narrow.start(BLOCKS, late, Step("last", "waits"))
    assert narrow.log == (["late began"] if fallback is INSTEAD else ["last began"])
    assert narrow.engine.attempts_in_flight == 1
    narrow.let("late")
    assert narrow.log[-1] == "last began"
    assert narrow.engine.attempts_in_flight == 1
    narrow.let("last")
    assert narrow.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED
    assert narrow.engine.attempts_in_flight == 0


def test_a_fallback_waits_in_the_queue_for_the_attempt_that_it_replaces(narrow: Bench) -> None:
    late = Step("late", "fails", total_timeout=5 * SECOND, fallback=INSTEAD)
    narrow.start(Step("a", "waits"), late)
    narrow.loop.advance(60)
    assert narrow.log == ["a began"]
    narrow.let("a")
    assert narrow.log == ["a began", "late began"]
    narrow.let("late")
    assert narrow.engine.attempts_in_flight == 0
    assert narrow.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED


def test_a_fallback_of_other_limits_starts_with_no_place_of_the_attempt_that_it_replaces(limited: Bench) -> None:
    late = Step("late", "waits", total_timeout=5 * SECOND, fallback=FallbackAction("stubborn"))
    limited.start(BLOCKS, late, Step("last", "waits"))
    assert limited.log == ["last began"]
    assert limited.engine.attempts_in_flight == 1
    limited.let("late")
    limited.let("last")
    assert limited.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED
    in_flight = [it.in_flight for action in ("waits", "stubborn") for it in limited.engine.limits(action)]
    assert (limited.engine.attempts_in_flight, in_flight) == (0, [0, 0])


@pytest.mark.parametrize("limited", [2], indirect=True)
def test_an_attempt_that_is_let_in_just_as_its_fallback_comes_starts_nothing(limited: Bench) -> None:
    late = Step("late", "fails", total_timeout=59 * SECOND, fallback=FallbackAction("stubborn"))
    limited.gates["first"].set()
    limited.start(Step("first", "fails", allow_failure=True), Step("holds", "stubborn"), late)
    limited.loop.advance(60)  # both its total timeout and its turn by the rate
    assert limited.kinds().count("step_started") == 2
    in_flight = {it.actions: it.in_flight for action in ("fails", "stubborn") for it in limited.engine.limits(action)}
    assert (limited.engine.attempts_in_flight, in_flight) == (1, {"fails": 0, "stubborn": 1})
    limited.let("holds")
    assert limited.kinds().count("step_started") == 3
    limited.let("late")
    assert limited.last().run_finished.result.state == run_pb2.STATE_SUCCEEDED
    assert limited.engine.attempts_in_flight == 0


def test_what_a_rate_holds_up_starts_when_its_time_has_come(limited: Bench) -> None:
    for step_id in "abc":
        limited.gates[step_id].set()
    limited.start(*[Step(step_id, "fails", allow_failure=True) for step_id in "abc"])
    starts = [limited.kinds().count("step_started")]
    for _ in range(4):
        limited.loop.advance(30)
        starts.append(limited.kinds().count("step_started"))
    assert starts == [1, 1, 2, 2, 3]
    assert limited.last().HasField("run_finished")


def test_a_cancel_ends_a_pause_and_its_timer(bench: Bench) -> None:
    bench.gates["a"].set()
    bench.start(Step("a", "fails", retry=POLICY))
    bench.cancel()
    assert bench.finished().state == run_pb2.STATE_CANCELLED
    assert bench.engine.attempts_in_flight == 0

"""The work for large graphs grows with their steps and edges: no rescans, no recursion."""

import sys
from collections import deque
from collections.abc import Callable, Sequence

import pytest

from stepwave_server.core.decide import Decision, decide
from stepwave_server.core.evolve import fold, new_run
from stepwave_server.core.messages import (
    AddSteps,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Input,
    Started,
    StepFinished,
)
from stepwave_server.core.model import Failure, Join, Reason, State, Step, Workflow
from stepwave_server.core.state import RunOptions
from stepwave_server.core.validate import Limits, validate
from unit.server.core.build import flow, step
from unit.server.core.driver import EVALUATOR, NOON
from unit.server.core.effort import effort

FAILURE = Failure(Reason.ACTION_ERROR, "broke")


class BareRun:
    """A run without any bookkeeping, so that only the core is measured."""

    def __init__(self, workflow: Workflow, *, is_open: bool = False) -> None:
        self.state = new_run(workflow, options=RunOptions(open=is_open))
        self.decision = Decision()
        self.invoked: deque[str] = deque()
        self.feed(Started())

    def feed(self, given: Input) -> None:
        decide(self.state, given, NOON, EVALUATOR, self.decision)
        self.invoked += (request.step_id for request in self.decision.requests)
        self.decision.requests.clear()

    def start(self) -> str:
        step_id = self.invoked.popleft()
        self.feed(AttemptStarted(step_id, 1))
        return step_id

    def finish(self) -> None:
        while self.invoked:
            self.feed(AttemptSucceeded(self.start(), 1, "1"))
        assert self.state.finished is not None


def run_through(workflow: Workflow) -> BareRun:
    run = BareRun(workflow)
    run.finish()
    return run


# Graphs of about `count` steps.


def chain(count: int) -> list[Step]:
    return [step("s0"), *(step(f"s{n}", f"s{n - 1}") for n in range(1, count))]


def chain_declared_backwards(count: int) -> list[Step]:
    return chain(count)[::-1]


def fan_out(count: int) -> list[Step]:
    return [step("root"), *(step(f"s{n}", "root") for n in range(count))]


def fan_in(count: int) -> list[Step]:
    return [*(step(f"s{n}") for n in range(count)), step("end", *(f"s{n}" for n in range(count)))]


def race(count: int) -> list[Step]:
    return [*(step(f"s{n}") for n in range(count)), step("end", *(f"s{n}" for n in range(count)), join=Join.ANY)]


def ladder(count: int) -> list[Step]:
    return [step(f"s{n}", *(f"s{n - back}" for back in (1, 2, 3) if n >= back)) for n in range(count)]


def cleaned_up(count: int) -> list[Step]:
    """Return steps, each with a clean-up step of its own."""
    steps = [step("s0"), *(step(f"s{n}", "s0") for n in range(1, count))]
    return [*steps, *(step(f"c{n}", f"s{n}", join=Join.ALL_DONE) for n in range(count))]


def listed(count: int) -> list[Step]:
    """Return a list of so many items, and a step after it."""
    return [step("s0", over=items(count)), step("end", "s0")]


def listed_few_at_once(count: int) -> list[Step]:
    return [step("s0", over=items(count), at_once=3), step("end", "s0")]


def listed_workflows(count: int) -> list[Step]:
    body = flow(step("a"), step("b", "a"))
    return [step("s0", over=items(count // 4), body=body, at_once=3), step("end", "s0")]


def nested(count: int) -> list[Step]:
    return [step("s0", body=flow(*ladder(count), max_parallelism=3)), step("end", "s0")]


def items(count: int) -> str:
    return f"[{','.join(map(str, range(count)))}]"


Shape = Callable[[int], Sequence[Step]]
GROWING = [listed, listed_few_at_once, listed_workflows, nested]
each_shape = pytest.mark.parametrize(
    "shape", [chain, chain_declared_backwards, fan_out, fan_in, race, ladder, cleaned_up, *GROWING]
)


def assert_linear(work: Callable[[int], object]) -> None:
    """Check that four times the input takes at most about four times the work."""
    few, many = effort(lambda: work(60)), effort(lambda: work(240))
    assert many < 4.6 * few


@each_shape
@pytest.mark.parametrize("by_waves", [False, True])
def test_running_takes_work_for_steps_and_edges_alone(shape: Shape, by_waves: bool) -> None:
    assert_linear(lambda count: run_through(flow(*shape(count), by_waves=by_waves)))


@each_shape
def test_few_places_take_no_more_work_than_many(shape: Shape) -> None:
    assert_linear(lambda count: run_through(flow(*shape(count), max_parallelism=3)))


@each_shape
@pytest.mark.parametrize("go_on", [False, True])
def test_failing_takes_work_for_steps_and_edges_alone(shape: Shape, go_on: bool) -> None:
    def fail_first(count: int) -> None:
        run = BareRun(flow(*shape(count), go_on=go_on))
        run.feed(AttemptFailed(run.start(), 1, FAILURE))
        run.finish()

    assert_linear(fail_first)


@each_shape
def test_cancelling_takes_work_for_steps_and_edges_alone(shape: Shape) -> None:
    def cancel_all(count: int) -> None:
        run = BareRun(flow(*shape(count)))
        started = [run.start() for _ in range(len(run.invoked))]
        run.feed(CancelRequested())
        for step_id in started:
            run.feed(AttemptSucceeded(step_id, 1, "1"))
        assert run.state.finished is State.CANCELLED

    assert_linear(cancel_all)


@each_shape
def test_validating_takes_work_for_steps_and_edges_alone(shape: Shape) -> None:
    assert_linear(lambda count: validate(flow(*shape(count)), Limits()))


def test_naming_a_cycle_takes_work_for_steps_and_edges_alone() -> None:
    assert_linear(lambda count: validate(flow(step("s0", f"s{count - 1}"), *chain(count)[1:]), Limits()))


@each_shape
@pytest.mark.parametrize("backwards", [False, True])
def test_adding_steps_one_by_one_takes_work_for_steps_and_edges_alone(shape: Shape, backwards: bool) -> None:
    def add_all(count: int) -> None:
        run = BareRun(flow(), is_open=True)
        for one in reversed(shape(count)) if backwards else shape(count):
            run.feed(AddSteps((one,)))
        run.feed(AddSteps((), seal=True))
        run.finish()

    assert_linear(add_all)


@each_shape
def test_folding_takes_work_for_steps_and_edges_alone(shape: Shape) -> None:
    def fold_all(count: int) -> int:
        workflow = flow(*shape(count))
        events = run_through(workflow).decision.events
        return effort(lambda: fold(new_run(workflow), events))

    assert fold_all(240) < 4.6 * fold_all(60)


# Whole.


def test_a_chain_of_20000_steps_runs_in_20000_waves() -> None:
    assert sys.getrecursionlimit() < 20_000
    workflow = flow(*chain(20_000))
    assert validate(workflow, Limits()) == []
    run = run_through(workflow)
    assert run.state.finished is State.SUCCEEDED
    assert len(run.decision.events) == 2 + 4 * 20_000


def test_a_fan_out_of_100000_steps_runs() -> None:
    workflow = flow(*fan_out(100_000))
    assert validate(workflow, Limits()) == []
    run = run_through(workflow)
    assert run.state.finished is State.SUCCEEDED
    assert run.state.counts[State.SUCCEEDED - 1] == 100_001


def test_a_chain_of_20000_steps_is_skipped_at_once() -> None:
    run = BareRun(flow(*chain(20_000), go_on=True))
    run.feed(AttemptFailed(run.start(), 1, FAILURE))
    assert run.state.finished is State.FAILED
    culprits = {event.skip.step_id for event in run.decision.events if isinstance(event, StepFinished) and event.skip}
    assert culprits == {"s0"}


def test_a_chain_of_20000_steps_may_be_declared_backwards() -> None:
    workflow = flow(*chain_declared_backwards(20_000))
    assert validate(workflow, Limits()) == []
    assert new_run(workflow).steps["s19999"].wave == 19_999


def test_a_cycle_of_20000_steps_is_named() -> None:
    (problem,) = validate(flow(step("s0", "s19999"), *chain(20_000)[1:]), Limits())
    assert problem.description.count("→") == 20_000

"""Large runs and plans of many events replay, in linear time."""

import sys

import pytest

from stepwave_server.core.messages import (
    AddSteps,
    AttemptStarted,
    AttemptSucceeded,
    RunStarted,
    Started,
    StepsAdded,
)
from stepwave_server.core.model import (
    MAX_MESSAGE_CONTENT,
    SECOND,
    Binding,
    State,
    Step,
    Workflow,
)
from stepwave_server.core.replay import replay
from unit.server.core.build import NOWHERE, flow, step
from unit.server.core.driver import EVALUATOR, Drive
from unit.server.core.effort import effort
from unit.server.core.replays import assert_replays


def long_step(number: int, *depends_on: str) -> Step:
    return step(f"{number:05}".rjust(120, "s"), *depends_on, payload=f'"{"x" * 400}"')


def test_a_large_addition_replays() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True, checked=False)
    first = long_step(0)
    steps = [step("b", bindings=(NOWHERE,)), first, *(long_step(number, first.id) for number in range(1, 10_000))]
    drive.feed(AddSteps(tuple(steps), seal=True))
    assert len(drive.of(StepsAdded)) > 6
    assert drive.state("b") is State.FAILED
    assert_replays(drive)


def test_additions_at_the_same_time_replay_each_for_itself() -> None:
    drive = Drive.begun(flow(), is_open=True, checked=False)
    drive.feed(AddSteps((step("a"),)))
    drive.feed(AddSteps((step("b"), step("c"))))
    drive.feed(AddSteps((), seal=True))
    assert_replays(drive)


@pytest.mark.parametrize("later", [0, SECOND])
@pytest.mark.parametrize("bindings", [(), (NOWHERE,)])
def test_an_addition_that_fills_its_part_replays_with_the_next(bindings: tuple[Binding, ...], later: int) -> None:
    drive = Drive.begun(flow(go_on=True), is_open=True, checked=False)
    large = f'"{"x" * 600_000}"'
    drive.feed(AddSteps((step("a", payload=large), step("b", bindings=bindings))))
    drive.now += later
    drive.feed(AddSteps((step("c", payload=large), step("d", "b")), seal=True))
    assert len(drive.of(StepsAdded)) == 2
    assert_replays(drive)


def waited_for(count: int, *added: Step, seal: bool) -> Drive:
    """Return a run in which long steps get their wave by a short one, `late`, that is added afterwards."""
    drive = Drive.begun(flow(go_on=True), is_open=True, checked=False)
    drive.feed(AddSteps(tuple(step(f"{number:05}".rjust(124, "s"), "late") for number in range(count))))
    drive.feed(AddSteps(added, seal=seal))
    if not seal:
        drive.feed(AddSteps((), seal=True))
    return drive


@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.parametrize("count", [MAX_MESSAGE_CONTENT // 128, 9_000])
def test_an_addition_whose_waves_need_several_parts_replays(count: int, seal: bool) -> None:
    """With the smaller number, the first part is full, and the second has nothing left to tell."""
    drive = waited_for(count, step("late"), seal=seal)
    ends = [(bool(event.waves), event.sealed) for event in drive.of(StepsAdded) if not event.steps]
    assert ends == [(count == 9_000, seal)] + [(False, True)] * (not seal)
    assert_replays(drive)


def test_an_addition_whose_parts_and_waves_are_many_replays() -> None:
    large = f'"{"x" * 600_000}"'
    added = step("late", payload=large), step("b", bindings=(NOWHERE,)), step("c", payload=large)
    drive = waited_for(9_000, *added, seal=True)
    assert [len(event.steps) for event in drive.of(StepsAdded)][-3:] == [2, 0, 1]
    assert_replays(drive)


def test_a_plan_of_several_events_replays() -> None:
    steps = [step(f"{number:05}".rjust(120, "s")) for number in range(20_000)]
    drive = Drive(flow(*steps), checked=False)
    drive.feed(Started(tuple((one.id, "1") for one in steps[:10_000]), "the-first"))
    assert len(drive.of(RunStarted)) == 3
    assert_replays(drive)


def chain(count: int) -> Workflow:
    return flow(step("s0"), *(step(f"s{n}", f"s{n - 1}") for n in range(1, count)))


def played(workflow: Workflow) -> Drive:
    drive = Drive.begun(workflow, checked=False)
    for one in workflow.steps:
        drive.feed(AttemptStarted(one.id, 1))
        drive.feed(AttemptSucceeded(one.id, 1, "1"))
    return drive


def test_a_chain_of_20000_steps_replays() -> None:
    assert sys.getrecursionlimit() < 20_000
    drive = played(chain(20_000))
    run = replay(drive.new_run(), iter(drive.events), EVALUATOR)
    assert (run.sequence, run.finished) == (len(drive.events), drive.run.finished)


def test_replaying_takes_work_for_events_alone() -> None:
    def work(count: int) -> int:
        drive = played(chain(count))
        return effort(lambda: replay(drive.new_run(), drive.events, EVALUATOR))

    assert work(240) < 4.6 * work(60)

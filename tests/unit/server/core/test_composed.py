"""A graph that is added in any order and in any parts ends as the same graph in one workflow."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from stepwave_server.core.model import Failure, Join, Payload, Skip, State, Step
from unit.server.core.build import flow, step
from unit.server.core.driver import Drive
from unit.server.core.replays import assert_replays
from unit.server.core.strategies import batches, soak

MOST = 9


class Outcome(NamedTuple):
    """What became of a step."""

    state: State
    output: Payload | None
    failure: Failure | None
    skip: Skip | None
    wave: int


@st.composite
def graphs(draw: st.DrawFn) -> list[Step]:
    """Draw the steps of a graph without `ANY`: which dependency answers first would decide there."""
    order = draw(st.permutations([f"s{place}" for place in range(draw(st.integers(1, MOST)))]))
    steps = []
    for place, step_id in enumerate(order):
        deps = draw(st.lists(st.sampled_from(order[:place]), max_size=4, unique=True)) if place else []
        join = draw(st.sampled_from([Join.ALL, Join.ALL, Join.ALL_DONE]))
        steps.append(step(step_id, *deps, join=join, allow_failure=draw(st.integers(0, 3)) == 3))
    return steps


def act(drive: Drive, failing: set[str], data: st.DataObject) -> None:
    """End the attempt of one step that may run, in any order."""
    step_id = data.draw(st.sampled_from(sorted(drive.waiting())))
    if step_id in failing:
        drive.fail(step_id)
    else:
        drive.succeed(step_id, f'"{step_id}"')


def outcomes(drive: Drive) -> dict[str, Outcome]:
    """Return what became of each step. Of several failed dependencies, any may be the one that is blamed."""
    found = {}
    for step_id in drive.run.steps:
        end = drive.finished(step_id)
        skip = None if end.skip is None else Skip(end.skip.cause)
        found[step_id] = Outcome(end.state, end.output, end.failure, skip, end.wave)
    return found


@soak(100)
@given(graphs(), st.data())
def test_any_graph_ends_the_same_whether_it_is_added_in_parts_or_sent_at_once(
    steps: list[Step], data: st.DataObject
) -> None:
    failing = set(data.draw(st.lists(st.sampled_from([step.id for step in steps]), unique=True)))
    whole = Drive.begun(flow(*sorted(steps, key=lambda step: step.id), go_on=True))
    while whole.waiting():
        act(whole, failing, data)

    parts = data.draw(batches(steps))
    first = parts.pop(0) if data.draw(st.booleans()) else ()
    composed = Drive.begun(flow(*first, go_on=True), is_open=True)
    while composed.run.finished is None:
        if composed.waiting() and (not composed.run.open or data.draw(st.booleans())):
            act(composed, failing, data)
        elif parts:
            last = len(parts) == 1
            composed.add(*parts.pop(0), seal=last and data.draw(st.booleans()))
        else:
            composed.add(seal=True)

    assert outcomes(composed) == outcomes(whole)
    ours, expected = composed.result(), whole.result()
    assert (ours.state, sorted(ours.outputs), ours.counts) == (
        expected.state,
        sorted(expected.outputs),
        expected.counts,
    )
    assert_replays(composed)

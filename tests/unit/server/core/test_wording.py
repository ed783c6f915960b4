"""Messages are prose: no decision and no replay depends on their words."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave_server.core.messages import RunStopping
from stepwave_server.core.model import Workflow
from stepwave_server.core.replay import replay
from unit.server.core.build import flow, step
from unit.server.core.driver import EVALUATOR, Drive
from unit.server.core.replays import assert_replays, begun, diverged, walk
from unit.server.core.strategies import soak, workflows
from unit.server.core.wording import REWORDED, OtherWords, as_recorded_early, reworded


@soak(150)
@given(workflows(), st.data())
def test_a_run_whose_messages_are_all_reworded_replays(workflow: Workflow, data: st.DataObject) -> None:
    with reworded():
        assert_replays(walk(begun(workflow, data), data))


@soak(200)
@given(workflows(), st.data())
def test_a_run_replays_after_every_message_was_reworded(workflow: Workflow, data: st.DataObject) -> None:
    drive = walk(begun(workflow, data), data)
    with reworded():
        replay(drive.new_run(), drive.events, OtherWords(EVALUATOR))


@soak(200)
@given(workflows(), st.data())
def test_a_run_of_version_0_1_0_replays_after_every_message_was_reworded(
    workflow: Workflow, data: st.DataObject
) -> None:
    drive = walk(begun(workflow, data), data)
    with reworded():
        replay(drive.new_run(), map(as_recorded_early, drive.events), OtherWords(EVALUATOR))


@pytest.mark.parametrize("reason", ["", "enough", "cancelled", ": odd\nlines", "cancelled: twice"])
def test_the_reason_of_a_cancel_request_is_data(reason: str) -> None:
    drive = Drive.begun(flow(step("a")))
    with reworded():
        drive.cancel(reason)
    (event,) = drive.of(RunStopping)
    assert (event.failure.message, event.cancel_reason) == (REWORDED, reason)
    assert replay(drive.new_run(), drive.events, EVALUATOR).sequence == len(drive.events)


def test_the_words_of_an_action_are_compared() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.fail("a")
    end = drive.result()
    changed = replace(end, failures=(replace(end.failures[0], message=REWORDED),))
    assert diverged(drive, [*drive.events[:-1], changed]).expected == changed

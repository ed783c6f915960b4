"""The result of a run, within the size of one message."""

from stepwave_server.core.info import RunInfo, RunKey, info_of
from stepwave_server.core.messages import AttemptFailed
from stepwave_server.core.model import MAX_MESSAGE_CONTENT, Blob, Failure, Join, Payload, Reason, State
from stepwave_server.core.result import MAX_OMITTED
from unit.server.core.build import flow, step
from unit.server.core.driver import NOON, Drive

KEY = RunKey("default", "flow-1")


def outputs(drive: Drive) -> dict[str, Payload]:
    return dict(drive.result().outputs)


def test_the_outputs_are_those_of_steps_that_nothing_depends_on() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a"), step("c")))
    drive.finish()
    assert outputs(drive) == {"b": "1", "c": "1"}


def test_the_outputs_come_in_declaration_order() -> None:
    drive = Drive.begun(flow(step("b"), step("a")))
    drive.succeed("a")
    drive.succeed("b")
    assert list(outputs(drive)) == ["b", "a"]


def test_named_outputs_are_those_of_the_steps_named() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a"), step("c"), outputs=("c", "a")))
    drive.finish()
    assert list(outputs(drive)) == ["c", "a"]


def test_a_step_that_did_not_succeed_has_no_output() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), outputs=("a", "b"), go_on=True))
    drive.succeed("a")
    drive.fail("b")
    assert outputs(drive) == {"a": "1"}


def test_an_output_of_null_is_an_output() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.succeed("a", "null")
    assert outputs(drive) == {"a": "null"}


def test_outputs_over_the_bound_are_left_out_and_named() -> None:
    big = "9" * (MAX_MESSAGE_CONTENT // 2)
    drive = Drive.begun(flow(step("a"), step("b"), step("c"), step("d")))
    for step_id, output in (("a", big), ("b", big), ("c", "1"), ("d", Blob("image/png", b"9" * MAX_MESSAGE_CONTENT))):
        drive.succeed(step_id, output)
    result = drive.result()
    assert list(outputs(drive)) == ["a", "c"]
    assert (result.omitted, result.omitted_count) == (("b", "d"), 2)


def test_outputs_just_within_the_bound_are_all_there() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.succeed("a", "9" * (MAX_MESSAGE_CONTENT - len("a")))
    assert drive.result().omitted_count == 0


def test_the_size_of_an_output_is_that_of_its_bytes() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.succeed("a", '"' + "é" * (MAX_MESSAGE_CONTENT // 2) + '"')
    assert drive.result().omitted == ("a",)


def test_of_outputs_left_out_the_first_are_named_and_all_are_counted() -> None:
    count = MAX_OMITTED + 5
    drive = Drive.begun(flow(*(step(f"s{n}") for n in range(count))), checked=False)
    big = "9" * (MAX_MESSAGE_CONTENT + 1)
    for n in range(count):
        drive.succeed(f"s{n}", big)
    result = drive.result()
    assert result.omitted == tuple(f"s{n}" for n in range(MAX_OMITTED))
    assert (result.omitted_count, result.outputs) == (count, ())


def test_the_first_hundred_failures_are_listed_and_all_are_counted() -> None:
    drive = Drive.begun(flow(*(step(f"s{n}") for n in range(105)), go_on=True), checked=False)
    for n in reversed(range(105)):
        drive.fail(f"s{n}")
    result = drive.result()
    assert [failure.step_id for failure in result.failures] == [f"s{n}" for n in range(104, 4, -1)]
    assert result.failure_count == 105


def test_failures_are_listed_as_far_as_they_fit() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c"), go_on=True))
    for step_id in "abc":
        drive.start(step_id)
        details = (("traceback", "x" * (MAX_MESSAGE_CONTENT // 2)),)
        drive.feed(AttemptFailed(step_id, 1, Failure(Reason.ACTION_ERROR, "", step_id=step_id, details=details)))
    result = drive.result()
    assert [failure.step_id for failure in result.failures] == ["a"]
    assert result.failure_count == 3


def test_handled_failures_are_listed_too() -> None:
    drive = Drive.begun(flow(step("a", allow_failure=True)))
    drive.fail("a")
    assert [failure.step_id for failure in drive.result().failures] == ["a"]


def test_cancelled_steps_are_no_failures() -> None:
    drive = Drive.begun(flow(step("a"), step("b")))
    drive.start("a", "b")
    drive.fail("b")
    drive.end_interrupted("a")
    assert [failure.step_id for failure in drive.result().failures] == ["b"]


def test_the_counts_are_by_state() -> None:
    steps = (step("a"), step("b"), step("c", "b"), step("d"), step("e", "a", "d", join=Join.ANY))
    drive = Drive.begun(flow(*steps, go_on=True))
    drive.start("d")
    drive.succeed("a")
    drive.fail("b")
    drive.end_interrupted("d")
    drive.succeed("e")
    counts = dict(zip(State, drive.result().counts, strict=True))
    expected = {State.SUCCEEDED: 2, State.FAILED: 1, State.CANCELLED: 1, State.SKIPPED: 1}
    assert counts == {state: expected.get(state, 0) for state in State}


# The information of a run.


def seen(drive: Drive) -> RunInfo:
    return info_of(KEY, NOON - 1, drive.run)


def test_a_run_that_has_not_begun_is_pending() -> None:
    info = seen(Drive(flow(step("a"))))
    assert (info.state, info.create_time, info.start_time, info.end_time) == (State.PENDING, NOON - 1, None, None)
    assert info.last_sequence == 0


def test_a_run_under_way_is_running() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.start("a")
    info = seen(drive)
    assert (info.state, info.start_time, info.end_time) == (State.RUNNING, NOON, None)
    assert (info.counts[State.PENDING - 1], info.counts[State.RUNNING - 1]) == (1, 1)
    assert (info.stopping, info.last_sequence) == (False, 3)


def test_a_run_that_only_waits_for_interrupted_attempts_is_stopping() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.start("a")
    drive.cancel()
    assert seen(drive).stopping
    drive.end_interrupted("a")
    assert not seen(drive).stopping


def test_a_run_in_which_only_clean_up_runs_is_stopping() -> None:
    drive = Drive.begun(flow(step("a"), step("b", join=Join.ALL_DONE)))
    drive.fail("a")
    assert seen(drive).stopping


def test_a_run_that_has_ended_has_its_end_time() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.now += 7
    drive.finish()
    info = seen(drive)
    assert (info.state, info.end_time) == (State.SUCCEEDED, NOON + 7)

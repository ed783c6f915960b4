"""Steps that are added during the run."""

import pytest

from stepwave_server.core.decide import Refused
from stepwave_server.core.messages import RunStarted, StepsAdded, Wave
from stepwave_server.core.model import MAX_MESSAGE_CONTENT, Binding, FromStep, Join, Skip, SkipCause, State, Step
from stepwave_server.core.state import RunOptions
from stepwave_server.core.validate import Limits, Violation
from unit.server.core.build import flow, step
from unit.server.core.driver import Drive
from unit.server.core.snapshot import snapshot

ANY, ALL_DONE = Join.ANY, Join.ALL_DONE


def refusal(drive: Drive, *steps: Step, seal: bool = False) -> Refused:
    """Return the reason why an addition is refused, after a check that nothing changed."""
    before = snapshot(drive.run)
    with pytest.raises(Refused) as caught:
        drive.add(*steps, seal=seal)
    assert snapshot(drive.run) == before
    return caught.value


# An open run.


def test_an_open_run_waits_for_steps_until_it_is_sealed() -> None:
    drive = Drive.begun(flow(), is_open=True)
    assert drive.log() == ["run started"]
    assert drive.add(step("a")) == ["added a"]
    assert drive.succeed("a") == ["a succeeded"]
    assert drive.add(seal=True) == ["added, sealed", "wave 0 finished", "run succeeded"]


def test_an_open_run_says_that_it_is() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True)
    assert drive.of(RunStarted) == [
        RunStarted(drive.now, (Wave(0, ("a",)),), more=False, step_count=1, deadline=None, open=True)
    ]


def test_an_added_step_runs_while_others_do() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True)
    drive.start("a")
    drive.add(step("b"))
    assert drive.succeed("b") == ["b succeeded"]
    assert drive.state("a") is State.RUNNING


def test_an_added_step_gets_the_output_of_one_that_ended_before() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True)
    drive.succeed("a", '"early"')
    drive.add(step("b", "a"))
    assert drive.invoked()["b"] == '{"a":"early"}'


def test_added_steps_wait_for_a_place_like_others() -> None:
    drive = Drive.begun(flow(step("a"), max_parallelism=1), is_open=True)
    drive.add(step("b"))
    assert drive.waiting() == ["a"]
    drive.succeed("a")
    assert drive.waiting() == ["b"]


def test_a_seal_may_come_with_the_last_steps() -> None:
    drive = Drive.begun(flow(), is_open=True)
    assert drive.add(step("a"), seal=True) == ["added a, sealed"]
    assert drive.succeed("a") == ["a succeeded", "wave 0 finished", "run succeeded"]


def test_an_added_step_whose_join_is_lost_already_is_skipped() -> None:
    drive = Drive.begun(flow(step("a"), go_on=True), is_open=True)
    drive.fail("a")
    assert drive.add(step("c", "b"), step("b", "a")) == ["added c b", "b skipped", "c skipped"]
    assert drive.skip("c") == Skip(SkipCause.DEPENDENCY, "a")


def test_a_handled_failure_turns_out_unhandled_when_a_step_that_needs_it_is_added() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", join=ALL_DONE), go_on=True), is_open=True)
    drive.fail("a")
    drive.succeed("b")
    drive.add(step("c", "a"), seal=True)
    assert drive.skip("c") == Skip(SkipCause.DEPENDENCY, "a")
    assert drive.log()[-1] == "run failed"


def test_a_handled_failure_stays_so_when_a_step_that_another_may_answer_is_added() -> None:
    steps = (step("a"), step("b"), step("c", "a", join=ALL_DONE))
    drive = Drive.begun(flow(*steps), is_open=True)
    drive.start("b")
    drive.fail("a")
    drive.add(step("d", "a", "b", join=ANY))
    assert drive.interrupts() == []
    drive.succeed("b")
    assert drive.waiting() == ["c", "d"]


def test_an_added_any_step_is_met_by_an_answer_from_before() -> None:
    drive = Drive.begun(flow(step("a"), step("b")), is_open=True)
    drive.succeed("a")
    drive.start("b")
    drive.add(step("c", "a", "b", join=ANY))
    assert drive.waiting() == ["c"]


def test_losers_run_on_while_others_may_come_to_need_them() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=ANY)), is_open=True)
    drive.start("b")
    drive.succeed("a")
    assert drive.interrupts() == []
    drive.add(step("d", "b"))
    drive.succeed("b", '"needed"')
    assert drive.invoked()["d"] == '{"b":"needed"}'


def test_losers_of_a_join_met_after_the_seal_are_cancelled() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=ANY)), is_open=True)
    drive.start("b")
    drive.add(seal=True)
    drive.succeed("a")
    assert [interrupt.step_id for interrupt in drive.interrupts()] == ["b"]


# References to steps that are added later.


def test_a_step_waits_for_a_dependency_still_to_come() -> None:
    drive = Drive.begun(flow(step("b", "a")), is_open=True)
    assert drive.waiting() == []
    drive.add(step("a"), seal=True)
    drive.succeed("a")
    assert drive.succeed("b")[-1] == "run succeeded"


def test_a_binding_may_refer_to_a_step_still_to_come() -> None:
    drive = Drive.begun(flow(step("b", bindings=(Binding("", FromStep("a")),))), is_open=True)
    drive.add(step("a"))
    drive.succeed("a")
    assert drive.waiting() == ["b"]


def test_a_wave_is_fixed_once_the_ancestors_are_known() -> None:
    drive = Drive.begun(flow(step("d", "c"), step("c", "b"), step("x")), is_open=True)
    assert drive.of(RunStarted)[0].waves == (Wave(0, ("x",)),)
    drive.add(step("z", "y"), step("b", "a"))
    drive.add(step("a"), step("y", "x"))
    waves = [event.waves for event in drive.of(StepsAdded)]
    assert waves == [(), (Wave(0, ("a",)), Wave(1, ("b", "y")), Wave(2, ("c", "z")), Wave(3, ("d",)))]


def test_an_additions_waves_list_their_steps_in_declaration_order() -> None:
    drive = Drive.begun(flow(), is_open=True)
    drive.add(step("d", "b"), step("c", "a"), step("a"), step("b"))
    assert drive.of(StepsAdded)[0].waves == (Wave(0, ("a", "b")), Wave(1, ("d", "c")))


def test_a_met_any_step_starts_when_its_wave_is_known() -> None:
    drive = Drive.begun(flow(step("a"), step("c", "a", "b", join=ANY)), is_open=True)
    drive.succeed("a")
    assert drive.waiting() == []
    drive.add(step("b", "x"))
    assert drive.waiting() == []
    drive.add(step("x"))
    assert drive.waiting() == ["c", "x"]
    assert drive.start("c") == ["wave 2 started", "c started"]


def test_a_wave_finishes_only_after_the_seal() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True)
    assert drive.succeed("a") == ["a succeeded"]
    drive.add(step("b"))
    assert drive.start("b") == ["b started"]
    drive.add(seal=True)
    assert drive.succeed("b") == ["b succeeded", "wave 0 finished", "run succeeded"]


def test_steps_that_an_output_makes_ready_are_decided_in_declaration_order() -> None:
    """If `c` came before `a`, its join would be met, and `b` cancelled as its loser."""
    drive = Drive.begun(flow(step("a", "d", "b", "c", join=ANY), step("b", "d")), is_open=True)
    drive.add(step("c", "d", "b", join=ANY), step("d"), seal=True)
    drive.succeed("d")
    assert drive.waiting() == ["a", "b"]


# Repeated additions.


def test_adding_the_same_step_again_changes_nothing() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True)
    drive.add(step("b", "a"))
    assert drive.add(step("b", "a"), step("a")) == []
    assert drive.add(step("b", "a"), step("c")) == ["added c"]


def test_an_addition_with_a_seal_may_be_made_again() -> None:
    drive = Drive.begun(flow(), is_open=True)
    drive.add(step("a"), seal=True)
    assert drive.add(step("a"), seal=True) == []
    drive.finish()
    assert drive.add(step("a"), seal=True) == []


def test_steps_added_again_count_once() -> None:
    options = RunOptions(open=True, limits=Limits(max_steps=2, max_edges=1))
    drive = Drive(flow(step("a"), step("b", "a")), options=options)
    drive.begin()
    assert drive.add(step("a"), step("b", "a")) == []
    assert refusal(drive, step("c")).violations == [Violation("steps", "3 steps are more than the 2 allowed")]


# Refused additions.


def test_a_run_that_was_not_opened_takes_no_steps() -> None:
    drive = Drive.begun(flow(step("a")))
    for same_or_not in (step("a"), step("b")):
        assert (str(refusal(drive, same_or_not)), refusal(drive, same_or_not).violations) == (
            "the run takes no more steps",
            [],
        )


def test_a_sealed_run_takes_no_other_steps() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True)
    drive.add(seal=True)
    assert str(refusal(drive, step("a"), step("b"))) == "the run takes no more steps"


def test_an_ended_run_takes_no_other_steps() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True)
    drive.cancel()
    assert str(refusal(drive, step("b"))) == "the run takes no more steps"
    assert str(refusal(drive, step("a", "b"))) == "the run takes no more steps"


def test_a_step_of_the_same_id_and_other_content_is_refused() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True)
    assert refusal(drive, step("b"), step("a", "b")).violations == [
        Violation("steps[1].id", 'the run has another step "a" already')
    ]


def test_a_cycle_through_a_step_still_to_come_is_refused() -> None:
    drive = Drive.begun(flow(step("a", "b"), step("b", "c")), is_open=True)
    assert refusal(drive, step("x"), step("c", "a")).violations == [
        Violation("steps[1].depends_on", "dependency cycle: c → a → b → c")
    ]
    assert drive.add(step("c")) == ["added c"]


def test_a_cycle_within_an_addition_is_refused() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True)
    assert refusal(drive, step("b", "c", "a"), step("c", "b")).violations == [
        Violation("steps[0].depends_on", "dependency cycle: b → c → b")
    ]


def test_a_step_that_depends_on_itself_is_refused() -> None:
    drive = Drive.begun(flow(), is_open=True)
    assert refusal(drive, step("a", "a")).violations == [
        Violation("steps[0].depends_on[0]", 'step "a" depends on itself')
    ]


def test_a_seal_is_refused_while_steps_refer_to_steps_that_were_never_added() -> None:
    drive = Drive.begun(flow(step("a", "b")), is_open=True)
    assert refusal(drive, step("search"), step("d", "serch"), seal=True).violations == [
        Violation("steps[1].depends_on[0]", 'unknown step "serch"; did you mean "search"?'),
        Violation("seal", 'step "a" depends on "b", which was never added'),
    ]
    assert drive.add(step("b"), seal=True) == ["added b, sealed"]


def test_all_problems_of_an_addition_are_named_at_once() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True)
    violations = refusal(drive, step("a", "x"), step("1"), step("b", "b"), step("b")).violations
    assert [violation.field for violation in violations] == [
        "steps[0].id",
        "steps[1].id",
        "steps[3].id",
        "steps[2].depends_on[0]",
    ]


def test_dependencies_over_the_bound_are_refused() -> None:
    drive = Drive(flow(step("a")), options=RunOptions(open=True, limits=Limits(max_edges=2)))
    drive.begin()
    drive.add(step("b", "a"))
    assert refusal(drive, step("c", "a", "b")).violations == [
        Violation("steps", "3 dependencies are more than the 2 allowed")
    ]


# An open run that ends early.


def test_a_cancel_ends_an_open_run_with_references_to_come() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "never"), step("c", "b")), is_open=True)
    drive.start("a")
    drive.cancel()
    expected = ["a cancelled", "wave 0 finished", "run cancelled"]
    assert drive.end_interrupted("a") == expected
    assert drive.log()[3:6] == ["run stopping", "b skipped", "c skipped"]
    assert drive.skip("b") == drive.skip("c") == Skip(SkipCause.CANCELLED)


def test_a_cancel_ends_an_open_run_without_steps() -> None:
    drive = Drive.begun(flow(), is_open=True)
    assert drive.cancel() == ["run stopping", "run cancelled"]


def test_the_timeout_of_an_open_run_ends_it() -> None:
    drive = Drive.begun(flow(step("a", "never"), timeout=5), is_open=True)
    assert drive.wait(5) == ["run stopping", "a skipped", "run failed"]
    assert drive.skip("a") == Skip(SkipCause.TIMEOUT)


def test_fail_fast_ends_an_open_run_with_references_to_come() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "never"), step("c", "b")), is_open=True)
    assert drive.fail("a") == ["a failed", "b skipped", "c skipped", "wave 0 finished", "run failed"]
    assert drive.skip("b") == drive.skip("c") == Skip(SkipCause.FAIL_FAST, "a")


def test_clean_up_runs_although_a_step_it_waits_for_was_never_added() -> None:
    steps = (step("a"), step("b"), step("clean", "b", "never", join=ALL_DONE))
    drive = Drive.begun(flow(*steps), is_open=True)
    drive.start("b")
    drive.fail("a")
    drive.end_interrupted("b")
    assert drive.invoked()["clean"] == '{"b":null,"never":null}'
    assert drive.succeed("clean")[-1] == "run failed"
    assert drive.finished("clean").wave == 1


def test_clean_up_behind_steps_that_were_never_added_starts_in_declaration_order() -> None:
    waiting = (step("e", "x", join=ALL_DONE), step("d", "y", join=ALL_DONE), step("c", "x", "y", join=ALL_DONE))
    drive = Drive.begun(flow(*waiting, step("a")), is_open=True)
    drive.fail("a")
    assert drive.waiting() == ["e", "d", "c"]


def test_continue_leaves_an_open_run_open() -> None:
    drive = Drive.begun(flow(step("a"), go_on=True), is_open=True)
    assert drive.fail("a") == ["a failed"]
    drive.add(step("b"), seal=True)
    assert drive.succeed("b")[-1] == "run failed"


# Large additions.


def test_a_large_addition_is_split_over_several_events() -> None:
    drive = Drive.begun(flow(), is_open=True)
    big = '"' + "9" * (MAX_MESSAGE_CONTENT // 2) + '"'
    steps = (step("c", "b"), step("b", "a", payload=big), step("a", payload=big))
    assert drive.add(*steps, seal=True) == ["added c b", "added a, sealed"]
    waves = [event.waves for event in drive.of(StepsAdded)]
    assert waves == [(), (Wave(0, ("a",)), Wave(1, ("b",)), Wave(2, ("c",)))]
    drive.finish()
    assert drive.result().state is State.SUCCEEDED


def test_the_waves_that_one_step_makes_known_are_split_over_several_events() -> None:
    name = "x" * 120
    waiting = [step(f"{name}{n:05}", "a") for n in range(MAX_MESSAGE_CONTENT // 100)]
    drive = Drive.begun(flow(), is_open=True, checked=False)
    for start in range(0, len(waiting), 5000):
        drive.add(*waiting[start : start + 5000])
    drive.events.clear()
    drive.add(step("a"), seal=True)
    events = drive.of(StepsAdded)
    assert [len(event.steps) for event in events] == [1, 0]
    assert [event.sealed for event in events] == [False, True]
    assert sum(len(wave.step_ids) for event in events for wave in event.waves) == len(waiting) + 1

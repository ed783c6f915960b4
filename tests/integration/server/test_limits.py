"""Limits on a real server: who runs, who waits and says why, and what becomes of those who wait."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from integration.server.build import finished, flow, states, step
from integration.server.caller import Caller, Stream
from integration.server.serving import Call, Serve
from integration.server.stage import Stage
from stepwave import Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import StepWaiting, WaitCause
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Reason

ONE = "- {actions: gated, concurrency: 1}"
HOUR = 3_600_000_000_000


class Limited:
    """Starts servers with limits, and callers to them."""

    def __init__(self, serve: Serve, call: Call, folder: Path) -> None:
        self._serve = serve
        self._call = call
        self._file = folder / "limits.yaml"

    async def caller(self, limits: str, *actions: object, **settings: object) -> Caller:
        self._file.write_text(f"limits:\n{limits}\n")
        return self._call(await self._serve(*actions, limits=self._file, **settings))  # type: ignore[arg-type]  # callables


@pytest.fixture
async def limited(serve: Serve, call: Call, tmp_path: Path) -> Limited:
    return Limited(serve, call, tmp_path)


def _held(*step_ids: str, key: str | None = None, values: Sequence[object] = ()) -> workflow_pb2.Workflow:
    """Return a workflow of steps that wait for the test; with a key, it is their value."""
    given = [*values, *[None] * (len(step_ids) - len(values))]
    workflow = flow(
        *[
            step(it, "gated", given=None if value is None else {"value": value})
            for it, value in zip(step_ids, given, strict=True)
        ]
    )
    for it in workflow.steps:
        if key is not None:
            it.concurrency_key = key
    return workflow


async def _waiting(caller: Caller, run_id: str) -> list[tuple[str, str, int, list[str]]]:
    response = await caller.stub.GetRun(pb.GetRunRequest(run_id=run_id))
    return [(WaitCause.Name(it.cause), it.limit, it.step_count, list(it.step_ids)) for it in response.waiting]


async def _told(stream: Stream, step_id: str) -> StepWaiting:
    return (await stream.until("step_waiting", step_id)).step_waiting


async def _limits(caller: Caller, name: str) -> Sequence[pb.Limit]:
    response = await caller.stub.ListActions(pb.ListActionsRequest(page_size=1_000))
    return next(it for it in response.actions if it.name == name).limits


# Concurrency.


async def test_a_limit_holds_over_runs_and_they_take_turns(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller(ONE)
    await caller.start(_held("a1", "a2", "a3"), run_id="wide")
    await stage.here("a1")
    await caller.start(_held("b1"), run_id="small")
    for step_id in ("a1", "a2", "b1", "a3"):
        await stage.here(step_id)
        stage.let(step_id)
    assert states(await caller.events("wide")) == dict.fromkeys(("a1", "a2", "a3"), "succeeded")
    assert stage.invoked == ["a1", "a2", "b1", "a3"]


async def test_steps_of_other_actions_do_not_wait(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller(ONE)
    await caller.start(_held("a1", "a2"), run_id="held")
    await stage.here("a1")
    assert states(await caller.run(flow(step("free", "noop")))) == {"free": "succeeded"}


async def test_whoever_waits_says_why_and_uses_up_no_attempt(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller(ONE)
    await caller.start(_held("a1", "a2"), run_id="held")
    for _ in range(2):  # one who joins later is told as well
        async with caller.watch("held") as stream:
            told = await _told(stream, "a2")
            assert told.cause == WaitCause.WAIT_CAUSE_CONCURRENCY
            assert told.message == 'the only place of the limit "gated" is taken'
    assert await _waiting(caller, "held") == [("WAIT_CAUSE_CONCURRENCY", "gated", 1, ["a2"])]
    stage.let("a1")
    await stage.here("a2")
    assert await _waiting(caller, "held") == []
    stage.let("a2")
    assert finished(await caller.events("held"))["a2"].attempts == 1


async def test_who_joins_is_not_told_of_a_wait_that_is_over(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller(ONE)
    await caller.start(_held("a1", "a2"), run_id="held")
    stage.let("a1")
    await stage.here("a2")
    async with caller.watch("held") as stream:
        await stream.until("step_started", "a2")
        stage.let("a2")
        assert not any(event.HasField("step_waiting") for event in await stream.rest())


async def test_what_waits_for_the_servers_own_bound_says_so(serve: Serve, call: Call, stage: Stage) -> None:
    caller = call(await serve(max_attempts=1))
    await caller.start(_held("a1", "a2"), run_id="held")
    async with caller.watch("held") as stream:
        assert (await _told(stream, "a2")).message == "the server's max_attempts is 1"
    assert await _waiting(caller, "held") == [("WAIT_CAUSE_CONCURRENCY", "", 1, ["a2"])]


async def test_a_run_that_is_cancelled_while_it_waits_frees_its_turn(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller(ONE)
    for run_id in ("first", "second", "third"):
        await caller.start(_held(run_id), run_id=run_id)
    await stage.here("first")
    await caller.cancel("second")
    assert states(await caller.events("second")) == {"second": "skipped"}
    stage.let("first")
    await stage.here("third")
    assert stage.invoked == ["first", "third"]


async def test_a_failure_of_what_runs_gives_its_place_back(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller("- {actions: fails, concurrency: 1}")
    stage.let_all()
    events = await caller.run(flow(*[step(f"a{n}", "fails", allow_failure=True) for n in range(5)]))
    assert set(states(events).values()) == {"failed"}
    assert (await _limits(caller, "fails"))[0].in_flight == 0


async def test_a_cancelled_attempt_keeps_its_place_until_it_has_ended(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller("- {actions: stubborn, concurrency: 1}")
    await caller.start(flow(step("clings", "stubborn")), run_id="first")
    await stage.here("clings")
    await caller.cancel("first")
    await stage.here("clings/cancelled")
    await caller.start(flow(step("next", "stubborn")), run_id="second")
    assert await _waiting(caller, "second") == [("WAIT_CAUSE_CONCURRENCY", "stubborn", 1, ["next"])]
    stage.let("clings", "next")
    assert states(await caller.events("second")) == {"next": "succeeded"}


# Keys.


async def test_each_key_has_its_own_bound(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller("- {actions: gated, per_key: {concurrency: 1}}")
    tenants = ["oslo", "oslo", "rome", 1, "1", {"a": 1, "b": 2}, {"b": 2, "a": 1}]
    names = [f"s{number}" for number in range(len(tenants))]
    await caller.start(_held(*names, key="/value", values=tenants), run_id="keyed")
    await stage.here("s0", "s2", "s3", "s4", "s5")
    assert await _waiting(caller, "keyed") == [("WAIT_CAUSE_CONCURRENCY", "gated", 2, ["s1", "s6"])]
    stage.let("s5")
    await stage.here("s6")
    assert "s1" not in stage.invoked


async def test_a_key_is_found_in_an_input_of_any_size(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller("- {actions: gated, per_key: {concurrency: 1}}")
    long = "x" * 100_000
    await caller.start(_held("a", "b", "c", key="/value/tenant", values=[{"tenant": it} for it in (long, long, 1)]))
    await stage.here("a", "c")
    assert sorted(stage.invoked) == ["a", "c"]
    stage.let("a")
    await stage.here("b")


async def test_steps_without_a_key_or_with_nothing_there_count_together(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller("- {actions: gated, per_key: {concurrency: 1}}")
    await caller.start(_held("absent", key="/value/none", values=[{"other": 1}]), run_id="a")
    await stage.here("absent")
    await caller.start(_held("none"), run_id="b")
    await caller.start(_held("null", key="/value/none", values=[{"none": None}]), run_id="c")
    assert await _waiting(caller, "b") == [("WAIT_CAUSE_CONCURRENCY", "gated", 1, ["none"])]
    assert await _waiting(caller, "c") == [("WAIT_CAUSE_CONCURRENCY", "gated", 1, ["null"])]


# Rates.


async def test_a_rate_lets_a_burst_start_and_the_others_wait_and_say_why(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller("- {actions: gated, rate: {count: 1, per: 1h, burst: 2}}")
    await caller.start(_held("a1", "a2", "a3"), run_id="paced")
    await stage.here("a1", "a2")
    async with caller.watch("paced") as stream:
        told = await _told(stream, "a3")
    assert (told.cause, told.message) == (WaitCause.WAIT_CAUSE_RATE, 'the limit "gated" lets 1 start every 1 h')
    assert await _waiting(caller, "paced") == [("WAIT_CAUSE_RATE", "gated", 1, ["a3"])]
    await caller.cancel("paced")
    assert states(await caller.events("paced"))["a3"] == "skipped"


async def test_time_alone_lets_them_start(limited: Limited) -> None:
    caller = await limited.caller("- {actions: noop, rate: 50/s}")
    events = await caller.run(flow(*[step(f"a{number}") for number in range(10)]))
    starts = sorted(it.start_time.ToNanoseconds() for it in finished(events).values())
    assert starts[-1] - starts[0] >= 9 * 20_000_000 - 10_000_000  # starts are told by another clock


# Refusals.


def _busy(stage: Stage) -> object:
    @action("busy.service")
    async def busy(context: Context, refuse: bool = False, after: float | None = None) -> str:
        """Wait for the test; then answer, or say that it is too much."""
        await stage.enter(context.step_id)
        if refuse:
            nanos = None if after is None else round(after * 1e9)
            raise ActionFailed(Reason.RATE_LIMITED, "too many", retryable=True, retry_after=nanos)
        return "done"

    return busy


def _calls(*step_ids: str, refused: str = "", after: float | None = None) -> workflow_pb2.Workflow:
    given = {"refuse": True, "after": after}
    return flow(
        *[step(it, "busy.service", given=given if it == refused else {}, allow_failure=True) for it in step_ids]
    )


async def test_a_refusal_takes_places_from_all_runs_and_the_actions_list_shows_it(
    limited: Limited, stage: Stage
) -> None:
    caller = await limited.caller("- {actions: busy.*, adaptive: {initial: 3, max: 9}}", _busy(stage))
    await caller.start(_calls("a1", "a2", "a3", refused="a1"), run_id="first")
    await stage.here("a1", "a2", "a3")
    (before,) = await _limits(caller, "busy.service")
    assert (before.actions, before.in_flight, before.adaptive.concurrency) == ("busy.*", 3, 3)
    stage.let("a1", "a2")
    async with caller.watch("first") as stream:
        await stream.until("step_finished", "a1")
    await caller.start(_calls("b1", "b2"), run_id="second")
    await stage.here("b1")
    (after,) = await _limits(caller, "busy.service")
    assert (after.adaptive.concurrency, after.adaptive.refused, after.in_flight) == (2, 1, 2)
    assert (after.adaptive.min_concurrency, after.adaptive.max_concurrency) == (1, 9)
    assert not after.adaptive.HasField("paused_until")
    assert await _waiting(caller, "second") == [("WAIT_CAUSE_CONCURRENCY", "busy.*", 1, ["b2"])]


async def test_a_refusal_that_names_a_time_pauses_the_action_for_all(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller("- {actions: busy.*, adaptive: {initial: 1}}", _busy(stage))
    await caller.start(_calls("a1", "a2", refused="a1", after=3_600), run_id="first")
    await stage.here("a1")
    async with caller.watch("first") as stream:
        assert (await _told(stream, "a2")).cause == WaitCause.WAIT_CAUSE_CONCURRENCY
        stage.let("a1")
        told = await _told(stream, "a2")  # who waited for a place is told that it waits for something else now
        assert told.cause == WaitCause.WAIT_CAUSE_RATE
        assert told.message.startswith('"busy.*" is paused for another ')
    await caller.start(_calls("b1"), run_id="second")
    assert await _waiting(caller, "second") == [("WAIT_CAUSE_RATE", "busy.*", 1, ["b1"])]
    assert (await _limits(caller, "busy.service"))[0].adaptive.HasField("paused_until")
    await caller.cancel("second")
    assert states(await caller.events("second")) == {"b1": "skipped"}


async def test_after_the_pause_those_who_waited_start(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller("- {actions: busy.*, adaptive: {initial: 1}}", _busy(stage))
    stage.let_all()
    events = await caller.run(_calls("a1", "a2", refused="a1", after=0.2))
    assert states(events) == {"a1": "failed", "a2": "succeeded"}
    ended, started = (finished(events)[it] for it in ("a1", "a2"))
    assert started.start_time.ToNanoseconds() - ended.end_time.ToNanoseconds() >= 190_000_000


# With what is done about failures.


async def test_a_step_that_falls_back_while_it_waits_leaves_its_turn(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller(ONE)
    await caller.start(_held("first"), run_id="first")
    await stage.here("first")
    impatient = _held("impatient")
    impatient.steps[0].total_timeout.FromMilliseconds(100)
    impatient.steps[0].fallback.action.action = "noop"
    assert states(await caller.run(impatient)) == {"impatient": "succeeded"}
    await caller.start(_held("last"), run_id="last")
    stage.let("first")
    await stage.here("last")
    assert stage.invoked == ["first", "impatient", "last"]  # by its fallback


async def test_a_fallback_waits_at_the_limits_of_its_own_action(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller(ONE)
    await caller.start(_held("first"), run_id="first")
    await stage.here("first")
    failing = flow(step("failing", "fails"))
    failing.steps[0].fallback.action.action = "gated"
    failing.steps[0].fallback.action.input.json = "{}"
    await caller.start(failing, run_id="failing")
    stage.let("failing")
    async with caller.watch("failing") as stream:
        assert (await _told(stream, "failing")).cause == WaitCause.WAIT_CAUSE_CONCURRENCY
    stage.let("first")
    assert states(await caller.events("failing")) == {"failing": "succeeded"}


async def test_a_pause_gives_its_place_to_others_and_the_next_attempt_waits_for_one(
    limited: Limited, stage: Stage
) -> None:
    caller = await limited.caller("- {actions: fails, concurrency: 1}")
    again = flow(step("again", "fails"))
    again.steps[0].retry.max_attempts = 2
    again.steps[0].retry.initial_backoff.FromMilliseconds(20)
    stage.let("again")
    await caller.start(flow(step("holds", "fails")), run_id="holds")
    await stage.here("holds")
    await caller.start(again, run_id="again")
    stage.let("holds")
    assert finished(await caller.events("again"))["again"].attempts == 2
    assert (await _limits(caller, "fails"))[0].in_flight == 0


async def test_an_explanation_tells_the_limit(limited: Limited, stage: Stage) -> None:
    caller = await limited.caller("- {actions: gated, concurrency: 1}")
    await caller.start(_held("a1", "a2"), run_id="held")
    await stage.here("a1")
    explained = await caller.stub.ExplainRun(pb.ExplainRunRequest(run_id="held"))
    (waits,) = [it for it in explained.steps if it.step_id == "a2"]
    assert (waits.cause, waits.message) == (
        WaitCause.WAIT_CAUSE_CONCURRENCY,
        'the only place of the limit "gated" is taken',
    )


# Settings.


async def test_a_limit_that_covers_no_action_is_warned_of(limited: Limited, caplog: pytest.LogCaptureFixture) -> None:
    await limited.caller("- {actions: gatde, concurrency: 1}")
    assert 'the limit "gatde" covers no action of this server; did you mean "gated"?' in caplog.text


async def test_actions_without_limits_list_none(limited: Limited) -> None:
    caller = await limited.caller(ONE)
    assert len(await _limits(caller, "gated")) == 1
    assert len(await _limits(caller, "noop")) == 0

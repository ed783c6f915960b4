"""Limits on a real server: which steps run, which wait, and the reasons that watchers see."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from integration.server.build import finished, flow, states, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, Stream
from stepwave import Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import StepWaiting, WaitCause
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Reason

pytestmark = pytest.mark.one_server("it admits attempts by limits that it keeps in memory")

ONE = "- {actions: controlled, concurrency: 1}"
HOUR = 3_600_000_000_000


class Limited:
    """Starts servers with limits, and connects clients to them."""

    def __init__(self, serve: Serve, connect: Connect, folder: Path) -> None:
        self._serve = serve
        self._connect = connect
        self._file = folder / "limits.yaml"

    async def client(self, limits: str, *actions: object, **settings: object) -> RawClient:
        self._file.write_text(f"limits:\n{limits}\n")
        return self._connect(await self._serve(*actions, limits=self._file, **settings))  # type: ignore[arg-type]  # callables


@pytest.fixture
async def limited(serve: Serve, connect: Connect, tmp_path: Path) -> Limited:
    return Limited(serve, connect, tmp_path)


def _controlled(*step_ids: str, key: str | None = None, values: Sequence[object] = ()) -> workflow_pb2.Workflow:
    """Return a workflow of controlled steps. With a key, `values` are their values."""
    given = [*values, *[None] * (len(step_ids) - len(values))]
    workflow = flow(
        *[
            step(it, "controlled", given=None if value is None else {"value": value})
            for it, value in zip(step_ids, given, strict=True)
        ]
    )
    for it in workflow.steps:
        if key is not None:
            it.concurrency_key = key
    return workflow


async def _waiting(client: RawClient, run_id: str) -> list[tuple[str, str, int, list[str]]]:
    response = await client.stub.GetRun(pb.GetRunRequest(run_id=run_id))
    return [(WaitCause.Name(it.cause), it.limit, it.step_count, list(it.step_ids)) for it in response.waiting]


async def _next_waiting(stream: Stream, step_id: str) -> StepWaiting:
    return (await stream.until("step_waiting", step_id)).step_waiting


async def _limits(client: RawClient, name: str) -> Sequence[pb.Limit]:
    response = await client.stub.ListActions(pb.ListActionsRequest(page_size=1_000))
    return next(it for it in response.actions if it.name == name).limits


# Concurrency.


async def test_a_limit_holds_over_runs_and_they_take_turns(limited: Limited, controlled: ControlledActions) -> None:
    client = await limited.client(ONE)
    await client.start(_controlled("a1", "a2", "a3"), run_id="wide")
    await controlled.wait_started("a1")
    await client.start(_controlled("b1"), run_id="small")
    for step_id in ("a1", "a2", "b1", "a3"):
        await controlled.wait_started(step_id)
        controlled.release(step_id)
    assert states(await client.events("wide")) == dict.fromkeys(("a1", "a2", "a3"), "succeeded")
    assert controlled.invoked == ["a1", "a2", "b1", "a3"]


async def test_steps_of_other_actions_do_not_wait(limited: Limited, controlled: ControlledActions) -> None:
    client = await limited.client(ONE)
    await client.start(_controlled("a1", "a2"), run_id="blocked")
    await controlled.wait_started("a1")
    assert states(await client.run(flow(step("free", "noop")))) == {"free": "succeeded"}


async def test_a_waiting_step_reports_why_and_uses_up_no_attempt(
    limited: Limited, controlled: ControlledActions
) -> None:
    client = await limited.client(ONE)
    await client.start(_controlled("a1", "a2"), run_id="blocked")
    for _ in range(2):  # a late watcher sees it as well
        async with client.watch("blocked") as stream:
            waiting = await _next_waiting(stream, "a2")
            assert waiting.cause == WaitCause.WAIT_CAUSE_CONCURRENCY
            assert waiting.message == 'the only place of the limit "controlled" is taken'
            assert waiting.limit == "controlled"
    assert await _waiting(client, "blocked") == [("WAIT_CAUSE_CONCURRENCY", "controlled", 1, ["a2"])]
    controlled.release("a1")
    await controlled.wait_started("a2")
    assert await _waiting(client, "blocked") == []
    controlled.release("a2")
    assert finished(await client.events("blocked"))["a2"].attempts == 1


async def test_a_late_watcher_does_not_see_a_wait_that_is_over(limited: Limited, controlled: ControlledActions) -> None:
    client = await limited.client(ONE)
    await client.start(_controlled("a1", "a2"), run_id="blocked")
    controlled.release("a1")
    await controlled.wait_started("a2")
    async with client.watch("blocked") as stream:
        await stream.until("step_started", "a2")
        controlled.release("a2")
        assert not any(event.HasField("step_waiting") for event in await stream.rest())


async def test_a_step_that_waits_for_max_attempts_reports_it(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve(max_attempts=1))
    await client.start(_controlled("a1", "a2"), run_id="blocked")
    async with client.watch("blocked") as stream:
        assert (await _next_waiting(stream, "a2")).message == "the server's max_attempts is 1"
    assert await _waiting(client, "blocked") == [("WAIT_CAUSE_CONCURRENCY", "", 1, ["a2"])]


async def test_a_run_that_is_cancelled_while_it_waits_leaves_the_queue(
    limited: Limited, controlled: ControlledActions
) -> None:
    client = await limited.client(ONE)
    for run_id in ("first", "second", "third"):
        await client.start(_controlled(run_id), run_id=run_id)
    await controlled.wait_started("first")
    await client.cancel("second")
    assert states(await client.events("second")) == {"second": "skipped"}
    controlled.release("first")
    await controlled.wait_started("third")
    assert controlled.invoked == ["first", "third"]


async def test_a_failed_attempt_frees_its_place(limited: Limited, controlled: ControlledActions) -> None:
    client = await limited.client("- {actions: fails, concurrency: 1}")
    controlled.release_all()
    events = await client.run(flow(*[step(f"a{n}", "fails", allow_failure=True) for n in range(5)]))
    assert set(states(events).values()) == {"failed"}
    assert (await _limits(client, "fails"))[0].in_flight == 0


async def test_a_cancelled_attempt_keeps_its_place_until_it_has_ended(
    limited: Limited, controlled: ControlledActions
) -> None:
    client = await limited.client("- {actions: stubborn, concurrency: 1}")
    await client.start(flow(step("clings", "stubborn")), run_id="first")
    await controlled.wait_started("clings")
    await client.cancel("first")
    await controlled.wait_started("clings/cancelled")
    await client.start(flow(step("next", "stubborn")), run_id="second")
    assert await _waiting(client, "second") == [("WAIT_CAUSE_CONCURRENCY", "stubborn", 1, ["next"])]
    controlled.release("clings", "next")
    assert states(await client.events("second")) == {"next": "succeeded"}


# Keys.


async def test_each_key_has_its_own_limit(limited: Limited, controlled: ControlledActions) -> None:
    client = await limited.client("- {actions: controlled, per_key: {concurrency: 1}}")
    tenants = ["oslo", "oslo", "rome", 1, "1", {"a": 1, "b": 2}, {"b": 2, "a": 1}]
    names = [f"s{number}" for number in range(len(tenants))]
    await client.start(_controlled(*names, key="/value", values=tenants), run_id="keyed")
    await controlled.wait_started("s0", "s2", "s3", "s4", "s5")
    assert await _waiting(client, "keyed") == [("WAIT_CAUSE_CONCURRENCY", "controlled", 2, ["s1", "s6"])]
    controlled.release("s5")
    await controlled.wait_started("s6")
    assert "s1" not in controlled.invoked


async def test_a_key_is_found_in_an_input_of_any_size(limited: Limited, controlled: ControlledActions) -> None:
    client = await limited.client("- {actions: controlled, per_key: {concurrency: 1}}")
    long = "x" * 100_000
    await client.start(
        _controlled("a", "b", "c", key="/value/tenant", values=[{"tenant": it} for it in (long, long, 1)])
    )
    await controlled.wait_started("a", "c")
    assert sorted(controlled.invoked) == ["a", "c"]
    controlled.release("a")
    await controlled.wait_started("b")


async def test_steps_without_a_key_or_with_a_null_key_count_together(
    limited: Limited, controlled: ControlledActions
) -> None:
    client = await limited.client("- {actions: controlled, per_key: {concurrency: 1}}")
    await client.start(_controlled("absent", key="/value/none", values=[{"other": 1}]), run_id="a")
    await controlled.wait_started("absent")
    await client.start(_controlled("none"), run_id="b")
    await client.start(_controlled("null", key="/value/none", values=[{"none": None}]), run_id="c")
    assert await _waiting(client, "b") == [("WAIT_CAUSE_CONCURRENCY", "controlled", 1, ["none"])]
    assert await _waiting(client, "c") == [("WAIT_CAUSE_CONCURRENCY", "controlled", 1, ["null"])]


# Rates.


async def test_a_rate_admits_a_burst_and_the_other_steps_report_why_they_wait(
    limited: Limited, controlled: ControlledActions
) -> None:
    client = await limited.client("- {actions: controlled, rate: {count: 1, per: 1h, burst: 2}}")
    await client.start(_controlled("a1", "a2", "a3"), run_id="paced")
    await controlled.wait_started("a1", "a2")
    async with client.watch("paced") as stream:
        waiting = await _next_waiting(stream, "a3")
    assert (waiting.cause, waiting.message) == (
        WaitCause.WAIT_CAUSE_RATE,
        'the limit "controlled" lets 1 start every 1 h',
    )
    assert await _waiting(client, "paced") == [("WAIT_CAUSE_RATE", "controlled", 1, ["a3"])]
    await client.cancel("paced")
    assert states(await client.events("paced"))["a3"] == "skipped"


async def test_waiting_steps_start_as_time_passes(limited: Limited) -> None:
    client = await limited.client("- {actions: noop, rate: 50/s}")
    events = await client.run(flow(*[step(f"a{number}") for number in range(10)]))
    starts = sorted(it.start_time.ToNanoseconds() for it in finished(events).values())
    assert starts[-1] - starts[0] >= 9 * 20_000_000 - 10_000_000  # the start times are of another clock


# Refusals.


def _busy(controlled: ControlledActions) -> object:
    @action("busy.service")
    async def busy(context: Context, refuse: bool = False, after: float | None = None) -> str:
        """Wait for the test, then answer or fail as rate limited."""
        await controlled.wait_released(context.step_id)
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


async def test_a_rate_limited_failure_lowers_the_adaptive_limit_and_the_list_of_actions_shows_it(
    limited: Limited, controlled: ControlledActions
) -> None:
    client = await limited.client("- {actions: busy.*, adaptive: {initial: 3, max: 9}}", _busy(controlled))
    await client.start(_calls("a1", "a2", "a3", refused="a1"), run_id="first")
    await controlled.wait_started("a1", "a2", "a3")
    (before,) = await _limits(client, "busy.service")
    assert (before.actions, before.in_flight, before.adaptive.concurrency) == ("busy.*", 3, 3)
    controlled.release("a1", "a2")
    async with client.watch("first") as stream:
        await stream.until("step_finished", "a1")
    await client.start(_calls("b1", "b2"), run_id="second")
    await controlled.wait_started("b1")
    (after,) = await _limits(client, "busy.service")
    assert (after.adaptive.concurrency, after.adaptive.refused, after.in_flight) == (2, 1, 2)
    assert (after.adaptive.min_concurrency, after.adaptive.max_concurrency) == (1, 9)
    assert not after.adaptive.HasField("paused_until")
    assert await _waiting(client, "second") == [("WAIT_CAUSE_CONCURRENCY", "busy.*", 1, ["b2"])]


async def test_a_rate_limited_failure_with_retry_after_pauses_the_action_for_all_runs(
    limited: Limited, controlled: ControlledActions
) -> None:
    client = await limited.client("- {actions: busy.*, adaptive: {initial: 1}}", _busy(controlled))
    await client.start(_calls("a1", "a2", refused="a1", after=3_600), run_id="first")
    await controlled.wait_started("a1")
    async with client.watch("first") as stream:
        assert (await _next_waiting(stream, "a2")).cause == WaitCause.WAIT_CAUSE_CONCURRENCY
        controlled.release("a1")
        waiting = await _next_waiting(stream, "a2")  # the step waited for a place, and now waits for the rate
        assert waiting.cause == WaitCause.WAIT_CAUSE_RATE
        assert waiting.message.startswith('"busy.*" is paused for another ')
    await client.start(_calls("b1"), run_id="second")
    assert await _waiting(client, "second") == [("WAIT_CAUSE_RATE", "busy.*", 1, ["b1"])]
    assert (await _limits(client, "busy.service"))[0].adaptive.HasField("paused_until")
    await client.cancel("second")
    assert states(await client.events("second")) == {"b1": "skipped"}


async def test_waiting_steps_start_after_the_pause(limited: Limited, controlled: ControlledActions) -> None:
    client = await limited.client("- {actions: busy.*, adaptive: {initial: 1}}", _busy(controlled))
    controlled.release_all()
    events = await client.run(_calls("a1", "a2", refused="a1", after=0.2))
    assert states(events) == {"a1": "failed", "a2": "succeeded"}
    ended, started = (finished(events)[it] for it in ("a1", "a2"))
    assert started.start_time.ToNanoseconds() - ended.end_time.ToNanoseconds() >= 190_000_000


# With what is done about failures.


async def test_a_step_that_falls_back_while_it_waits_leaves_the_queue(
    limited: Limited, controlled: ControlledActions
) -> None:
    client = await limited.client(ONE)
    await client.start(_controlled("first"), run_id="first")
    await controlled.wait_started("first")
    impatient = _controlled("impatient")
    impatient.steps[0].total_timeout.FromMilliseconds(100)
    impatient.steps[0].fallback.action.action = "noop"
    assert states(await client.run(impatient)) == {"impatient": "succeeded"}
    await client.start(_controlled("last"), run_id="last")
    controlled.release("first")
    await controlled.wait_started("last")
    assert controlled.invoked == ["first", "impatient", "last"]  # by its fallback


async def test_a_fallback_waits_at_the_limits_of_its_own_action(
    limited: Limited, controlled: ControlledActions
) -> None:
    client = await limited.client(ONE)
    await client.start(_controlled("first"), run_id="first")
    await controlled.wait_started("first")
    failing = flow(step("failing", "fails"))
    failing.steps[0].fallback.action.action = "controlled"
    failing.steps[0].fallback.action.input.json = "{}"
    await client.start(failing, run_id="failing")
    controlled.release("failing")
    async with client.watch("failing") as stream:
        assert (await _next_waiting(stream, "failing")).cause == WaitCause.WAIT_CAUSE_CONCURRENCY
    controlled.release("first")
    assert states(await client.events("failing")) == {"failing": "succeeded"}


async def test_a_pause_gives_its_place_to_others_and_the_next_attempt_waits_for_one(
    limited: Limited, controlled: ControlledActions
) -> None:
    client = await limited.client("- {actions: fails, concurrency: 1}")
    again = flow(step("again", "fails"))
    again.steps[0].retry.max_attempts = 2
    again.steps[0].retry.initial_backoff.FromMilliseconds(20)
    controlled.release("again")
    await client.start(flow(step("busy", "fails")), run_id="busy")
    await controlled.wait_started("busy")
    await client.start(again, run_id="again")
    controlled.release("busy")
    assert finished(await client.events("again"))["again"].attempts == 2
    assert (await _limits(client, "fails"))[0].in_flight == 0


async def test_an_explanation_names_the_limit(limited: Limited, controlled: ControlledActions) -> None:
    client = await limited.client("- {actions: controlled, concurrency: 1}")
    await client.start(_controlled("a1", "a2"), run_id="blocked")
    await controlled.wait_started("a1")
    explained = await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="blocked"))
    (waits,) = [it for it in explained.steps if it.step_id == "a2"]
    assert (waits.cause, waits.message) == (
        WaitCause.WAIT_CAUSE_CONCURRENCY,
        'the only place of the limit "controlled" is taken',
    )


# Settings.


async def test_a_limit_that_covers_no_action_causes_a_warning(
    limited: Limited, caplog: pytest.LogCaptureFixture
) -> None:
    await limited.client("- {actions: controled, concurrency: 1}")
    assert 'the limit "controled" covers no action of this server; did you mean "controlled"?' in caplog.text


async def test_actions_without_limits_list_none(limited: Limited) -> None:
    client = await limited.client(ONE)
    assert len(await _limits(client, "controlled")) == 1
    assert len(await _limits(client, "noop")) == 0

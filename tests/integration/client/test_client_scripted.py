"""A scripted run decides as a real server: it has the same scheduler and engine."""

from collections.abc import Iterable, Sequence

import pytest

from stepwave import JSON, Client, Event, Fallback, Retry, StepFinished, StepRetrying, StepStarted, Workflow, action
from stepwave._values import payload
from stepwave.testing import replay, run_scripted


@pytest.fixture
def stepwave_actions() -> Iterable[object]:
    @action
    async def flaky() -> str:
        raise ConnectionError("gone")

    @action
    def turn(input: list[JSON]) -> list[JSON]:
        return input[::-1]

    return [flaky, turn]


def mixed() -> Workflow:
    """Return a workflow without races in which steps succeed, are retried, fall back, fail and are skipped."""
    retry = Retry(max_attempts=3, initial_backoff=0.01, jitter=0)
    flow = Workflow("mixed", failure_policy="continue")
    first = flow.step("first", "core.echo", {"city": flow.input["city"]})
    second = flow.step("second", "flaky", {}, depends_on=[first], retry=retry, fallback=Fallback(value="instead"))
    third = flow.step("third", "core.echo", {"got": second.output})
    fourth = flow.step("fourth", "flaky", {}, depends_on=[third], retry=retry)
    flow.step("fifth", "core.echo", depends_on=[fourth])
    flow.step("last", "core.sleep", {"seconds": 0.01, "value": 1}, depends_on=[fourth], join="all_done")
    return flow


def facts_of(events: Iterable[Event]) -> list[Sequence[object]]:
    """Return the facts of events, without times."""
    found: list[Sequence[object]] = []
    for event in events:
        match event:
            case StepStarted():
                found.append((event.kind, event.step_id, event.attempt, event.wave))
            case StepRetrying():
                found.append((event.kind, event.step_id, event.attempt, event.failure.reason, event.fallback))
            case StepFinished():
                result = event.result
                found.append((event.kind, result.step_id, result.state, result.attempts, result.output))
            case _:
                found.append((event.kind,))
    return found


def test_a_scripted_run_and_a_servers_have_the_same_events(stepwave_client: Client) -> None:
    scripted = run_scripted(mixed(), {"flaky": ConnectionError("gone")}, {"city": "Oslo"}, check=False)
    with stepwave_client.stream(mixed(), {"city": "Oslo"}) as run:
        served = list(run)
    assert facts_of(scripted.events) == facts_of(served)
    assert len(served) > 20


def test_numbers_keep_their_digits_as_on_a_server(stepwave_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = Workflow("digits").to_proto()
    flow.steps.add(id="own", action="core.echo").input.json = "[1.10,0.1234567890123456789,1E2,-0]"
    flow.steps.add(id="turned", action="turn").bindings.add().step.id = "own"
    monkeypatch.setattr(payload, "_keeps_digits", True)  # as the command line reads outputs
    scripted = run_scripted(flow, {"turn": lambda input: input[::-1]})
    served = stepwave_client.run(flow)
    assert payload.dump_json(scripted.outputs) == payload.dump_json(served.outputs)
    assert payload.dump_json(served.outputs) == '{"turned":[-0,1E2,0.1234567890123456789,1.10]}'
    replay(stepwave_client.export(served.run_id))

"""Checks of a run that must hold however often its server was killed."""

from collections.abc import Iterator, Mapping, Sequence

from integration.durable.server_process import SideEffects
from integration.server.build import finished, kind_of, reason_of, state_of
from stepwave.v1.event_pb2 import RunEvent
from stepwave.v1.run_pb2 import StepResult

__all__ = ["check_event_order", "check_side_effects"]


def check_event_order(events: Sequence[RunEvent]) -> None:
    """Check that the events of a run are complete: every number once, one end, and no step starts after its end."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [kind_of(event) == "run_finished" for event in events] == [False] * (len(events) - 1) + [True]
    begun: dict[str, int] = {}
    ended: dict[str, int] = {}
    for event in events:
        if event.HasField("step_started"):
            started = event.step_started
            assert started.step_id not in ended, f"{started.step_id} starts after its end"
            assert started.attempt == begun.get(started.step_id, 0) + 1
            begun[started.step_id] = started.attempt
        elif event.HasField("step_finished"):
            result = event.step_finished.result
            assert result.step_id not in ended, f"{result.step_id} ends twice"
            ended[result.step_id] = result.attempts
    planned = [
        step
        for event in events
        if event.HasField("run_started")
        for wave in event.run_started.waves
        for step in wave.step_ids
    ]
    planned += [step.id for event in events for step in event.steps_added.steps]
    planned += _nested(events, ended)
    assert sorted(planned) == sorted(ended)
    assert {step_id: attempts for step_id, attempts in ended.items() if attempts} == begun


def _nested(events: Sequence[RunEvent], ended: Mapping[str, int]) -> Iterator[str]:
    """Yield the ids of the steps that steps became. Those of an inline workflow are not in the events: it has some."""
    for event in events:
        expanded = event.step_expanded
        if expanded.HasField("item_count"):
            yield from (f"{expanded.step_id}[{item}]" for item in range(expanded.item_count))
        elif expanded.HasField("workflow"):
            yield from (f"{expanded.step_id}/{step.id}" for step in expanded.workflow.steps)
        elif expanded.step_id:
            prefix = f"{expanded.step_id}/"
            inner = [step_id for step_id in ended if step_id.startswith(prefix)]
            own = [step_id for step_id in inner if not set(step_id[len(prefix) :]) & {"/", "["}]
            assert own, f"{expanded.step_id} has no steps"
            yield from own


def check_side_effects(effects: SideEffects, run_id: str, events: Sequence[RunEvent]) -> None:
    """Check that no attempt ran twice, without a number in the events, or after its step's end."""
    expanded = {event.step_expanded.step_id for event in events if event.HasField("step_expanded")}
    for step_id, result in finished(events).items():
        made = effects.of(run_id, step_id)
        attempts = [attempt for attempt, _ in made]
        assert attempts == sorted(set(attempts)), f"{run_id}/{step_id} ran twice: {attempts}"
        assert not attempts or attempts[-1] <= result.attempts, f"{run_id}/{step_id} ran after its end: {attempts}"
        own = f"default/{run_id}/{step_id}"
        assert {key for _, key in made} <= ({own, f"{own}/fallback"} if result.HasField("original_failure") else {own})
        if _answered(result) and not (step_id in expanded or result.action == "core.wait"):
            assert attempts[-1:] == [result.attempts], f"{run_id}/{step_id} ended without having run"


def _answered(result: StepResult) -> bool:
    """Return whether the last attempt of a step ended by itself. Under a fixed fallback value it may not have."""
    if result.HasField("original_failure") and result.original_failure.attempt == result.attempts:
        return False
    return state_of(result.state) == "succeeded" or (
        result.HasField("failure") and reason_of(result.failure) == "action_error"
    )

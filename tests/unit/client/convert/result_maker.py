"""A result with the fields that a test gives it."""

from datetime import UTC, datetime, timedelta

from stepwave import Counts, RunResult, State

__all__ = ["NOON", "result"]

NOON = datetime(2026, 1, 2, 12, 0, 0, 123_457, tzinfo=UTC)


def result(state: State = State.SUCCEEDED, **given: object) -> RunResult:
    fields: dict[str, object] = {
        "run_id": "r",
        "workflow_name": "w",
        "state": state,
        "outputs": {},
        "steps": {},
        "failures": (),
        "failure_count": 0,
        "create_time": NOON,
        "start_time": NOON,
        "end_time": NOON + timedelta(seconds=2),
        "counts": Counts(0, 0, 1, 0, 0, 0),
        **given,
    }
    return RunResult(**fields)  # type: ignore[arg-type]  # fields by name

"""Short words for workflows, and for what happened to them."""

from typing import assert_never

from stepwave_server.core.messages import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepFinished,
    StepRetrying,
    StepsAdded,
    StepStarted,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import (
    Binding,
    FailurePolicy,
    FromInput,
    Join,
    OnInterrupt,
    Payload,
    Scheduling,
    Step,
    Workflow,
)
from stepwave_server.core.state import SECOND

__all__ = ["NOWHERE", "brief", "flow", "step"]

NOWHERE = Binding("", FromInput("/nowhere"))
"""A binding that has no value."""


def step(
    step_id: str,
    *depends_on: str,
    join: Join = Join.ALL,
    allow_failure: bool = False,
    timeout: int | None = None,
    payload: Payload | None = None,
    bindings: tuple[Binding, ...] = (),
    on_interrupt: OnInterrupt = OnInterrupt.RETRY,
) -> Step:
    """Return a step; `timeout` is in seconds."""
    nanoseconds = None if timeout is None else timeout * SECOND
    return Step(step_id, "echo", depends_on, payload, bindings, nanoseconds, join, allow_failure, on_interrupt)


def flow(
    *steps: Step,
    go_on: bool = False,
    by_waves: bool = False,
    max_parallelism: int = 0,
    timeout: int | None = None,
    outputs: tuple[str, ...] = (),
) -> Workflow:
    """Return a workflow; `go_on` and `by_waves` choose what is not the default, `timeout` is in seconds."""
    return Workflow(
        name="flow",
        steps=steps,
        failure_policy=FailurePolicy.CONTINUE if go_on else FailurePolicy.FAIL_FAST,
        scheduling=Scheduling.WAVE if by_waves else Scheduling.EAGER,
        max_parallelism=max_parallelism,
        timeout=None if timeout is None else timeout * SECOND,
        outputs=outputs,
    )


def brief(event: Event) -> str:
    """Return an event in a few words, as `a started` or `wave 0 finished`."""
    match event:
        case StepStarted():
            return f"{event.step_id} started"
        case StepRetrying():
            return f"{event.step_id} retrying"
        case StepFinished():
            return f"{event.step_id} {event.state.name.lower()}"
        case WaveStarted():
            return f"wave {event.wave} started"
        case WaveFinished():
            return f"wave {event.wave} finished"
        case RunStarted():
            return "run started"
        case StepsAdded():
            ids = "".join(f" {step.id}" for step in event.steps)
            return f"added{ids}{', sealed' if event.sealed else ''}"
        case RunStopping():
            return "run stopping"
        case RunFinished():
            return f"run {event.state.name.lower()}"
        case _:
            assert_never(event)

"""Short builders for workflows, and short descriptions of events."""

from typing import assert_never

from stepwave_server.core.messages import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepExpanded,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepsReused,
    StepStarted,
    StepStopping,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import (
    SECOND,
    WORKFLOW_ACTION,
    Binding,
    FailurePolicy,
    FallbackAction,
    ForEach,
    FromInput,
    Join,
    OnInterrupt,
    Payload,
    Retry,
    Scheduling,
    Step,
    Workflow,
)

__all__ = ["NOWHERE", "brief", "flow", "retry", "step"]

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
    retry: Retry | None = None,
    total_timeout: int | None = None,
    fallback: Payload | FallbackAction | None = None,
    when: str = "",
    over: str | None = None,
    at_once: int = 0,
    body: Workflow | None = None,
    action: str = "echo",
) -> Step:
    """Return a step; `timeout` and `total_timeout` are in seconds.

    `over` is a literal list, whose children run `at_once`. `body` is a nested workflow. A condition holds if it is
    `true`.
    """
    return Step(
        step_id,
        WORKFLOW_ACTION if body is not None else action,
        depends_on,
        payload,
        bindings,
        _nanos(timeout),
        join,
        allow_failure,
        on_interrupt,
        retry,
        _nanos(total_timeout),
        fallback,
        when=when,
        for_each=None if over is None else ForEach(over, at_once),
        workflow=body,
    )


def _nanos(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * SECOND


def retry(times: int, *, pause: int = 1, jitter: float = 0.0, longest: int | None = None, factor: float = 2.0) -> Retry:
    """Return a retry policy of `times` attempts, without jitter by default; `pause` and `longest` are in seconds."""
    most = max(pause, 30) if longest is None else longest
    return Retry(times, pause * SECOND, factor, most * SECOND, jitter)


def flow(
    *steps: Step,
    go_on: bool = False,
    by_waves: bool = False,
    max_parallelism: int = 0,
    timeout: int | None = None,
    outputs: tuple[str, ...] = (),
    retry: Retry | None = None,
) -> Workflow:
    """Return a workflow; `go_on`: continue after failures, `by_waves`: schedule by waves, `timeout`: in seconds."""
    return Workflow(
        name="flow",
        steps=steps,
        failure_policy=FailurePolicy.CONTINUE if go_on else FailurePolicy.FAIL_FAST,
        scheduling=Scheduling.WAVE if by_waves else Scheduling.EAGER,
        max_parallelism=max_parallelism,
        timeout=_nanos(timeout),
        outputs=outputs,
        retry=retry,
    )


def brief(event: Event) -> str:  # noqa: C901 - one case for each event
    """Return an event in a few words, as `a started` or `wave 0 finished`."""
    match event:
        case StepStarted():
            return f"{event.step_id} started"
        case StepRetrying():
            return f"{event.step_id} retrying"
        case StepReady():
            return f"{event.step_id} ready"
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
        case StepExpanded():
            return f"{event.step_id} expanded"
        case StepStopping():
            return f"{event.step_id} stopping"
        case StepsReused():
            return f"reused {' '.join(step_id for step_id, _ in event.outputs)}"
        case RunStopping():
            return "run stopping"
        case RunFinished():
            return f"run {event.state.name.lower()}"
        case _:
            assert_never(event)

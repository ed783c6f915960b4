"""Steps that an action adds to its own run: from the SDK's forms, and errors as the SDK's."""

from stepwave._files import steps_of
from stepwave.exceptions import FailedPrecondition, InvalidWorkflow, ServerUnavailable, StepwaveError, Violation
from stepwave_server.core.messages import AddSteps
from stepwave_server.core.validate import Violation as Problem
from stepwave_server.engine.errors import EngineError, RunNotOpen, StepsRefused
from stepwave_server.wire.workflows.workflow import Parsed, parse_step

__all__ = ["parse_action_steps", "sdk_error"]


def parse_action_steps(given: object, max_payload_bytes: int, *, seal: bool) -> tuple[AddSteps, list[Problem]]:
    """Return the steps that an action gives, and their problems.

    Args:
        given: A workflow under construction, or mappings of the form that a workflow file has.
        max_payload_bytes: Bytes that a payload may have.
        seal: Whether they are the last ones.

    Raises:
        InvalidWorkflow: A mapping is not a step.
        TypeError: The steps are neither.
        ValueError: JSON cannot hold them, or the workflow has options of its own.
    """
    parsed = Parsed(max_payload_bytes)
    messages = steps_of(given)  # type: ignore[arg-type]  # from an action: it checks the type itself
    steps = tuple(parse_step(step, f"steps[{index}]", parsed) for index, step in enumerate(messages))
    return AddSteps(steps, seal), [*parsed.invalid, *parsed.unsupported]


def sdk_error(error: EngineError) -> StepwaveError:
    """Return an error as the exception that a client would get."""
    match error:
        case StepsRefused():
            violations = [Violation(it.field, it.description, it.reason) for it in error.violations]
            return InvalidWorkflow(str(error), violations, reason="INVALID_ARGUMENT")
        case RunNotOpen():
            return FailedPrecondition(str(error), reason="RUN_NOT_OPEN")
    return ServerUnavailable(str(error))

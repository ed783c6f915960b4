"""What the core asks to put a step's input together; the answer comes from outside, and is pure."""

from collections.abc import Mapping
from typing import Protocol

from .model import Payload, Reason, Step

__all__ = ["EvaluationFailed", "Evaluator"]


class EvaluationFailed(Exception):
    """Raised when a binding or condition has no value, or too large a one. The message is for the step's failure.

    Attributes:
        reason: The kind of failure.
    """

    def __init__(self, message: str, reason: Reason = Reason.INVALID_INPUT) -> None:
        super().__init__(message)
        self.reason = reason


class Evaluator(Protocol):
    """Evaluates bindings. Must be pure: equal arguments, equal answers."""

    def input_of(self, step: Step, run_input: Payload, outputs: Mapping[str, Payload | None]) -> Payload:
        """Return what the step's action gets.

        Args:
            step: The step, whose join is met.
            run_input: The run's input.
            outputs: The outputs of its dependencies by id, in order; `None` for one that did not succeed.

        Raises:
            EvaluationFailed: A binding has no value, or the input is too large.
        """
        ...

"""What the core asks to put a step's input together; the answer comes from outside, and is pure."""

from collections.abc import Mapping
from typing import Protocol

from .model import Payload, Step

__all__ = ["EvaluationFailed", "Evaluator"]


class EvaluationFailed(Exception):
    """Raised when a binding or condition has no value. The message is for the step's failure."""


class Evaluator(Protocol):
    """Evaluates bindings. Must be pure: equal arguments, equal answers."""

    def input_of(self, step: Step, run_input: Payload, outputs: Mapping[str, Payload | None]) -> Payload:
        """Return what the step's action gets.

        Args:
            step: The step, whose join is met.
            run_input: The run's input.
            outputs: The outputs of its dependencies by id, in order; `None` for one that did not succeed.

        Raises:
            EvaluationFailed: A binding has no value.
        """
        ...

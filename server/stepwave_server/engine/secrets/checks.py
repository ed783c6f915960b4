"""Checks of the secrets that steps use, before a run has the steps."""

from collections.abc import Iterable, Iterator, Sequence

from stepwave_server.core.model import Binding, FallbackAction, FromSecret, Step
from stepwave_server.core.validate import SECRET_NAME, Violation

from .store import Secrets, unavailable

__all__ = ["secret_violations"]


def secret_violations(
    steps: Iterable[tuple[int, Step]], secrets: Secrets, namespace: str, path: str = "steps"
) -> Iterator[Violation]:
    """Yield a problem for every secret that a step may not use, at every depth.

    Args:
        steps: The steps, each with its index.
        secrets: The secrets of this server.
        namespace: The namespace of the run.
        path: The place of the steps in problems.
    """
    for index, step in steps:
        place = f"{path}[{index}]"
        if step.bindings:
            yield from _violations(step.bindings, step.action, secrets, namespace, place)
        if isinstance(step.fallback, FallbackAction):
            yield from _fallback_violations(step, step.fallback, secrets, namespace, f"{place}.fallback.action")
        if step.workflow is not None:
            nested = enumerate(step.workflow.steps)
            yield from secret_violations(nested, secrets, namespace, f"{place}.workflow.steps")


def _violations(
    bindings: Sequence[Binding], action: str, secrets: Secrets, namespace: str, place: str
) -> Iterator[Violation]:
    for position, name in _missing(bindings, action, secrets, namespace):
        yield Violation(f"{place}.bindings[{position}].secret", unavailable(name, action, namespace))


def _fallback_violations(
    step: Step, fallback: FallbackAction, secrets: Secrets, namespace: str, place: str
) -> Iterator[Violation]:
    """Yield the problems of a fallback. Without an input of its own, it takes over that of the step."""
    if fallback.input is not None or fallback.bindings:
        yield from _violations(fallback.bindings, fallback.action, secrets, namespace, place)
        return
    for _, name in _missing(step.bindings, fallback.action, secrets, namespace):
        yield Violation(f"{place}.action", unavailable(name, fallback.action, namespace))


def _missing(bindings: Sequence[Binding], action: str, secrets: Secrets, namespace: str) -> Iterator[tuple[int, str]]:
    """Yield the position and the name of every secret that an action may not use. Malformed names are left out."""
    for binding in bindings:
        match binding.source:
            case FromSecret(name) if SECRET_NAME.fullmatch(name) and not secrets.allow(name, action, namespace):
                yield binding.position, name

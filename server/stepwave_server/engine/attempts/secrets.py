"""Puts the values of secrets into the input of an attempt, directly before its action gets it."""

from collections.abc import Sequence

from stepwave._files import steps_of
from stepwave.v1 import workflow_pb2
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.redaction import Redactor
from stepwave_server.core.model import Payload, Reason, SecretPlace, payload_size
from stepwave_server.engine.evaluation.json_evaluator import with_texts
from stepwave_server.engine.secrets.store import Secrets, unavailable

__all__ = ["check_no_secrets", "fill_secrets"]


async def fill_secrets(
    payload: Payload,
    places: Sequence[SecretPlace],
    secrets: Secrets,
    *,
    action: str,
    namespace: str,
    max_bytes: int,
) -> tuple[Payload, Redactor]:
    """Return an input with the values of its secrets, and what keeps them out of all that the attempt gives out.

    Permissions are checked again: a host of Temporal has a file of its own, and a server may have a new one.

    Args:
        payload: The input, with a placeholder for each secret.
        places: The places of the secrets.
        secrets: The secrets of this process.
        action: The action.
        namespace: The namespace of the run.
        max_bytes: Bytes that the input may have.

    Raises:
        ActionFailed: A secret is not available, or has no usable value, or the input is too large with it.
    """
    names = dict.fromkeys(place.name for place in places)
    for name in names:
        if not secrets.allow(name, action, namespace):
            raise ActionFailed(Reason.UNAUTHORIZED, unavailable(name, action, namespace))
    values = await secrets.values(names)
    _check(sum(len(values[place.name]) for place in places), max_bytes)  # before they take up memory
    filled = with_texts(payload, {place.target: values[place.name] for place in places})
    _check(payload_size(filled), max_bytes)
    return filled, Redactor(values)


def _check(size: int, bound: int) -> None:
    if size > bound:
        message = f"its input would have {size:,} bytes or more with its secrets, and {bound:,} are allowed"
        raise ActionFailed(Reason.RESOURCE_EXHAUSTED, message)


def check_no_secrets(steps: object, redactor: Redactor) -> list[workflow_pb2.Step]:
    """Return the steps that an action adds to its run, after the check that no value of a secret is in them.

    Raises:
        ValueError: There is one, or the steps are no steps.
        TypeError, WorkflowFileError: They are no steps.
    """
    messages = steps_of(steps)  # type: ignore[arg-type]  # from an action: it checks the type itself
    for message in messages:
        if mark := redactor.finds(message.SerializeToString()):
            raise ValueError(f"step {message.id!r} has the value of a secret in it: bind the {mark[1:-1]} instead")
    return messages

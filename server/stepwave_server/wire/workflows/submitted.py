"""The workflows of submissions, parsed. Small ones are remembered: the same workflow is often run again and again."""

from functools import lru_cache
from typing import NamedTuple

from stepwave.v1 import workflow_pb2
from stepwave_server.core.model import Workflow
from stepwave_server.core.validate import Violation

from .content import digest
from .parsing import Parsed
from .workflow import parse_workflow

__all__ = ["MAX_DIGEST_STEPS", "Submitted", "parse_submitted"]

MAX_DIGEST_STEPS = 1_000
"""Steps up to which a workflow gets its digest at once."""

MAX_REMEMBERED = 64
MAX_REMEMBERED_BYTES = 8 * 1024
"""The number of workflows that are remembered, and the size of each up to which it is."""


class Submitted(NamedTuple):
    """A workflow as it was submitted.

    Attributes:
        definition: Its encoded message.
        workflow: The workflow.
        invalid: Malformed fields.
        unsupported: Fields and values that this server does not support.
        digest: Its digest; empty: it has problems, or is so large that its digest is computed later.
    """

    definition: bytes
    workflow: Workflow
    invalid: tuple[Violation, ...]
    unsupported: tuple[Violation, ...]
    digest: str


def parse_submitted(message: workflow_pb2.Workflow, max_payload_bytes: int) -> Submitted:
    """Return the workflow of a message.

    Args:
        message: The message.
        max_payload_bytes: Bytes that a payload may have.
    """
    definition = message.SerializeToString(deterministic=True)
    if len(definition) > MAX_REMEMBERED_BYTES:
        return _parse(message, definition, max_payload_bytes)
    try:
        return _remembered(definition, max_payload_bytes)
    except _NotRemembered as found:
        return found.submitted


class _NotRemembered(Exception):
    """Raised with a workflow that has problems. The next check may find others: that of a schema has limited time."""

    def __init__(self, submitted: Submitted) -> None:
        super().__init__()
        self.submitted = submitted


@lru_cache(maxsize=MAX_REMEMBERED)
def _remembered(definition: bytes, max_payload_bytes: int) -> Submitted:
    submitted = _parse(workflow_pb2.Workflow.FromString(definition), definition, max_payload_bytes)
    if submitted.invalid or submitted.unsupported:
        raise _NotRemembered(submitted)
    return submitted


def _parse(message: workflow_pb2.Workflow, definition: bytes, max_payload_bytes: int) -> Submitted:
    parsed = Parsed(max_payload_bytes)
    workflow = parse_workflow(message, parsed)
    valid = not (parsed.invalid or parsed.unsupported)  # otherwise its JSON may be malformed
    found = digest(definition) if valid and len(workflow.steps) <= MAX_DIGEST_STEPS else ""
    return Submitted(definition, workflow, tuple(parsed.invalid), tuple(parsed.unsupported), found)

"""`core.fail`: fails, for tests of how a run handles failures."""

from typing import Annotated, Literal

from pydantic import Field

from stepwave._actions.action import action
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import SECOND, Reason

__all__ = ["fail"]

ReasonName = Literal[
    "rate_limited",
    "timeout",
    "unavailable",
    "invalid_input",
    "unauthorized",
    "not_found",
    "action_error",
    "cancelled",
    "interrupted",
    "resource_exhausted",
    "internal",
]


@action("core.fail", idempotent=True)
async def fail(
    message: Annotated[str, Field(description="What the failure says.")] = "failed on request",
    reason: Annotated[ReasonName, Field(description="The kind of failure.")] = "action_error",
    retryable: Annotated[bool, Field(description="Whether another attempt could help.")] = False,
    retry_after: Annotated[
        float | None, Field(ge=0, le=86_400, description="How many seconds to wait before another attempt.")
    ] = None,
) -> None:
    """Fail with a reason and a message."""
    nanos = None if retry_after is None else round(retry_after * SECOND)
    raise ActionFailed(Reason[reason.upper()], message, retryable=retryable, retry_after=nanos)

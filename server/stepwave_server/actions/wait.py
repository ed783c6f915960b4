"""`core.wait`: a step that is completed from outside. The scheduler runs it itself, so its function is never called."""

from stepwave._actions.action import action
from stepwave_server.actions.values import Unread

__all__ = ["wait"]


@action("core.wait", idempotent=True)
async def wait(input: Unread | None = None) -> Unread | None:
    """Wait until someone completes the step: an approval, or a call-back. The input is for them."""
    raise AssertionError("the scheduler runs this action itself")

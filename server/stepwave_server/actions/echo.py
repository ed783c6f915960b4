"""`core.echo`: answers with its input."""

from stepwave._actions.action import action
from stepwave_server.actions.values import Unread

__all__ = ["echo"]


@action("core.echo", idempotent=True)
async def echo(input: Unread | None = None) -> Unread | None:
    """Answer with the input, unchanged."""
    return input

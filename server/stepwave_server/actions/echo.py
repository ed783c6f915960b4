"""`core.echo`: answers with its input."""

from stepwave._actions.action import action

__all__ = ["echo"]


@action("core.echo")
async def echo(input: object = None) -> object:
    """Answer with the input, unchanged."""
    return input

"""The namespace of an attempt."""

from stepwave._actions.context import Context

__all__ = ["namespace_of"]


def namespace_of(context: Context) -> str:
    """Return the namespace of an attempt's run. The idempotency key begins with it, on every server and host."""
    return context.idempotency_key.partition("/")[0]

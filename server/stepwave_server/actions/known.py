"""The protocols of actions as the checks of workflows need them, wherever the actions run."""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from stepwave._actions.action import NEEDS_MCP_SERVERS
from stepwave_server.core.model import Payload
from stepwave_server.core.validate import did_you_mean

__all__ = ["MCP_CALL", "MCP_LIST", "KnownAction", "KnownActions", "covers", "unknown_action"]

MCP_CALL = "mcp.call"
MCP_LIST = "mcp.list"


def unknown_action(name: str, known: Collection[str]) -> str:
    """Return the error message for an unknown name, with a similar name, or what the server needs to have the action.

    Args:
        name: The name.
        known: The names of the actions that there are.
    """
    hint = f": {NEEDS_MCP_SERVERS}" if name in {MCP_CALL, MCP_LIST} else did_you_mean(name, known)
    return f'unknown action "{name}"{hint}'


def covers(pattern: str, action: str) -> bool:
    """Return whether a pattern covers an action. It is the name of an action, or the beginning of names and `*`."""
    return action.startswith(pattern[:-1]) if pattern.endswith("*") else action == pattern


class KnownAction(Protocol):
    """An action that steps may call.

    Attributes:
        name: The name by which steps refer to it.
        description: The first paragraph of its docstring.
        input_schema: A JSON Schema of its input, as JSON text.
        output_schema: A JSON Schema of its output, as JSON text; empty: not known.
        streaming: Whether it answers in chunks.
        idempotent: Whether to run it twice has the same effect as to run it once; false: not known.
        source: Its source, as `module:function`, or `built-in`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class

    @property
    def description(self) -> str: ...  # noqa: D102 - see the class

    @property
    def input_schema(self) -> str: ...  # noqa: D102 - see the class

    @property
    def output_schema(self) -> str: ...  # noqa: D102 - see the class

    @property
    def streaming(self) -> bool: ...  # noqa: D102 - see the class

    @property
    def idempotent(self) -> bool: ...  # noqa: D102 - see the class

    @property
    def source(self) -> str: ...  # noqa: D102 - see the class

    def problems(self, payload: Payload, targets: Sequence[str]) -> list[str]:
        """Return the problems of an input that no values of its bindings, at these JSON Pointers, can solve."""
        ...


class KnownActions(Protocol):
    """The actions that steps may call. Checks read them on threads, too."""

    def __iter__(self) -> Iterator[KnownAction]:
        """Iterate over the actions, by name."""
        ...

    def get(self, name: str) -> KnownAction | None:
        """Return the action of a name; `None` if there is none."""
        ...

    def unknown(self, name: str) -> str:
        """Return the error message for an unknown name, with a similar name if there is one."""
        ...

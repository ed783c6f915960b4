"""The protocols of actions as the checks of workflows need them, wherever the actions run."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from stepwave_server.core.model import Payload

__all__ = ["KnownAction", "KnownActions", "covers"]


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

"""Makes pydantic accept `typing.TypedDict` before Python 3.12. Imports pydantic only when pydantic asks for a schema.

Pydantic rejects it there for lack of information on required keys. It gets an equal class of `typing_extensions`
instead, which pydantic needs itself.
"""

import sys
import typing
from dataclasses import is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["accept_typed_dicts"]

_REQUIREMENTS = (typing.Required, typing.NotRequired)


def accept_typed_dicts(hint: object) -> None:
    """Make pydantic accept the `typing.TypedDict`s in a type, also inside other types.

    Raises:
        Exception: The hint of a field cannot be evaluated, for example because a name is unknown.
    """
    if sys.version_info < (3, 12):
        _accept(hint, set())


def _accept(hint: object, seen: set[type]) -> None:
    for part in typing.get_args(hint):
        _accept(part, seen)
    if not isinstance(hint, type) or hint in seen:
        return
    seen.add(hint)
    is_typed_dict = typing.is_typeddict(hint)
    if is_typed_dict and "__get_pydantic_core_schema__" not in vars(hint):
        hint.__get_pydantic_core_schema__ = classmethod(_schema_of_equal)  # type: ignore[attr-defined]  # pydantic's hook
    if is_typed_dict or is_dataclass(hint) or hasattr(hint, "_field_defaults"):
        for inner in typing.get_type_hints(hint, include_extras=True).values():
            _accept(inner, seen)


def _schema_of_equal(kind: Any, _source: object, handler: "GetCoreSchemaHandler") -> "CoreSchema":
    return handler.generate_schema(_equal_class(kind))


@cache
def _equal_class(kind: Any) -> Any:
    """Return the equal `typing_extensions.TypedDict` of one of `typing`. Cached, because it may refer to itself."""
    from typing import NotRequired  # pydantic needs it, the SDK does not

    from typing_extensions import TypedDict

    fields = {
        name: hint
        if typing.get_origin(hint) in _REQUIREMENTS or name not in kind.__optional_keys__
        else NotRequired[hint]
        for name, hint in typing.get_type_hints(kind, include_extras=True).items()
    }
    make: Any = TypedDict
    equal = make(kind.__name__, fields)
    equal.__doc__ = kind.__doc__
    if hasattr(kind, "__pydantic_config__"):
        equal.__pydantic_config__ = kind.__pydantic_config__
    return equal

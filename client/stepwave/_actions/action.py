"""What an action is: the `action` mark, the `Context` it may ask for, explicit answers of streams, and its failures."""

import inspect
import re
from collections.abc import Callable
from types import MethodType
from typing import TypeAlias, TypeVar, overload

__all__ = ["ActionLike", "action", "action_name", "name_of"]

# What a step does: a marked function or class, or the name by which the server knows it.
ActionLike: TypeAlias = Callable[..., object] | str

_MARK = "__stepwave_action__"
_WRAPPERS = (staticmethod, classmethod)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")

Target = TypeVar("Target", bound=Callable[..., object])


@overload
def action(target: Target, /) -> Target: ...


@overload
def action(name: str = "", /) -> Callable[[Target], Target]: ...


def action(target: Target | str = "", /) -> Target | Callable[[Target], Target]:
    """Mark a function, or a class with `invoke` and/or `stream`, as an action.

    The function or class itself is returned unchanged: it can be called and tested as before. Parameters are filled
    from the keys of the step's input by name and checked against their type hints; one named `input` takes the whole
    input; one annotated `Context` gets the attempt's context. Async functions run on the server's event loop, others on
    threads; generators, async or not, answer in chunks.

    With a name of their own, objects that can be called, or have `invoke` or `stream`, are actions as well:
    `action("search")(functools.partial(find, limit=3))`.

    Args:
        target: What to mark, when used as `@action`; its name is the function's or class's own, as for `@action()`.
        name: The action's name, when used as `@action("name")`: `[A-Za-z_][A-Za-z0-9_.-]{0,127}`.

    Raises:
        TypeError: The target is nothing that can be an action, has no name of its own, or cannot be marked.
        ValueError: The name is malformed.
    """
    if target == "":
        return lambda marked: _mark(marked, _own_name(marked))
    if isinstance(target, str):
        name = _checked_name(target)
        return lambda marked: _mark(marked, name)
    return _mark(target, _own_name(target))


def _own_name(target: object) -> str:
    name = getattr(target, "__name__", None)
    if isinstance(target, _WRAPPERS) or not _is_runnable(target):
        raise _no_action(target)
    if not isinstance(name, str):
        raise TypeError(f'an object of {type(target).__name__} has no name of its own: write action("name")(…)')
    return _checked_name(name)


def _no_action(target: object) -> TypeError:
    if isinstance(target, _WRAPPERS):
        return TypeError(f"put @action below @{type(target).__name__}, on the function itself")
    return TypeError(f"an action is a function or a class, or an object with a name, got {type(target).__name__}")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"malformed action name {name!r}: want {_NAME.pattern}")
    return name


def _is_runnable(target: object) -> bool:
    return callable(target) or hasattr(target, "invoke") or hasattr(target, "stream")


def _mark(target: Target, name: str) -> Target:
    if inspect.isclass(target):
        if not (hasattr(target, "invoke") or hasattr(target, "stream")):
            raise TypeError(f"class {target.__name__} has neither `invoke` nor `stream`")
    elif isinstance(target, _WRAPPERS) or not _is_runnable(target):
        raise _no_action(target)
    try:
        setattr(target, _MARK, name)
    except Exception as error:  # whatever an object does where it is given an attribute
        kind = type(target).__name__
        raise TypeError(f"an object of {kind} cannot be marked; functools.partial(…) of it can") from error
    return target


def action_name(target: object) -> str | None:
    """Return the name that `action` gave to a target itself; `None` if it is not marked.

    A mark is not inherited: neither by subclasses nor by instances of a marked class.
    """
    try:
        if isinstance(target, MethodType):
            target = target.__func__
        own = type.__getattribute__(target, "__dict__") if isinstance(target, type) else vars(target)
    except Exception:  # an object without attributes, or one that stands for another and has none now
        return None
    name = own.get(_MARK)
    return name if isinstance(name, str) else None


def name_of(action: ActionLike) -> str:
    """Return the name of an action that is given by its name or as the marked function or class itself.

    Raises:
        TypeError: It is not marked.
    """
    if isinstance(action, str):
        return action
    name = action_name(action)
    if name is None:
        raise TypeError(f"{action!r} is not an action: mark it with @stepwave.action")
    return name

"""The `action` decorator, which marks functions, classes and objects as actions."""

import inspect
import re
from collections.abc import Callable
from types import MethodType
from typing import TypeAlias, TypeVar, overload

__all__ = ["UNKNOWN_ACTION", "ActionLike", "action", "action_name", "is_idempotent", "is_same_target", "name_of"]

# A marked function or class, or the name of an action of the server.
ActionLike: TypeAlias = Callable[..., object] | str

UNKNOWN_ACTION = "UNKNOWN_ACTION"
"""The reason of a violation: the server has no action of this name."""

_MARK = "__stepwave_action__"
_IDEMPOTENT = "__stepwave_idempotent__"
_WRAPPERS = (staticmethod, classmethod)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")

Target = TypeVar("Target", bound=Callable[..., object])


@overload
def action(target: Target, /) -> Target: ...


@overload
def action(name: str = "", /, *, idempotent: bool = False) -> Callable[[Target], Target]: ...


def action(target: Target | str = "", /, *, idempotent: bool = False) -> Target | Callable[[Target], Target]:
    """Mark a function, or a class with `invoke` and/or `stream`, as an action.

    The function or class is returned unchanged, so it can be called and tested as before. Each parameter gets the value
    of the same key of the step's input, checked against its type hint. A parameter named `input` gets the whole input.
    One annotated `Context` gets the attempt's context. Async functions run on the server's event loop, others on
    threads. Generators, async or not, answer in chunks.

    An object that can be called, or has `invoke` or `stream`, is an action too if it is given a name:
    `action("search")(functools.partial(find, limit=3))`.

    Args:
        target: The function or class, when used as `@action`. Its own name is the action's, as for `@action()`.
        name: The action's name, when used as `@action("name")`: `[A-Za-z_][A-Za-z0-9_.-]{0,127}`.
        idempotent: Whether to run it twice with the same input has the same effect as to run it once. `ListActions`
            tells it to callers; the server retries and resumes steps of all actions.

    Raises:
        TypeError: The target cannot be an action, has no name of its own, or cannot be marked.
        ValueError: The name is malformed.
    """
    if target == "":
        return lambda marked: _mark(marked, _own_name(marked), idempotent=idempotent)
    if isinstance(target, str):
        name = _checked_name(target)
        return lambda marked: _mark(marked, name, idempotent=idempotent)
    return _mark(target, _own_name(target), idempotent=idempotent)


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


def _mark(target: Target, name: str, *, idempotent: bool) -> Target:
    if inspect.isclass(target):
        if not (hasattr(target, "invoke") or hasattr(target, "stream")):
            raise TypeError(f"class {target.__name__} has neither `invoke` nor `stream`")
    elif isinstance(target, _WRAPPERS) or not _is_runnable(target):
        raise _no_action(target)
    try:
        setattr(target, _MARK, name)
        setattr(target, _IDEMPOTENT, idempotent)
    except Exception as error:  # an object may raise anything from `__setattr__`
        kind = type(target).__name__
        raise TypeError(f"an object of {kind} cannot be marked; functools.partial(…) of it can") from error
    return target


def action_name(target: object) -> str | None:
    """Return the name that `action` gave to a target; `None` if it is not marked.

    Subclasses and instances do not inherit the mark of a class.
    """
    name = _marked(target, _MARK)
    return name if isinstance(name, str) else None


def is_idempotent(target: object) -> bool:
    """Return whether `action` was told that a target is idempotent."""
    return _marked(target, _IDEMPOTENT) is True


def _marked(target: object, mark: str) -> object:
    """Return a mark of a target itself; `None`: it has none."""
    try:
        if isinstance(target, MethodType):
            target = target.__func__
        own = type.__getattribute__(target, "__dict__") if isinstance(target, type) else vars(target)
    except Exception:  # an object without attributes, or a proxy without a target
        return None
    return own.get(mark)


def is_same_target(one: object, other: object) -> bool:
    """Return whether two targets are the same. Methods are the same if their objects are identical."""
    if isinstance(one, MethodType) and isinstance(other, MethodType):
        return one.__self__ is other.__self__ and one.__func__ is other.__func__
    return one is other


def name_of(action: ActionLike) -> str:
    """Return the name of an action, given as its name or as the marked function or class.

    Raises:
        TypeError: The function or class is not marked.
    """
    if isinstance(action, str):
        return action
    name = action_name(action)
    if name is None:
        raise TypeError(f"{action!r} is not an action: mark it with @stepwave.action")
    return name

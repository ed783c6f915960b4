"""What an action is: the `action` mark, the `Context` it may ask for, explicit answers of streams, and its failures."""

import inspect
import logging
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MethodType
from typing import Any, TypeAlias, TypeVar, overload

from ._payload import JSON, Blob
from ._results import FailureReason
from ._time import Seconds, to_seconds

__all__ = ["ActionError", "ActionLike", "Answer", "Context", "action", "action_name", "name_of"]

# What a step does: a marked function or class, or the name by which the server knows it.
ActionLike: TypeAlias = Callable[..., object] | str

_MARK = "__stepwave_action__"
_WRAPPERS = (staticmethod, classmethod)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")

Target = TypeVar("Target", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Answer:
    """The explicit answer of a streaming action; without one, a stream's chunks are its answer.

    Yield it last: `yield Answer({"words": 12})`. What is yielded after it is an error.
    """

    value: JSON | Blob


_PERMANENT = frozenset({FailureReason.INVALID_INPUT, FailureReason.UNAUTHORIZED, FailureReason.NOT_FOUND})


class ActionError(Exception):
    """Raise it in an action to say what kind of failure it is, and whether another attempt could help.

    Other exceptions are judged by their kind: time-outs, broken connections and HTTP answers by what they are, all else
    as an `action_error` that is worth another attempt. Whether one is made is for the step's policy to say. An
    exception that is raised `from` this one fails the step as this one does.

    Attributes:
        reason: The kind of failure.
        retryable: Whether another attempt could help; by default, `invalid_input`, `unauthorized` and `not_found` are
            permanent, and others are not. What is permanent is never tried again.
        retry_after: How long to wait before it at least; `None`: as long as the policy says.

    Raises:
        ValueError: The reason is not one, or the wait is negative, infinite, or too long.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: FailureReason | str = FailureReason.ACTION_ERROR,
        retryable: bool | None = None,
        retry_after: Seconds | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = FailureReason(reason)
        self.retryable = self.reason not in _PERMANENT if retryable is None else retryable
        try:
            self.retry_after = None if retry_after is None else timedelta(seconds=to_seconds(retry_after))
        except OverflowError as error:
            raise ValueError(f"retry_after is too long: {retry_after!r}") from error
        if self.reason is FailureReason.UNKNOWN:
            raise ValueError("a failure has a reason")
        if self.retry_after is not None and self.retry_after < timedelta(0):
            raise ValueError(f"retry_after must not be negative, got {retry_after!r}")


class Context:
    """What an attempt knows of itself, and its line back to the run's watchers.

    An action gets it by annotating a parameter: `async def search(query: str, context: Context)`. Every method may be
    called from any thread, and none blocks.

    Attributes:
        run_id: The run.
        step_id: The step.
        attempt: The attempt, from 1.
        idempotency_key: Equal for all attempts of the step, and unique to it: hand it to services that take one. A
            fallback has one of its own.
        deadline: When the attempt's timeout passes, in UTC; `None` if it has none.
        logger: A logger whose records carry `run_id`, `step_id` and `attempt`.
    """

    __slots__ = ("_emit", "_progress", "attempt", "deadline", "idempotency_key", "logger", "run_id", "step_id")

    def __init__(
        self,
        *,
        run_id: str,
        step_id: str,
        attempt: int = 1,
        idempotency_key: str = "",
        deadline: datetime | None = None,
        emit: Callable[[JSON | Blob], None] | None = None,
        progress: Callable[[float | None, str], None] | None = None,
    ) -> None:
        self.run_id = run_id
        self.step_id = step_id
        self.attempt = attempt
        self.idempotency_key = idempotency_key or f"default/{run_id}/{step_id}"
        self.deadline = deadline
        self._emit = emit
        self._progress = progress
        facts = {"run_id": run_id, "step_id": step_id, "attempt": attempt}
        self.logger = _AttemptLogger(logging.getLogger("stepwave.action"), facts)

    def emit(self, chunk: JSON | Blob) -> None:
        """Send a part of the answer to whoever watches. Chunks are not kept, and a slow watcher may miss some.

        Raises:
            ValueError: JSON cannot hold the chunk.
        """
        if self._emit is not None:
            self._emit(chunk)

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Say how much is done, from 0 to 1 (`None`: unknown), and in a few words what is going on.

        Raises:
            ValueError: The fraction is not between 0 and 1.
            TypeError: The fraction is no number, or the message no text.
        """
        share = None if fraction is None else float(fraction)
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
        if not isinstance(message, str):
            raise TypeError(f"message must be a string, got {type(message).__name__}")
        if self._progress is not None:
            self._progress(share, message)


class _AttemptLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the attempt's ids to every record, beside what the caller adds."""

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


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

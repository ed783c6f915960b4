"""Hostile exceptions: the attempt fails at once, with as much of the exception as can be read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwave import ActionError
from stepwave_server.actions.error_classification import MAX_WAIT, classify
from stepwave_server.actions.failures import failure_of
from stepwave_server.core.messages import StepFinished
from stepwave_server.core.model import SECOND, Reason, State
from stepwave_server.wire.events.decode import to_event
from stepwave_server.wire.events.encode import Encoder

READ = (
    "response",
    "status_code",
    "status",
    "code",
    "headers",
    "reason",
    "retryable",
    "retry_after",
    "exceptions",
    "__cause__",
    "__context__",
    "__traceback__",
    "__notes__",
    "__suppress_context__",
    "__class__",
    "__dict__",
)
"""Attributes of exceptions that may be read."""


class Endless(Mapping[str, str]):
    """An endless mapping of header fields."""

    def __getitem__(self, name: str) -> str:
        return name

    def __iter__(self) -> Iterator[str]:
        return map(str, count())

    def __len__(self) -> int:
        return 1


class Response:
    """An HTTP response, as HTTP clients have it."""

    def __init__(self, status_code: object, headers: object) -> None:
        self.status_code = status_code
        self.headers = headers


def _raises(error: BaseException) -> property:
    def read(_self: object) -> NoReturn:
        raise error

    return property(read)


def _returns(value: object) -> property:
    return property(lambda _self: value)


def _raising_method(error: BaseException) -> Callable[..., object]:
    def method(*_args: object) -> NoReturn:
        raise error

    return method


class Meta(type):
    """A metaclass whose classes raise for every attribute, even their names."""

    def __getattribute__(cls, name: str) -> object:
        raise SystemExit(3)


errors = st.sampled_from([ValueError("no"), SystemExit(3), KeyboardInterrupt(), RecursionError(), MemoryError()])
headers = st.one_of(
    st.just(Endless()),
    st.dictionaries(st.sampled_from(["Retry-After", "DATE", "\ud800"]), st.text() | st.just("9" * 400) | st.integers()),
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),
    st.binary(),
    st.timedeltas(),
    st.just(timedelta.max),
    st.builds(Response, st.integers(300, 700) | st.text(), headers),
    st.just(object()),
    st.just(int),
    st.just(Endless()),
)
attributes = st.dictionaries(
    st.sampled_from(READ), st.one_of(st.builds(_raises, errors), st.builds(_returns, values), values), max_size=6
)
methods = st.dictionaries(
    st.sampled_from(["__str__", "__repr__", "__getattribute__", "__eq__", "__hash__", "__bool__"]),
    st.builds(_raising_method, errors),
    max_size=3,
)


@dataclass(repr=False)
class Recipe:
    """A recipe for a hostile exception. The test creates it, because Hypothesis would read its attributes."""

    kind: type
    name: str
    base: type[BaseException]
    names: dict[str, object]
    text: str
    wrapper: str

    def make(self) -> BaseException:
        error: BaseException = self.kind(self.name, (self.base,), self.names)(self.text)
        if self.wrapper == "nothing":
            return error
        outer = RuntimeError("outer")
        outer.__cause__ = error
        return outer if self.wrapper == "cause" else BaseExceptionGroup("several", [ValueError(), outer])


recipes = st.builds(
    Recipe,
    st.sampled_from([type, Meta]),
    st.sampled_from(["TimeoutException", "HTTPStatusError", "Odd"]),
    st.sampled_from([Exception, BaseException, TimeoutError, ActionError, ConnectionError]),
    st.builds(
        lambda *parts: {name: value for part in parts for name, value in part.items()},
        st.fixed_dictionaries({"__module__": st.sampled_from(["httpx", "requests.exceptions", "\ud800", "own"])}),
        st.just({"__init__": lambda self, *args: None}),
        attributes,
        methods,
    ),
    st.text(st.characters()),
    st.sampled_from(["nothing", "cause", "group"]),
)


def _caught(error: BaseException) -> BaseException:
    """Raise and catch an exception, so that it has a traceback."""

    def fail() -> NoReturn:
        raise error

    try:
        fail()
    except BaseException as caught:
        return caught


@settings(deadline=None)
@given(recipes, st.booleans())
def test_any_exception_becomes_a_failure_that_can_be_encoded(recipe: Recipe, tracebacks: bool) -> None:
    failure = failure_of(_caught(recipe.make()), "step", 1, tracebacks=tracebacks)
    event = StepFinished(1, "step", "action", State.FAILED, 0, 1, failure=failure, ready_time=1, start_time=1)
    assert to_event(Encoder("run", "flow", 1).encode(1, event)) == event


class Odd(Exception):
    """An exception of an action."""


def _odd(**names: object) -> Exception:
    error: Exception = type("Odd", (Odd,), names)("went wrong")
    return error


@pytest.mark.parametrize("name", ["response", "headers", "status_code", "__cause__", "exceptions", "__class__"])
def test_an_attribute_that_raises_is_ignored(name: str) -> None:
    failure = failure_of(_caught(_odd(**{name: _raises(RuntimeError("hidden"))})), "step", 1)
    assert (failure.reason, failure.message, failure.retryable) == (Reason.ACTION_ERROR, "Odd: went wrong", True)
    assert dict(failure.details)["function"].endswith("fail")


def test_attributes_besides_one_that_raises_are_read() -> None:
    class Headless:
        status_code = 429
        headers = _raises(RuntimeError("hidden"))

    assert classify(_odd(response=Headless())).reason is Reason.RATE_LIMITED


def test_an_action_error_without_a_reason_is_an_action_error() -> None:
    class Careless(ActionError):
        def __init__(self) -> None:
            pass

    failure = failure_of(Careless(), "step", 1)
    assert (failure.reason, failure.retryable, failure.retry_after) == (Reason.ACTION_ERROR, True, None)


@pytest.mark.parametrize(
    ("requested", "wait"),
    [
        ("9" * 400, MAX_WAIT),
        (f"0.{'0' * 400}1", 0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_WAIT),
        ("1e9", None),
        ("٣", 3 * SECOND),
        ("²", None),
    ],
    ids=ascii,
)
def test_an_absurd_wait_is_shortened_or_ignored(requested: str, wait: int | None) -> None:
    headers = {"Retry-After": requested, "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    classification = classify(_odd(response=Response(429, headers)))
    assert (classification.reason, classification.retry_after) == (Reason.RATE_LIMITED, wait)


def test_an_action_errors_wait_is_at_most_a_hundred_years() -> None:
    wait = classify(ActionError("later", retry_after=timedelta(days=400_000))).retry_after
    assert wait == 36_525 * 24 * 3600 * SECOND


def test_a_long_chain_of_causes_is_cut() -> None:
    error: Exception = TimeoutError("first")
    for number in range(2_000):
        outer = Odd(f"number {number}")
        outer.__cause__ = error
        error = outer
    failure = failure_of(error, "step", 1)
    assert failure.message == "Odd: number 1999"
    assert "number 0" not in dict(failure.details)["traceback"]

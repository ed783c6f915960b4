"""Exceptions that are hostile: whatever one does, the attempt fails at once, with what can be read of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwave import ActionError
from stepwave_server.actions.error_classification import LONGEST_WAIT, judge
from stepwave_server.actions.failures import failure_of
from stepwave_server.core.messages import StepFinished
from stepwave_server.core.model import Reason, State
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
"""Attributes that somebody may ask an exception for."""


class Endless(Mapping[str, str]):
    """Header fields without an end."""

    def __getitem__(self, name: str) -> str:
        return name

    def __iter__(self) -> Iterator[str]:
        return map(str, count())

    def __len__(self) -> int:
        return 1


class Response:
    """What a service answered, as HTTP clients give it."""

    def __init__(self, status_code: object, headers: object) -> None:
        self.status_code = status_code
        self.headers = headers


def _raises(error: BaseException) -> property:
    def read(_self: object) -> NoReturn:
        raise error

    return property(read)


def _gives(value: object) -> property:
    return property(lambda _self: value)


def _raising_method(error: BaseException) -> Callable[..., object]:
    def method(*_args: object) -> NoReturn:
        raise error

    return method


class Meta(type):
    """Makes classes that cannot be asked for anything, not even their names."""

    def __getattribute__(cls, name: str) -> object:
        raise SystemExit(3)


broken = st.sampled_from([ValueError("no"), SystemExit(3), KeyboardInterrupt(), RecursionError(), MemoryError()])
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
    st.sampled_from(READ), st.one_of(st.builds(_raises, broken), st.builds(_gives, values), values), max_size=6
)
methods = st.dictionaries(
    st.sampled_from(["__str__", "__repr__", "__getattribute__", "__eq__", "__hash__", "__bool__"]),
    st.builds(_raising_method, broken),
    max_size=3,
)


@dataclass(repr=False)
class Recipe:
    """How to make an exception of a class that behaves badly; made in the test, for nobody else may ask it anything."""

    kind: type
    name: str
    base: type[BaseException]
    names: dict[str, object]
    text: str
    around: str

    def make(self) -> BaseException:
        error: BaseException = self.kind(self.name, (self.base,), self.names)(self.text)
        if self.around == "nothing":
            return error
        outer = RuntimeError("outer")
        outer.__cause__ = error
        return outer if self.around == "cause" else BaseExceptionGroup("several", [ValueError(), outer])


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
    """Return an exception as it is caught, with a traceback."""

    def fail() -> NoReturn:
        raise error

    try:
        fail()
    except BaseException as caught:
        return caught


@settings(deadline=None)
@given(recipes, st.booleans())
def test_whatever_an_exception_does_the_attempt_fails_and_its_event_can_be_kept(
    recipe: Recipe, tracebacks: bool
) -> None:
    failure = failure_of(_caught(recipe.make()), "step", 1, tracebacks=tracebacks)
    event = StepFinished(1, "step", "action", State.FAILED, 0, 1, failure=failure, ready_time=1, start_time=1)
    assert to_event(Encoder("run", "flow", 1).encode(1, event)) == event


class Odd(Exception):
    """Something that went wrong."""


def _odd(**names: object) -> Exception:
    error: Exception = type("Odd", (Odd,), names)("went wrong")
    return error


@pytest.mark.parametrize("name", ["response", "headers", "status_code", "__cause__", "exceptions", "__class__"])
def test_an_attribute_that_raises_hides_nothing_else(name: str) -> None:
    failure = failure_of(_caught(_odd(**{name: _raises(RuntimeError("hidden"))})), "step", 1)
    assert (failure.reason, failure.message, failure.retryable) == (Reason.ACTION_ERROR, "Odd: went wrong", True)
    assert dict(failure.details)["function"].endswith("fail")


def test_what_is_around_an_attribute_that_raises_is_read() -> None:
    class Headless:
        status_code = 429
        headers = _raises(RuntimeError("hidden"))

    assert judge(_odd(response=Headless())).reason is Reason.RATE_LIMITED


def test_an_error_of_an_action_that_left_out_the_kind_is_an_action_error() -> None:
    class Careless(ActionError):
        def __init__(self) -> None:
            pass

    failure = failure_of(Careless(), "step", 1)
    assert (failure.reason, failure.retryable, failure.retry_after) == (Reason.ACTION_ERROR, True, None)


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        ("9" * 400, LONGEST_WAIT),
        (f"0.{'0' * 400}1", 0),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
        ("1e9", None),
        ("٣", 3_000_000_000),
        ("²", None),
    ],
    ids=ascii,
)
def test_an_absurd_wait_is_cut_or_passed_over(asked: str, waited: int | None) -> None:
    headers = {"Retry-After": asked, "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    verdict = judge(_odd(response=Response(429, headers)))
    assert (verdict.reason, verdict.retry_after) == (Reason.RATE_LIMITED, waited)


def test_an_action_cannot_ask_for_a_wait_that_no_calendar_has() -> None:
    wait = judge(ActionError("later", retry_after=timedelta(days=400_000))).retry_after
    assert wait == 36_525 * 24 * 3600 * 1_000_000_000


def test_a_long_chain_of_causes_is_told_in_part() -> None:
    error: Exception = TimeoutError("first")
    for number in range(2_000):
        outer = Odd(f"number {number}")
        outer.__cause__ = error
        error = outer
    failure = failure_of(error, "step", 1)
    assert failure.message == "Odd: number 1999"
    assert "number 0" not in dict(failure.details)["traceback"]

"""The declared types of answers, and the values of these types that are made of JSON."""

import dataclasses
import datetime
import enum
import sys
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType

import pydantic
import pytest

import stepwave
from stepwave import JSON, Answer, Blob, StepHandle, Workflow, action
from stepwave._actions.declarations import answer_type
from stepwave._actions.typed_answers import typed_answer

if TYPE_CHECKING:
    from decimal import Decimal

City = NewType("City", str)


class Sky(enum.StrEnum):
    RAIN = "rain"


@dataclasses.dataclass
class Weather:
    sky: Sky
    day: datetime.date


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    day: datetime.date = pydantic.Field(alias="date")


class Hit(typing.TypedDict):
    url: str
    more: "list[Hit]"


class Search:
    def invoke(self, query: str) -> int:
        return 1


class Write:
    async def stream(self) -> AsyncIterator[str]:
        yield ""

    def invoke(self) -> int:
        return 1


class Called:
    async def __call__(self) -> Weather:
        raise NotImplementedError


def returning(hint: object) -> Callable[..., object]:
    """Return a function with this return type."""

    def function() -> None: ...

    function.__annotations__["return"] = hint
    return function


def text(value: str) -> "Hit": ...  # type: ignore[empty-body]  # its return type is read


def lost() -> "Decimal": ...  # type: ignore[empty-body]  # its return type cannot be read


def untyped():  # type: ignore[no-untyped-def]  # the point
    ...


def unread_parameter(price: "Decimal") -> int:
    return 1


@pytest.mark.parametrize(
    ("target", "declared"),
    [
        (text, Hit),
        (untyped, Any),
        (unread_parameter, int),
        (Search, int),
        (Search(), int),
        (Write, str),
        (Called(), Weather),
        (partial(text, value=""), Hit),
        (returning(None), type(None)),
        (returning(Awaitable[int]), int),
        (returning(Coroutine[Any, Any, Weather]), Weather),
        (returning(AsyncIterator[str]), str),
        (returning(Iterator[Literal["a"] | City]), str),
        (returning(Generator[int, None, str]), list[int]),
        (returning(typing.AsyncGenerator[Weather, None]), list[Weather]),
        (returning(Awaitable[Iterator[int]]), list[int]),
        (returning(Iterator[str | int]), Any),
        (returning(Iterator[Sequence[str]]), Any),
        (returning(AsyncGenerator[int | Answer, None]), Any),
        (returning(Iterator), Any),
    ],
)
def test_the_answer_of_a_call_or_of_a_stream_has_a_declared_type(target: object, declared: object) -> None:
    assert answer_type(target) == declared


def test_a_return_type_that_cannot_be_read_is_an_error_that_names_the_function() -> None:
    with pytest.raises(TypeError, match=r"return type of lost \(.*\) cannot be read: .*'Decimal'.*TYPE_CHECKING"):
        answer_type(lost)


VALUE: Any = {"any": ["value"]}


@pytest.mark.parametrize(
    "hint",
    [
        Any,
        object,
        None,
        int | str | None,
        list,
        dict,
        typing.Dict,  # noqa: UP006 - without parts, it has an origin
        Blob,
        list[dict[str, int]],
        Mapping[Literal["any"], Iterable[object]],
        Annotated[Sequence[City], "note"],
        Literal["a", 1],
        Hit,
    ],
)
def test_json_is_returned_as_it_is_without_a_check(hint: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert typed_answer(VALUE, hint, "a") is VALUE


@pytest.mark.parametrize("annotation", [JSON, "AnyJson", "stepwave.JSON"])
def test_the_type_json_is_known_under_any_name(annotation: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    function = types.FunctionType(untyped.__code__, {"stepwave": stepwave, "AnyJson": JSON})  # of another module
    function.__annotations__["return"] = annotation
    assert typed_answer(VALUE, answer_type(function), "a") is VALUE


@pytest.mark.parametrize(
    ("hint", "output", "value"),
    [
        (Weather, {"sky": "rain", "day": "2026-01-02"}, Weather(Sky.RAIN, datetime.date(2026, 1, 2))),
        (list[Weather] | None, [], []),
        (Strict, {"date": "2026-01-02"}, Strict(date=datetime.date(2026, 1, 2))),
        (Sky, "rain", Sky.RAIN),
        (datetime.datetime, "2026-01-02T03:04:05Z", datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1, 2], {1, 2}),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (bytes, "a", b"a"),
        (Literal[Sky.RAIN], "rain", Sky.RAIN),
    ],
)
def test_pydantic_makes_values_of_types_that_json_does_not_have(hint: object, output: JSON, value: object) -> None:
    made = typed_answer(output, hint, "a")
    assert made == value
    assert type(made) is type(value)


def test_a_blob_is_returned_as_it_is() -> None:
    blob = Blob(b"x")
    assert typed_answer(blob, Weather, "a") is blob


def test_an_output_of_another_form_is_an_error_that_names_the_step_and_the_type() -> None:
    with pytest.raises(ValueError, match="the output of step 'sky' is not the declared Weather: "):
        typed_answer(None, Weather, "sky")


def test_a_type_that_pydantic_does_not_support_is_an_error_that_says_so() -> None:
    with pytest.raises(TypeError, match="step 'sky' is declared as Search, which pydantic cannot make of JSON: "):
        typed_answer({}, Search, "sky")


def test_without_pydantic_the_error_says_what_to_install_and_what_to_use_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(
        TypeError, match=r"only pydantic can make of JSON: pip install pydantic, or use `result\['sky'\]`"
    ):
        typed_answer({}, Weather, "sky")


def test_a_step_types_its_outputs() -> None:
    flow = Workflow("flow")
    day = flow.step("day", action("day")(returning(datetime.date)))
    assert day.typed("2026-01-02") == datetime.date(2026, 1, 2)
    assert flow.step("echo", "core.echo").typed("2026-01-02") == "2026-01-02"
    assert StepHandle(flow, "day") == day

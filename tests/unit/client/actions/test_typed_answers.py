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
    Collection,
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
import pydantic_core
import pytest
from typing_extensions import TypeAliasType

import stepwave
from stepwave import JSON, Answer, Blob, Fallback, StepHandle, Workflow, action
from stepwave._actions.declarations import answer_type
from stepwave._actions.typed_answers import typed_answer

if TYPE_CHECKING:
    from decimal import Decimal

City = NewType("City", str)


DAY = datetime.date(2026, 1, 2)
T = typing.TypeVar("T")
LISTS = TypeAliasType("LISTS", list[T], type_params=(T,))  # `type LISTS[T] = list[T]` of Python 3.12
WORD = TypeAliasType("WORD", str)
DAYS = TypeAliasType("DAYS", Iterable[datetime.date])


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


class Plan(typing.TypedDict):
    day: datetime.date


class Priced(typing.TypedDict):
    price: "Decimal"


@dataclasses.dataclass
class PricedObject:
    price: "Decimal"


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


def iterated(hint: object) -> Callable[..., object]:
    """Return a generator function with this return type."""

    def generator() -> Iterable[object]:
        yield None

    generator.__annotations__["return"] = hint
    return generator


def text(value: str) -> "Hit": ...  # type: ignore[empty-body]  # its return type is read


def lost() -> "Decimal": ...  # type: ignore[empty-body]  # its return type cannot be read


def untyped():  # type: ignore[no-untyped-def]  # the point
    ...


def streaming_words() -> "AsyncGenerator[str]": ...  # type: ignore[empty-body]  # its return type is read


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
        (returning(AsyncIterator[Plan]), list[Plan]),
        (returning(AsyncIterator[typing.LiteralString]), str),
        (returning(AsyncIterator[WORD]), str),
        (returning(AsyncIterator[LISTS[int]]), list[LISTS[int]]),
        (returning(TypeAliasType("Words", AsyncIterator[str])), str),
        (iterated(Iterable[str]), str),
        (iterated(Iterable[datetime.date]), list[datetime.date]),
        (iterated(Iterable), Any),
        (returning(Iterable[datetime.date]), list[datetime.date]),
        (returning(Iterable[str]), Any),
        (returning(Awaitable[Iterable[str]]), Any),
        (streaming_words, str),
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
        typing.LiteralString,
        Hit,
    ],
)
def test_json_is_returned_as_it_is_without_a_check(hint: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert typed_answer(VALUE, returning(hint), "a") is VALUE


@pytest.mark.parametrize("annotation", [JSON, "AnyJson", "stepwave.JSON"])
def test_the_type_json_is_known_under_any_name(annotation: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    function = types.FunctionType(untyped.__code__, {"stepwave": stepwave, "AnyJson": JSON})  # of another module
    function.__annotations__["return"] = annotation
    assert typed_answer(VALUE, function, "a") is VALUE


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
        (Plan, {"day": "2026-01-02"}, {"day": DAY}),
        (AsyncIterator[Plan], [{"day": "2026-01-02"}], [{"day": DAY}]),
        (LISTS[datetime.date], ["2026-01-02"], [DAY]),
        (Iterable[datetime.date], ["2026-01-02"], [DAY]),
        (dict[str, Iterable[datetime.date] | None], {"a": ["2026-01-02"], "b": None}, {"a": [DAY], "b": None}),
        (Annotated[Collection[datetime.date], "note"], ["2026-01-02"], [DAY]),
        (DAYS, ["2026-01-02"], [DAY]),
        (Literal[Sky.RAIN], "rain", Sky.RAIN),
    ],
)
def test_pydantic_makes_values_of_types_that_json_does_not_have(hint: object, output: JSON, value: object) -> None:
    made = typed_answer(output, returning(hint), "a")
    assert made == value
    assert type(made) is type(value)


def test_a_blob_is_returned_as_it_is() -> None:
    blob = Blob(b"x")
    assert typed_answer(blob, returning(Weather), "a") is blob


def test_an_output_of_another_form_is_an_error_that_names_the_step_and_the_type() -> None:
    with pytest.raises(ValueError, match="the output of step 'sky' is not the declared Weather: "):
        typed_answer(None, returning(Weather), "sky")


def test_a_type_that_pydantic_does_not_support_is_an_error_that_says_so() -> None:
    with pytest.raises(TypeError, match="step 'sky' is declared as Search, which pydantic cannot make of JSON: "):
        typed_answer({}, returning(Search), "sky")


def test_without_pydantic_the_error_says_what_to_install_and_what_to_use_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(
        TypeError, match=r"only pydantic can make of JSON: pip install pydantic, or use `result\['sky'\]`"
    ):
        typed_answer({}, returning(Weather), "sky")


def test_a_step_types_its_outputs() -> None:
    flow = Workflow("flow")
    day = flow.step("day", action("day")(returning(datetime.date)))
    assert day.typed("2026-01-02") == datetime.date(2026, 1, 2)
    assert flow.step("echo", "core.echo").typed("2026-01-02") == "2026-01-02"
    assert StepHandle(flow, "day") == day


def test_values_of_an_iterable_can_be_read_twice() -> None:
    made = typed_answer(["2026-01-02"], returning(dict[str, int] | Iterable[datetime.date]), "a")
    assert (list(made), list(made)) == ([DAY], [DAY])


@pytest.mark.parametrize("kind", [Priced, PricedObject, list[Priced], AsyncIterator[PricedObject]])
def test_a_field_whose_type_cannot_be_read_is_an_error_that_says_so(kind: object) -> None:
    with pytest.raises(TypeError, match=r"the output of step 'sky' is declared as .*Decimal"):
        typed_answer([{"price": "1"}], returning(kind), "sky")


def test_json_and_blobs_of_another_type_are_returned_without_a_check() -> None:
    flow = Workflow("flow")
    number = flow.step("number", action("number")(returning(int)), fallback=Fallback(value="n/a"))
    day = flow.step("day", action("day")(returning(datetime.date)))
    assert number.typed("n/a") == "n/a"
    assert day.typed(Blob(b"x")) == Blob(b"x")


def test_the_type_of_an_action_is_read_once_for_all_of_its_steps() -> None:
    class Declared:
        reads = 0

        @classmethod
        def __get_pydantic_core_schema__(cls, *_: object) -> Any:
            cls.reads += 1
            return pydantic_core.core_schema.str_schema()

    function = returning(Declared)
    for step_id in "ab":
        assert typed_answer("x", function, step_id) == "x"
    assert Declared.reads == 1
    typed_answer("x", returning(Declared), "c")
    assert Declared.reads == 2


def test_an_action_that_cannot_be_hashed_types_its_outputs() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]  # as that of a list

        def __call__(self) -> datetime.date: ...  # type: ignore[empty-body]  # its return type is read

    assert typed_answer("2026-01-02", Unhashable(), "a") == DAY


def test_an_error_is_not_kept_for_other_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    function = returning(datetime.date)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pydantic", None)
        for step_id in "ab":
            with pytest.raises(TypeError, match=f"the output of step '{step_id}'"):
                typed_answer("2026-01-02", function, step_id)
    assert typed_answer("2026-01-02", function, "a") == DAY

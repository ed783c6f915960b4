"""Typed outputs for type checkers: the step of an action has the type of its answer, and so has its output."""

import inspect
from pathlib import Path
from typing import get_type_hints

from stepwave import Workflow
from stepwave._building.action_types import ListOptions, NestedOptions, StepOptions
from unit.client.type_checker import mypy

ACTIONS = """
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict, assert_type
from stepwave import (
    Answer, Cel, Context, Expression, RunResult, State, StepHandle, Workflow, action, size
)
from stepwave.testing import ScriptedRun

@dataclass
class Weather:
    summary: str

class Hit(TypedDict):
    url: str

@action
async def weather(city: str) -> str:
    return city

@action("news.read")
def news(city: str, context: Context, *, limit: int = 3) -> list[Hit]:
    return []

@action
async def forecast(city: str) -> Weather:
    return Weather(city)

@action
async def write(facts: list[str]) -> AsyncIterator[str]:
    yield ""

@action
def lines() -> Generator[str]:
    yield ""

@action
def count() -> Iterator[int]:
    yield 1

@action
async def hits() -> AsyncGenerator[Hit, None]:
    yield {"url": ""}

@action
def iterated() -> Iterable[str]:
    yield ""

@action
async def mixed() -> AsyncIterator[str | int]:
    yield 1

@action
async def answering() -> AsyncIterator[int | Answer]:
    yield Answer("")

@action
class Search:
    async def invoke(self, query: str) -> list[Hit]:
        return []

@action("rank")
class Rank:
    def invoke(self, hits: list[Hit]) -> int:
        return 1

@action
class Write:
    async def stream(self, facts: list[str]) -> AsyncIterator[str]:
        yield ""

@action
class Count:
    def stream(self) -> Iterator[int]:
        yield 1

    def invoke(self) -> str:
        return ""

@action
def anything() -> Any: ...

@action
def anything_streamed() -> Iterator[Any]:
    yield 1

class LangChainTool:
    name: str = "search"
    description: str = ""

    def invoke(self, arguments: dict[str, Any]) -> Any: ...

found = action("found")(partial(forecast, city="Oslo"))
tool = action.from_tool(LangChainTool(), name="tool")
described = action.from_tool({"name": "forecast", "parameters": {}}, forecast)
flow = Workflow("flow")
"""

STEPS = """
assert_type(flow.step("a", weather, {"city": flow.input["city"]}, timeout=3), StepHandle[str])
assert_type(flow.step("b", news, {"city": "Oslo", "limit": 1}), StepHandle[list[Hit]])
assert_type(flow.step("c", forecast), StepHandle[Weather])
assert_type(flow.step("d", found), StepHandle[Weather])
assert_type(flow.step("e", described, {"city": "Oslo"}), StepHandle[Weather])
assert_type(flow.step("f", action.from_tool({"name": "write"}, write)), StepHandle[str])
assert_type(flow.step("g", tool), StepHandle[Any])
"""

STREAMS = """
assert_type(flow.step("a", write), StepHandle[str])
assert_type(flow.step("b", lines), StepHandle[str])
assert_type(flow.step("c", count), StepHandle[list[int]])
assert_type(flow.step("d", hits), StepHandle[list[Hit]])
assert_type(flow.step("e", iterated), StepHandle[Iterable[str]])
"""

CLASSES = """
assert_type(flow.step("a", Search), StepHandle[list[Hit]])
assert_type(flow.step("b", Rank), StepHandle[int])
assert_type(flow.step("c", Write), StepHandle[str])
assert_type(flow.step("d", Count), StepHandle[list[int]])
"""

UNKNOWN = """
assert_type(flow.step("a", "core.echo"), StepHandle[Any])
assert_type(flow.step("b", mixed), StepHandle[Any])
assert_type(flow.step("c", answering), StepHandle[Any])
assert_type(flow.step("d", anything), StepHandle[Any])
assert_type(flow.step("e", anything_streamed), StepHandle[Any])
"""

LISTS = """
urls = flow.input["urls"]
assert_type(flow.for_each("a", over=urls, action=weather, input={"city": flow.item}), StepHandle[list[str]])
assert_type(flow.for_each("b", over=["x", {"y": 1}], action=news, max_parallelism=8), StepHandle[list[list[Hit]]])
assert_type(flow.for_each("c", over=urls + ["x"], action=write, retry=None), StepHandle[list[str]])
assert_type(flow.for_each("d", over=urls, action=count), StepHandle[list[list[int]]])
assert_type(flow.for_each("e", over=urls, action=Search), StepHandle[list[list[Hit]]])
assert_type(flow.for_each("f", over=urls, action=forecast), StepHandle[list[Weather]])
assert_type(flow.for_each("g", over=urls, action="core.echo"), StepHandle[list[Any]])
assert_type(flow.for_each("h", over=urls, action=mixed), StepHandle[list[Any]])
"""

WORKFLOWS = """
body = Workflow("body", input_schema={"type": "object"})
assert_type(flow.step("a", workflow=body, input={"x": 1}, timeout=3), StepHandle[dict[str, Any]])
assert_type(flow.for_each("b", over=urls, workflow=body), StepHandle[list[dict[str, Any]]])
"""

EXPRESSIONS = """
search = flow.step("search", Search)
n = search.output["n"]
assert_type(n > 3, Expression)
assert_type(n == None, Expression)
assert_type((3 < n) & ~(search.state == State.FAILED) | True, Expression)
assert_type(1 - n * 2 / 4 + 1.5, Expression)
assert_type(size(n.in_(["a", n])), Expression)
flow.step("a", "core.echo", {"n": n + 1, "m": n.default([]), "c": Cel("input.x")}, when=n > 3)
flow.step("b", "core.echo", when="true")
"""

RESULTS = """
def read(result: RunResult, run: ScriptedRun, unnamed: StepHandle, several: list[StepHandle]) -> None:
    sky = flow.step("sky", weather)
    assert_type(result[sky], str)
    assert_type(run[sky], str)
    assert_type(result[flow.step("search", Search)], list[Hit])
    assert_type(sky.typed(result.steps["sky"].output), str)
    assert_type(result["sky"], Any)
    assert_type(result[unnamed], Any)
    assert_type(result[flow.step("echo", "core.echo")], Any)
    several.append(sky)
"""

MARKED = """
async def call() -> None:
    assert_type(await weather("Oslo"), str)
    assert_type(news("Oslo", context, limit=1), list[Hit])
    assert_type(await Search().invoke("Oslo"), list[Hit])
    assert_type(Rank().invoke([]), int)
    assert_type(await described(city="Oslo"), Weather)

context: Context
"""


WRONG = {
    'number: int = flow.step("a", weather).typed("rain")': 'expression has type "str", variable has type "int"',
    'flow.step("b", weather, timeout="3")': "No overload variant",
    'flow.step("c", weather, timeuot=3)': 'did you mean "timeout"?',
    'flow.step("d", weather, {"city": {"Oslo"}})': 'incompatible type "str": "set[str]"',
    'flow.step("e", weather) > 3': "Unsupported operand types for <",
    'flow.step("e", weather)["x"]': "is not indexable",
    'flow.input["a"] + {"x": 1}': "Unsupported operand types for +",
    '"a" in flow.input': "Unsupported right operand type for in",
    'flow.step("g")': "No overload variant",
    'flow.step("h", weather, when=True)': "No overload variant",
    'flow.step("i", workflow=flow, retry=None)': "No overload variant",
    'flow.for_each("j", action=weather)': "No overload variant",
    'flow.for_each("k", over=[1], action=weather, timeuot=3)': "No overload variant",
    'flow.for_each("l", over=[1])': "No overload variant",
    'action.from_tool({"name": "forecast"})': "No overload variant",
    "action.from_tool(forecast)": "No overload variant",
    'def get(result: RunResult) -> int: return result[flow.step("f", weather)]': 'got "str", expected "int"',
    "def each(result: RunResult) -> None: list(result)": 'No overload variant of "list"',
}


def test_mypy_sees_the_types_of_answers_in_steps_and_results(tmp_path: Path) -> None:
    code = "".join([ACTIONS, MARKED, STEPS, STREAMS, CLASSES, UNKNOWN, LISTS, WORKFLOWS, EXPRESSIONS, RESULTS])
    assert mypy(code, tmp_path).startswith("Success")


def test_mypy_rejects_what_does_not_fit(tmp_path: Path) -> None:
    said = mypy("\n".join([ACTIONS, *WRONG]), tmp_path)
    first = ACTIONS.count("\n") + 2
    for line, error in enumerate(WRONG.values(), first):
        assert any(error in text for text in said.splitlines() if text.startswith(f"module.py:{line}: error")), said


def test_type_checkers_know_all_options_of_a_step() -> None:
    implementation = inspect.signature(Workflow.step).parameters.values()
    options = {it.name for it in implementation if it.kind is it.KEYWORD_ONLY} - {"workflow"}
    assert get_type_hints(StepOptions).keys() == options
    assert get_type_hints(ListOptions).keys() == {*options, "over", "input", "max_parallelism"}
    assert get_type_hints(NestedOptions).keys() == options - {"retry"}

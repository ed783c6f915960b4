"""Tools of agents as actions of a server: what it lists, how it checks inputs, and how it calls them."""

import json
import sys
import threading
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException, tool
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stepwave import ActionError, Context, action
from stepwave_server.actions import Action, ActionsError, Registry
from stepwave_server.actions.described import DescribedAction
from stepwave_server.actions.failures import ActionFailed, failure_of
from stepwave_server.actions.values import load
from stepwave_server.core.model import Payload, Reason

MAX_BYTES = 10_000
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2},
        "days": {"type": "integer", "maximum": 7},
        "units": {"enum": ["C", "F"]},
        "at": {"type": "array", "items": {"type": "object", "required": ["hour"]}},
    },
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "name": "weather", "description": "Tells the weather.", "parameters": PARAMETERS}


class Query(BaseModel):
    query: str
    kind: Literal["web", "news"] = "web"
    limit: Annotated[int, Field(le=10)] = 3

    @field_validator("query")
    @classmethod
    def _not_blank(cls, query: str) -> str:
        if not query.strip():
            raise ValueError("must have a word")
        return query


@tool(args_schema=Query)
async def search(query: str, kind: str = "web", limit: int = 3) -> list[object]:
    """Search."""
    return [query, kind, limit]


def weather(**given: object) -> dict[str, object]:
    return given


async def run(target: object, given: object, *, strict: bool = False) -> tuple[object, list[object]]:
    """Run an action; return its answer, and the chunks that it has emitted."""
    emitted: list[Payload] = []
    context = Context(run_id="run", step_id="step")
    answer = await Action.of(target).run(json.dumps(given), lambda: context, emitted.append, MAX_BYTES, strict=strict)
    return load(answer), [load(chunk) for chunk in emitted]


async def answer_of(target: object, given: object) -> object:
    return (await run(target, given))[0]


def problems_of(target: object, given: object, *bound: str) -> list[str]:
    return sorted(Action.of(target).problems(json.dumps(given), bound))


def test_a_server_lists_the_name_description_schema_and_source_of_a_tool() -> None:
    found = Action.of(action.from_tool(WEATHER, weather))
    assert (found.name, found.description) == ("weather", "Tells the weather.")
    assert json.loads(found.input_schema) == PARAMETERS
    assert found.source == f"{__name__}:weather"
    assert found.code_location.startswith(__file__)
    assert Action.of(action.from_tool(search)).source == f"{__name__}:search"


def test_the_tools_of_a_module_are_its_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("agents_tools")
    vars(module).update(action=action, tool=search, first=action.from_tool(search), other=weather)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    registry = Registry([module.__name__], entry_points=False)
    assert registry.get("search") is not None


def test_a_tool_without_from_tool_is_no_action(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("bare_tools")
    vars(module).update(find=search)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(ActionsError, match=r"with @action; make an action of a tool by action\.from_tool\(find\)$"):
        Registry([module.__name__], entry_points=False)
    with pytest.raises(ActionsError, match=r"^a tool, not an action: .*; make one by action\.from_tool\(tool\)$"):
        Registry([search], entry_points=False)


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ({"city": "Oslo", "days": 7, "units": "C", "at": [{"hour": 1}]}, []),
        ({}, ["city: field required"]),
        (None, ["city: field required"]),
        ("Oslo", ["the input must be an object (city, days, units, at), got a string"]),
        ({"city": "O", "days": "5"}, ["city: 'O' is too short", "days: '5' is not of type 'integer'"]),
        ({"city": "Oslo", "days": 8}, ["days: 8 is greater than the maximum of 7"]),
        ({"city": "Oslo", "units": "K"}, ["units: 'K' is not one of ['C', 'F']"]),
        ({"city": "Oslo", "at": [{}]}, ["at.0.hour: field required"]),
        ({"city": "Oslo", "day": 1}, ['the action does not know the key "day"; did you mean "days"?']),
    ],
)
async def test_an_input_is_checked_by_the_schema_before_the_tool_is_called(given: object, problems: list[str]) -> None:
    made = action.from_tool(WEATHER, weather)
    assert problems_of(made, given) == problems
    if problems:
        with pytest.raises(ActionFailed) as failed:
            await run(made, given, strict=True)
        assert failed.value.reason is Reason.INVALID_INPUT
        assert sorted(failed.value.message.split("; ", len(problems) - 1)) == problems
    else:
        assert await run(made, given, strict=True) == (given, [])


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ({"query": "x", "limit": "5"}, []),
        ({"query": " "}, ["query: value error, must have a word"]),
        ({"limit": 11}, ["limit: input should be less than or equal to 10", "query: field required"]),
        ({"query": "x", "kind": "any"}, ["kind: input should be 'web' or 'news'"]),
        ({"query": "x", "words": "y"}, ['the action does not know the key "words"; it takes kind, limit, query']),
    ],
)
def test_an_input_is_checked_as_the_model_of_a_langchain_tool_does(given: object, problems: list[str]) -> None:
    assert problems_of(action.from_tool(search), given) == problems


def test_values_that_bindings_will_set_are_not_checked() -> None:
    made = action.from_tool(WEATHER, weather)
    assert problems_of(made, {"days": 9, "at": [{}]}, "/city", "/at/0/hour") == [
        "days: 9 is greater than the maximum of 7"
    ]
    assert problems_of(made, None, "") == []


async def test_keys_that_a_tool_does_not_take_are_left_out_unless_they_were_written() -> None:
    assert await answer_of(action.from_tool(WEATHER, weather), {"city": "Oslo", "more": 1}) == {"city": "Oslo"}
    assert await answer_of(action.from_tool({"name": "any", "parameters": {"type": "object"}}, weather), {"a": 1}) == {
        "a": 1
    }


def test_a_schema_may_name_an_earlier_draft() -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"city": {"type": "string"}}}
    schema |= {"type": "object", "properties": {"city": {"$ref": "#/definitions/city"}}}
    made = action.from_tool({"name": "weather", "parameters": schema}, weather)
    assert problems_of(made, {"city": 5}) == ["city: 5 is not of type 'string'"]


async def test_a_langchain_tool_converts_its_arguments() -> None:
    assert await answer_of(action.from_tool(search), {"query": "x", "limit": "5"}) == ["x", "web", 5]


class Amount(BaseModel):
    model_config = ConfigDict(json_schema_extra={"unevaluatedProperties": False})

    euros: int


async def test_a_langchain_tool_takes_an_argument_by_its_alias() -> None:
    class Mail(BaseModel):
        sender: str = Field(alias="from")

    class Named(Mail):
        model_config = ConfigDict(populate_by_name=True)

    def show(sender: str) -> str:
        return sender

    by_alias = action.from_tool(StructuredTool.from_function(show, name="mail", description="m", args_schema=Mail))
    by_name = action.from_tool(StructuredTool.from_function(show, name="mail", description="m", args_schema=Named))
    assert await answer_of(by_alias, {"from": "Ada"}) == "Ada"
    assert problems_of(by_alias, {"from": "Ada"}) == []
    assert await answer_of(by_name, {"sender": "Ada"}) == "Ada"


def test_a_problem_of_a_whole_model_has_no_place() -> None:
    class Bounds(BaseModel):
        lo: int
        hi: int

        @model_validator(mode="after")
        def _ordered(self) -> "Bounds":
            if self.lo > self.hi:
                raise ValueError("lo must be at most hi")
            return self

    made = action.from_tool(StructuredTool.from_function(weather, name="b", description="b", args_schema=Bounds))
    assert problems_of(made, {"lo": 2, "hi": 1}) == ["value error, lo must be at most hi"]


async def test_a_langchain_tool_takes_other_arguments_if_its_model_does() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

        a: int

    made = action.from_tool(StructuredTool.from_function(weather, name="open", description="o", args_schema=Open))
    assert problems_of(made, {"a": "x", "b": 2})[0].startswith("a: ")
    assert await answer_of(made, {"a": 1, "b": 2}) == {"a": 1, "b": 2}


async def test_a_tool_whose_model_checks_needs_no_schema_that_can_be_checked() -> None:
    @tool
    def pay(amount: Amount) -> str:
        """Pay an amount."""
        return f"{amount.euros} €"

    made = action.from_tool(pay)
    assert problems_of(made, {"amount": {}}) == ["amount.euros: field required"]
    assert await answer_of(made, {"amount": {"euros": "5"}}) == "5 €"


def test_another_process_checks_inputs_by_the_description_of_a_tool() -> None:
    described = DescribedAction.of(Action.of(action.from_tool(WEATHER, weather)))
    assert described.problems("{}", []) == ["city: field required"]
    assert described.problems('{"city": "Oslo", "day": 1}', []) == [
        'the action does not know the key "day"; did you mean "days"?'
    ]


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"properties": {"a": {"items": [{"type": "string"}]}}}, "is no JSON Schema: /properties/a/items"),
        ({"properties": {"a": {"type": "text"}}}, "is no JSON Schema: /properties/a/type"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_when_the_actions_are_loaded(
    schema: dict[str, Any], problem: str
) -> None:
    made = action.from_tool({"name": "odd", "parameters": schema}, weather)
    with pytest.raises(ActionsError, match=rf"^action 'odd' \(.*:weather\): the schema of its arguments: {problem}"):
        Action.of(made)


def thread_name() -> str:
    return threading.current_thread().name


async def thread_name_async() -> str:
    return thread_name()


class BothWays(BaseTool):
    name: str = "both"
    description: str = "Both."

    def _run(self) -> str:
        raise AssertionError("not called")

    async def _arun(self) -> str:
        return thread_name()


class NoWay(BaseTool):
    name: str = "no"
    description: str = "No."

    def _run(self) -> str:
        return thread_name()

    async def _arun(self) -> str:
        raise NotImplementedError


class BrokenWay(BaseTool):
    name: str = "broken"
    description: str = "Broken."

    def _run(self) -> str:
        raise AssertionError("not called")

    async def _arun(self) -> str:
        await self._send()
        return "sent"

    async def _send(self) -> None:
        raise NotImplementedError("no such method of the service")


class OneWay(BaseTool):
    name: str = "one"
    description: str = "One."

    def _run(self) -> str:
        return thread_name()


def structured(function: Callable[..., object] | None, coroutine: Callable[..., Any] | None = None) -> Any:
    return StructuredTool.from_function(function, coroutine, name="tool", description="A tool.")


@pytest.mark.parametrize(
    ("target", "on_thread"),
    [
        (action.from_tool(structured(thread_name)), True),
        (action.from_tool(structured(None, thread_name_async)), False),
        (action.from_tool(structured(thread_name, thread_name_async)), False),
        (action.from_tool(OneWay()), True),
        (action.from_tool(BothWays()), False),
        (action.from_tool({"name": "f"}, thread_name), True),
        (action.from_tool({"name": "f"}, thread_name_async), False),
    ],
    ids=["sync", "async", "both", "class", "async class", "function", "async function"],
)
async def test_async_tools_run_on_the_event_loop_and_others_on_threads(target: object, on_thread: bool) -> None:
    answer = await answer_of(target, {})
    assert (answer == "stepwave-action") is on_thread
    assert Action.of(target).threaded is on_thread


async def test_a_tool_whose_async_code_is_not_implemented_is_called_on_a_thread() -> None:
    assert await answer_of(action.from_tool(NoWay()), {}) not in {threading.current_thread().name, None}


async def test_an_error_of_what_a_tool_calls_is_its_failure_and_it_is_not_called_again() -> None:
    with pytest.raises(NotImplementedError, match="no such method of the service"):
        await answer_of(action.from_tool(BrokenWay()), {})


def with_artifact() -> tuple[object, object]:
    return {"found": 1}, object()


async def with_message() -> ToolMessage:
    return ToolMessage("content", tool_call_id="1", artifact=object())


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        (
            StructuredTool.from_function(
                with_artifact, name="a", description="d", response_format="content_and_artifact"
            ),
            {"found": 1},
        ),
        (structured(None, with_message), "content"),
    ],
    ids=["content and artifact", "message"],
)
async def test_the_answer_is_the_content(target: Any, answer: object) -> None:
    assert await answer_of(action.from_tool(target), {}) == answer


def raise_tool_exception() -> None:
    raise ToolException("no such page")


def answer_with_error() -> ToolMessage:
    return ToolMessage("no such page", tool_call_id="1", status="error")


@pytest.mark.parametrize(
    ("function", "message"),
    [(raise_tool_exception, "ToolException: no such page"), (answer_with_error, "no such page")],
)
async def test_an_error_of_a_tool_is_a_failure(function: Callable[..., object], message: str) -> None:
    with pytest.raises((ToolException, ActionError)) as raised:
        await run(action.from_tool(structured(function)), {})
    failure = failure_of(raised.value, "step", 1)
    assert (failure.reason, failure.message, failure.retryable) == (Reason.ACTION_ERROR, message, True)
    assert "_actions" not in dict(failure.details).get("file", "")


async def test_an_answer_that_is_not_json_is_a_failure() -> None:
    with pytest.raises(ActionFailed, match=r"not JSON|JSON cannot hold"):
        await run(action.from_tool(structured(object)), {})


async def count(to: int, context: Context) -> AsyncIterator[str]:
    for number in range(to):
        yield f"{context.step_id}{number} "


async def test_a_function_may_stream_and_take_the_context() -> None:
    schema = {"properties": {"to": {"type": "integer"}}, "required": ["to"]}
    made = action.from_tool({"name": "count", "parameters": schema}, count)
    assert Action.of(made).streaming
    assert await run(made, {"to": 2}) == ("step0 step1 ", ["step0 ", "step1 "])

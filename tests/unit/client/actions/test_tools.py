"""`action.from_tool`: the tools that it accepts and refuses, and what it reads of them."""

import functools
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from langchain_core.tools import BaseTool, InjectedToolArg, InjectedToolCallId, StructuredTool, Tool, tool

from stepwave import Context, Workflow, action
from stepwave._actions.action import action_name

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
DESCRIBED = {"name": "weather", "description": "Tells the weather."}
FUNCTION = {**DESCRIBED, "parameters": PARAMETERS}


def weather(city: str, days: int = 1) -> str:
    return f"{city} {days}"


@tool
def search(query: str, limit: Annotated[int, "At most so many"] = 3) -> list[str]:
    """Search the web.

    It finds anything.
    """
    return [query] * limit


class Lookup(BaseTool):
    name: str = "look up"
    description: str = "Looks it up."

    def _run(self, word: str) -> str:
        return word


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "function", "function": FUNCTION},
        {"type": "function", **FUNCTION, "strict": True},
        FUNCTION,
        {**DESCRIBED, "input_schema": PARAMETERS},
        {**DESCRIBED, "input_schema": PARAMETERS, "type": "custom", "cache_control": {"type": "ephemeral"}},
        {**DESCRIBED, "inputSchema": PARAMETERS, "title": "Weather", "annotations": {}},
    ],
    ids=["chat completions", "responses", "bare", "Anthropic", "Anthropic with its type", "MCP"],
)
def test_a_function_has_the_name_and_schema_of_its_description(schema: dict[str, Any]) -> None:
    made = action.from_tool(schema, weather)
    assert (action_name(made), made.description) == ("weather", "Tells the weather.")
    assert json.loads(made.input_schema) == PARAMETERS


def test_a_tool_has_its_own_name_description_and_schema() -> None:
    made = action.from_tool(search)
    assert (action_name(made), made.description) == ("search", "Search the web.\n\nIt finds anything.")
    assert json.loads(made.input_schema)["properties"]["limit"]["default"] == 3
    assert (made.keys, made.required, made.takes_others) == (("query", "limit"), ("query",), False)


def test_a_tool_is_called_as_before_and_with_keywords() -> None:
    assert action.from_tool(search)(query="x", limit=2) == ["x", "x"]
    assert action.from_tool(FUNCTION, weather)(city="Oslo") == "Oslo 1"
    assert search.invoke({"query": "x", "limit": 1}) == ["x"]


def test_a_name_that_no_action_can_have_is_replaced_by_another() -> None:
    with pytest.raises(ValueError, match=r"^the tool's name 'look up' is no name of an action .* another by name=…$"):
        action.from_tool(Lookup())
    with pytest.raises(ValueError, match=r"^malformed action name 'look it up'"):
        action.from_tool(Lookup(), name="look it up")
    assert action_name(action.from_tool(Lookup(), name="look.up")) == "look.up"


def test_a_tool_with_one_text_takes_it_by_name() -> None:
    made = action.from_tool(Tool("shout", str.upper, "Shouts."))
    assert (made.keys, made.required) == (("tool_input",), ("tool_input",))
    assert made(tool_input="hi") == "HI"


def test_arguments_that_are_injected_are_not_in_the_schema() -> None:
    @tool
    def note(text: str, user: Annotated[str, InjectedToolArg] = "nobody") -> str:
        """Write a note."""
        return f"{user}: {text}"

    made = action.from_tool(note)
    assert made.keys == ("text",)
    assert made(text="hi") == "nobody: hi"


def test_a_tool_that_needs_injected_arguments_is_refused() -> None:
    class Note(BaseTool):
        name: str = "note"
        description: str = "Writes a note."

        def _run(self, text: str, user: Annotated[str, InjectedToolArg]) -> str:
            return f"{user}: {text}"

    @tool
    def reply(text: str, call: Annotated[str, InjectedToolCallId]) -> str:
        """Reply."""
        return f"{call}: {text}"

    with pytest.raises(TypeError, match=r"^tool 'note' needs 'user', which only an agent gives it; call it in a func"):
        action.from_tool(Note())
    with pytest.raises(TypeError, match=r"^tool 'reply' needs 'call', "):
        action.from_tool(reply)


def test_a_model_of_pydantic_1_gives_the_schema() -> None:
    class Model:
        @staticmethod
        def schema() -> dict[str, Any]:
            return PARAMETERS

    class Old:
        name = "old"
        description = "Old."
        args_schema = Model

        def invoke(self, arguments: dict[str, Any]) -> str:
            return weather(**arguments)

    made = action.from_tool(Old())
    assert (made.keys, made(city="Oslo")) == (("city", "days"), "Oslo 1")


@pytest.mark.parametrize(
    ("schema", "keys", "takes_others"),
    [
        ({}, (), False),
        ({"type": "object"}, (), True),
        ({"properties": {"a": {}}}, ("a",), False),
        ({"properties": {"a": {}}, "additionalProperties": True}, ("a",), True),
        ({"properties": {"a": {}}, "additionalProperties": False}, ("a",), False),
        ({"properties": {"a": {}}, "required": ["b"]}, ("a", "b"), False),
        ({"properties": {}, "anyOf": [{"required": ["b"]}]}, (), True),
    ],
    ids=["none", "any", "listed", "and others", "no others", "required", "branches"],
)
def test_a_schema_tells_which_arguments_there_are(
    schema: dict[str, Any], keys: tuple[str, ...], takes_others: bool
) -> None:
    made = action.from_tool({"name": "f", "parameters": schema}, lambda **_: None)
    assert (made.keys, made.takes_others) == (keys, takes_others)


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "custom", "name": "f"}, "must have the type \"function\", got 'custom'"),
        ({"name": "f", "params": {}}, "tool 'f': the schema of the arguments is in `parameters`, got 'params'"),
        ({"name": "f", "inputSchema": {"type": "array"}}, "`inputSchema` must be a JSON Schema of the type object"),
        ({"name": "f", "parameters": {"properties": {"a": "string"}}}, "schema of 'a' must be an object, got 'string'"),
        ({"type": "web_search"}, "must have the type \"function\", got 'web_search'"),
        ({"type": "function", "function": {"parameters": {}}}, "the schema has no name: want"),
        ({"type": "function", "function": weather}, "the schema has no name: want"),
        ({"name": "f", "parameters": {"type": "string"}}, "must be a JSON Schema of the type object"),
        ({"name": "f", "parameters": {"properties": ["a"]}}, "`properties` must be an object"),
        ({"name": "f", "parameters": {"default": {1, 2}}}, "JSON cannot hold the value"),
    ],
    ids=[
        "other kind of tool",
        "unknown key",
        "list of arguments",
        "type for a schema",
        "other type",
        "no name",
        "no object",
        "no object's type",
        "list of properties",
        "not JSON",
    ],
)
def test_a_schema_of_another_form_is_refused(schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        action.from_tool(schema, lambda **_: None)


def no_default(city: str, days: int) -> None: ...


def by_position(city: str, /, days: int = 1) -> None: ...


def one_dict(arguments: dict[str, Any]) -> None: ...


def other_name(town: str, days: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (one_dict, r"has no parameter 'city', which is in the schema; it has no parameter 'days'.*needs 'arguments'"),
        (
            no_default,
            r"no_default \(.*\) needs 'days', which is optional in the schema: arguments are passed by keyword$",
        ),
        (by_position, r"by_position \(.*\) takes 'city' by position alone: arguments are passed by keyword$"),
        (other_name, r"has no parameter 'city', .*; it needs 'town', which is not in the schema: arguments are passed"),
    ],
)
def test_a_function_that_does_not_take_the_arguments_is_refused(function: Callable[..., object], problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        action.from_tool(FUNCTION, function)


async def with_context(city: str, context: Context, days: "Unknown" = 1) -> AsyncIterator[str]:  # type: ignore[name-defined]  # noqa: F821 - unknown on purpose
    yield city


@pytest.mark.parametrize("function", [lambda **given: given, with_context, functools.partial(weather, days=2)])
def test_hints_of_a_function_and_other_ways_to_take_arguments_do_not_matter(function: Callable[..., object]) -> None:
    assert action_name(action.from_tool(FUNCTION, function)) == "weather"


def test_what_is_no_tool_is_refused_with_an_alternative() -> None:
    with pytest.raises(TypeError, match=r"^a tool has a name, a schema and `invoke`, got .*mark it with @action$"):
        action.from_tool(weather)  # type: ignore[call-overload]  # on purpose, as below
    with pytest.raises(TypeError, match=r"^a schema needs its function: action\.from_tool\(schema, function\)$"):
        action.from_tool(FUNCTION)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"^give a function with its schema, a mapping, and a tool alone; got Struct"):
        action.from_tool(search, weather)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"^the schema is that of a function, got 'weather'$"):
        action.from_tool(FUNCTION, "weather")  # type: ignore[call-overload]


class Search:
    name = "search"
    description = "Searches."
    args_schema = PARAMETERS

    def invoke(self, arguments: dict[str, Any]) -> str:
        return weather(**arguments)


@pytest.mark.parametrize("kind", [Lookup, Search])
def test_a_class_of_tools_is_refused(kind: Any) -> None:
    problem = rf"^got the class {kind.__name__}; give an instance: action\.from_tool\({kind.__name__}\(…\)\)$"
    with pytest.raises(TypeError, match=problem):
        action.from_tool(kind)


@pytest.mark.parametrize("target", [search, Search()], ids=["LangChain", "its attributes"])
def test_a_tool_without_from_tool_is_refused_with_its_name(target: Any) -> None:
    with pytest.raises(TypeError, match=r"is a tool, not an action: make one by action\.from_tool\(tool\)$"):
        Workflow("flow").step("s", target)
    for mark in (action, action("search")):
        with pytest.raises(TypeError, match=r"is a tool: make an action of it by action\.from_tool\(tool\)$"):
            mark(target)


@pytest.mark.parametrize("schema", [{"type": "object"}, {}], ids=["object", "empty"])
def test_a_structured_tool_may_have_a_schema_without_properties(schema: dict[str, Any]) -> None:
    made = action.from_tool(StructuredTool(name="now", description="d", args_schema=schema, func=lambda: "12:00"))
    assert (made.keys, made()) == ((), "12:00")


def test_a_tool_without_a_schema_is_refused() -> None:
    class Bare:
        name = "bare"
        description = "Bare."

        def invoke(self, arguments: dict[str, Any]) -> None: ...

    with pytest.raises(TypeError, match=r"^tool 'bare' has no schema: want `args_schema`"):
        action.from_tool(Bare())


def test_the_keys_of_a_steps_input_are_checked_against_the_schema() -> None:
    flow = Workflow("flow")
    with pytest.raises(TypeError, match=r"^step 's': the action does not know the key 'lmit'; did you mean 'limit'\?"):
        flow.step("s", action.from_tool(search), {"query": "x", "lmit": 1})
    with pytest.raises(TypeError, match=r"the action needs the key 'city'; see weather \(.*test_tools\.py:\d+\)$"):
        flow.step("s", action.from_tool(FUNCTION, weather), {"days": 1})


def test_a_structured_tool_of_a_json_schema_has_that_schema() -> None:
    made = action.from_tool(StructuredTool.from_function(weather, name="w", description="d", args_schema=PARAMETERS))
    assert (made.keys, made.model) == (("city", "days"), None)
    assert made(city="Oslo", days=2) == "Oslo 2"

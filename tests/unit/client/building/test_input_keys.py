"""The keys of a step's input are compared with the parameters of its function where the step is made."""

from collections.abc import AsyncIterator, Callable
from functools import partial, partialmethod, wraps
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import Field

from stepwave import Context, Fallback, Workflow, action
from stepwave._building.references import Input

if TYPE_CHECKING:
    from decimal import Decimal


@action
async def brief(sky: str, headlines: list[str], *, words: int = 100, context: Context | None = None) -> str:
    return sky


@action
def whole(input: dict[str, str]) -> None: ...


@action
def open_ended(sky: str, **more: str) -> None: ...


@action
def aliased(sky: Annotated[str, Field(alias="heaven")], size: int = Field(2, validation_alias="n")) -> None: ...


@action
def optional(x: Annotated[int, Field(default=3)], y: Annotated[list[int], Field(default_factory=list)]) -> int:
    return x


@action
def limited(x: Annotated[int, Field(gt=3)]) -> int:
    return x


@action
def unreadable(price: "Decimal") -> None: ...


@action
def positional(sky: str, /) -> None: ...


def traced(function: Callable[..., object]) -> Callable[..., object]:
    @wraps(function)
    def call(*arguments: object, **more: object) -> object:
        return function(*arguments, **more)

    return call


@action
@traced
def decorated(sky: str) -> None: ...


@action
class Search:
    def __init__(self) -> None:
        raise ConnectionError("no service in tests")

    async def stream(self, query: str, limit: int = 3) -> AsyncIterator[str]:
        yield query

    def invoke(self, other: str) -> None: ...


@action
class Static:
    @staticmethod
    def invoke(query: str) -> None: ...


@action
class Preset:
    def _find(self, query: str, limit: int) -> None: ...

    invoke = partialmethod(_find, limit=3)


class _Called:
    def __call__(self, query: str) -> None: ...


some_object: Callable[..., object] = action("called")(_Called())
preset = action("preset")(partial(brief, sky="rain"))


def refusal(target: Callable[..., object], given: Input) -> str:
    with pytest.raises(TypeError) as raised:
        Workflow("flow").step("a", target, given)
    return str(raised.value)


def test_an_unknown_key_is_refused_with_the_nearest_parameter_and_the_line_of_the_function() -> None:
    message = refusal(brief, {"skyy": "rain", "sky": "sun", "headlines": []})
    expected = "step 'a': the action does not know the key 'skyy'; did you mean 'sky'?; see brief ("
    assert message == f"{expected}{__file__}:{brief.__code__.co_firstlineno})"


def test_missing_keys_are_all_named() -> None:
    assert "the action needs the key 'sky', 'headlines'; see brief" in refusal(brief, {})


def test_unknown_and_missing_keys_are_named_together() -> None:
    message = refusal(brief, {"sky": "rain", "news": []})
    assert (
        "does not know the key 'news'; it takes sky, headlines, words; the action needs the key 'headlines'" in message
    )


def test_the_context_is_no_key() -> None:
    assert "'context'" in refusal(brief, {"sky": "rain", "headlines": [], "context": 1})


def test_a_key_whose_value_only_the_run_will_have_counts() -> None:
    flow = Workflow("flow")
    sky = flow.step("sky", "weather")
    flow.step("brief", brief, {"sky": sky.output, "headlines": [flow.input["x"]]})
    with pytest.raises(TypeError, match="did you mean 'headlines'"):
        flow.step("other", brief, {"sky": sky.output, "headline": flow.input["x"]})


@pytest.mark.parametrize("target", [Search, Static, Preset, some_object])
def test_the_parameters_of_a_class_or_an_object_count_without_making_it(target: Callable[..., object]) -> None:
    assert "the action needs the key 'query'" in refusal(target, {"other": "x"})
    Workflow("flow").step("a", target, {"query": "x"})


def test_a_decorated_function_has_the_parameters_that_it_wraps() -> None:
    assert "does not know the key 'skyy'" in refusal(decorated, {"sky": "", "skyy": ""})


def test_a_partial_function_needs_only_the_rest() -> None:
    Workflow("flow").step("a", preset, {"headlines": []})
    assert "needs the key 'headlines'" in refusal(preset, {"sky": "sun"})


def test_a_parameter_with_a_default_in_its_annotation_needs_no_key() -> None:
    Workflow("flow").step("a", optional, {})
    assert "does not know the key 'z'; it takes x, y" in refusal(optional, {"z": 1})
    assert "needs the key 'x'" in refusal(limited, {})


def test_a_function_that_takes_any_key_still_needs_its_own() -> None:
    Workflow("flow").step("a", open_ended, {"sky": "rain", "x": 1})
    assert "needs the key 'sky'" in refusal(open_ended, {"x": 1})


@pytest.mark.parametrize("target", [whole, aliased, unreadable, positional, "brief"])
def test_nothing_is_checked_if_the_signature_does_not_tell_the_keys(target: Any) -> None:
    Workflow("flow").step("a", target, {"anything": 1})


def test_an_input_that_is_a_reference_is_not_checked() -> None:
    flow = Workflow("flow")
    flow.step("a", brief, flow.input)
    flow.step("b", brief)


def test_without_an_input_the_outputs_of_dependencies_must_be_what_the_function_needs() -> None:
    flow = Workflow("flow")
    sky, headlines, tea = (flow.step(name, "core.echo") for name in ("sky", "headlines", "tea"))
    flow.step("brief", brief, depends_on=[sky, headlines, tea])  # keys too many are ignored there
    with pytest.raises(
        TypeError, match=r"gets the outputs of its dependencies by id: sky, tea; .* the key 'headlines'"
    ):
        flow.step("other", brief, depends_on=[sky, tea])


def test_the_input_of_a_fallback_is_checked_against_its_own_action() -> None:
    fallback = Fallback(brief, {"sky": "rain"})
    with pytest.raises(TypeError, match="needs the key 'headlines'"):
        Workflow("flow").step("a", "core.echo", {"x": 1}, fallback=fallback)

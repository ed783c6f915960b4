"""Outputs of steps as the types that their actions declare, from real runs."""

import dataclasses
import datetime
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Annotated, TypedDict

import pytest
from pydantic import Field

from stepwave import AsyncClient, Workflow, action
from stepwave.testing import run_scripted

README = Path(__file__).parents[3] / "client" / "README.md"


@dataclasses.dataclass
class Weather:
    summary: str
    day: datetime.date


@action
async def weather(city: str) -> Weather:
    return Weather(f"rain in {city}", datetime.date(2026, 1, 2))


@action
class Brief:
    async def stream(self, sky: str) -> AsyncIterator[str]:
        for word in sky.split():
            yield word


class Plan(TypedDict):
    day: datetime.date


@action
async def plans() -> AsyncIterator[Plan]:
    yield {"day": "2026-01-02"}  # type: ignore[typeddict-item]  # JSON has no dates


@action
def spell() -> Iterable[str]:
    yield from ("ab", "cd")


@action
def count_days() -> Iterable[datetime.date]:
    yield datetime.date(2026, 1, 2)


@action
def by_default(x: Annotated[int, Field(default=3)]) -> int:
    return x


@action
async def large(letter: str) -> str:
    return letter * 900_000


async def test_the_output_of_any_step_is_what_its_action_answered() -> None:
    flow = Workflow("briefing")
    sky = flow.step("weather", weather)
    brief = flow.step("brief", Brief, {"sky": sky.output["summary"]})
    async with AsyncClient.local() as client:
        result = await client.run(flow, {"city": "Oslo"})
        later = await client.result(result.run_id)
    assert result[sky] == later[sky] == Weather("rain in Oslo", datetime.date(2026, 1, 2))
    assert result[brief] == later[brief] == "raininOslo"
    assert result["weather"] == {"summary": "rain in Oslo", "day": "2026-01-02"}


async def test_streams_of_typed_dicts_and_of_iterables_answer_what_is_declared() -> None:
    flow = Workflow("streams")
    days, words, more = flow.step("days", plans), flow.step("words", spell), flow.step("more", count_days)
    async with AsyncClient.local() as client:
        result = await client.run(flow)
    assert result[days] == [{"day": datetime.date(2026, 1, 2)}]
    assert result[words] == "abcd"
    assert result[more] == [datetime.date(2026, 1, 2)]


async def test_a_parameter_with_a_default_in_its_annotation_may_be_left_out() -> None:
    flow = Workflow("defaults")
    step = flow.step("only", by_default, {})
    async with AsyncClient.local() as client:
        assert (await client.run(flow))[step] == 3


async def test_an_output_is_named_by_a_step_or_its_id_alone() -> None:
    flow = Workflow("defaults")
    step = flow.step("only", by_default, {})
    async with AsyncClient.local() as client:
        result = await client.run(flow)
    for wrong in (0, step.output):
        with pytest.raises(TypeError, match="a step or its id, got"):
            result[wrong]  # type: ignore[call-overload]  # the point


async def test_outputs_that_are_too_large_to_send_together_are_there() -> None:
    flow = Workflow("large")
    steps = [flow.step(letter, large, {"letter": letter}) for letter in "abcdef"]
    async with AsyncClient.local() as client:
        result = await client.run(flow)
        later = await client.result(result.run_id)
    for step in steps:
        assert result[step] == later[step] == step.id * 900_000


def test_the_output_of_a_scripted_run_has_the_declared_type() -> None:
    flow = Workflow("scripted")
    sky = flow.step("weather", weather)
    run = run_scripted(flow, {"weather": [{"summary": "sun", "day": "2026-01-02"}]}, {"city": "Oslo"})
    assert run[sky] == Weather("sun", datetime.date(2026, 1, 2))
    assert run["weather"]["summary"] == "sun"
    with pytest.raises(KeyError, match="no step 'wether'; did you mean 'weather'"):
        run["wether"]


def test_the_example_of_the_page_runs_as_written(tmp_path: Path) -> None:
    (example,) = [
        block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "degrees" in block
    ]
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "-c", "import example; print(example.degrees())"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "RAIN IN OSLO\n7\n", done.stderr

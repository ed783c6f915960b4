"""Events for type checkers and readers: both ways of narrowing, and the tables of `client/README.md`."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

import stepwave
from stepwave import AnyEvent, Event, Failure, RunResult, StepResult, Wave
from stepwave.v1 import event_pb2
from unit.client.type_checker import mypy

README = Path(__file__).parents[3] / "client" / "README.md"
CLASSES: tuple[type[Event], ...] = get_args(AnyEvent)

NARROWING = """
from typing import assert_type
from stepwave import AnyEvent, AsyncClient, Client, Event, RunFinished, StepChunk, StepFinished, StepResult, TextChunk

def by_kind(event: AnyEvent) -> None:
    if event.kind == "step_finished":
        assert_type(event, StepFinished)
        assert_type(event.result, StepResult)
    elif event.kind == "step_chunk":
        assert_type(event, StepChunk)

def by_class(event: AnyEvent) -> None:
    match event:
        case StepFinished(result=result):
            assert_type(event, StepFinished)
            assert_type(result, StepResult)
        case StepChunk():
            assert_type(event, StepChunk)

async def streams(client: AsyncClient) -> None:
    async with client.run("flow") as run, client.watch("run") as watch:
        async for event in run:
            if event.kind == "run_finished":
                assert_type(event, RunFinished)
        async for event in watch:
            if event.kind == "run_finished":
                assert_type(event, RunFinished)
        async for text in run.text("step"):
            assert_type(text, TextChunk)

def blocking_streams(client: Client) -> None:
    with client.stream("flow") as run, client.watch("run") as watch:
        results = [event.result for event in run if event.kind == "run_finished"]
        for event in watch:
            match event:
                case RunFinished(result=result):
                    results.append(result)
        for text in run.text("step"):
            assert_type(text, TextChunk)

def with_the_base_class(client: Client) -> Event:
    def sequence(event: Event) -> int:
        return event.sequence
    with client.stream("flow") as run:
        events: list[Event] = list(run)
        return max(events, key=sequence)
"""


def test_mypy_narrows_events_by_kind_and_by_class(tmp_path: Path) -> None:
    assert mypy(NARROWING, tmp_path).startswith("Success")


def test_mypy_rejects_a_field_that_not_every_event_has(tmp_path: Path) -> None:
    code = "from stepwave import AnyEvent\n\ndef step(event: AnyEvent) -> str:\n    return event.step_id\n"
    assert 'Item "RunStarted" of "' in mypy(code, tmp_path)


def test_the_union_has_every_event() -> None:
    public = [getattr(stepwave, name) for name in stepwave.__all__]
    assert set(CLASSES) == {each for each in public if inspect.isclass(each) and issubclass(each, Event)} - {Event}


def test_every_kind_of_the_contract_has_one_class() -> None:
    kinds = [field.name for field in event_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["kind"].fields]
    assert sorted(kind.kind for kind in CLASSES) == sorted([*kinds, "unknown"])


def fields_text(kind: type, base: type | None = None) -> str:
    inherited = {field.name for field in dataclasses.fields(base)} if base else set()
    own = [field for field in dataclasses.fields(kind) if field.name not in inherited]
    return ", ".join(f"`{field.name}: {type_text(field.type)}`" for field in own)


def type_text(annotation: object) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    text = re.sub(r"[a-z_]+(\.[a-z_]+)*\.(?=\w)", "", text, flags=re.IGNORECASE)
    return text.replace("Any", "JSON | Blob").replace("|", r"\|")


def first_sentence(kind: type) -> str:
    return re.split(r"(?<=\.)\s", inspect.getdoc(kind) or "")[0]


def event_table() -> str:
    rows = [
        f"| `{kind.kind}` | `{kind.__name__}` | {first_sentence(kind)} | {fields_text(kind, Event)} |"
        for kind in CLASSES
    ]
    return "\n".join(["| `event.kind` | class | meaning | fields |", "|---|---|---|---|", *rows])


def value_table() -> str:
    kinds = (Wave, StepResult, RunResult, Failure)
    rows = [f"| `{kind.__name__}` | {first_sentence(kind)} | {fields_text(kind)} |" for kind in kinds]
    return "\n".join(["| class | meaning | fields |", "|---|---|---|", *rows])


@pytest.mark.parametrize("table", [event_table, value_table])
def test_the_tables_of_the_page_are_those_of_the_classes(table: Callable[[], str]) -> None:
    assert table() in README.read_text(), f"put this table into client/README.md:\n{table()}"

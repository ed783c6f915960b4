"""The briefing example: its actions with their real sources, and the demo as a user runs it."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from stepwave import Answer
from stepwave._files import load_workflow
from stepwave.v1 import workflow_pb2

EXAMPLE = Path(__file__).parents[2] / "client" / "examples" / "briefing"
WORKSHOP_DAY = date(2026, 11, 24)


def load(name: str) -> ModuleType:
    """Import a file of the example under a unique name: other tests have a `tools` too."""
    spec = importlib.util.spec_from_file_location(f"briefing_example_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The actions, without the simulated network latency."""
    module = load("tools")
    monkeypatch.setattr(module, "SEARCH_LATENCY_SECONDS", 0)
    monkeypatch.setattr(module, "CALENDAR_LATENCY_SECONDS", 0)
    yield module
    module._reference().close()


@pytest.fixture
def weather_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = load("weather_service")
    monkeypatch.setattr(module, "LATENCY_SECONDS", 0)
    with module.weather_service() as address:
        monkeypatch.setenv("WEATHER_SERVICE", address)
        yield


def test_search_gives_the_best_page_first(tools: ModuleType) -> None:
    found = tools.search("context managers", limit=2)
    assert [passage["topic"] for passage in found] == ["context-managers", "with"]
    assert "runtime context" in found[0]["excerpt"]


@pytest.mark.parametrize("query", ['"', "AND", "topic:with", "it's NEAR(a", "", "qqqq"])
def test_search_accepts_any_text(tools: ModuleType, query: str) -> None:
    assert isinstance(tools.search(query), list)


async def test_a_day_has_its_single_its_recurring_and_its_all_day_events_in_order(tools: ModuleType) -> None:
    events = await tools.calendar(WORKSHOP_DAY)
    assert [(event["start"], event["end"], event["summary"]) for event in events] == [
        ("", "", "Rita's birthday"),
        ("09:30", "09:45", "Stand-up"),
        ("14:00", "15:30", "Workshop on context managers"),
    ]


async def test_a_recurring_event_is_not_on_an_excepted_day(tools: ModuleType) -> None:
    events = await tools.calendar(date(2026, 11, 26))
    assert [event["summary"] for event in events] == ["Train to Porto"]


@pytest.mark.usefixtures("weather_service")
def test_weather_comes_from_the_service(tools: ModuleType) -> None:
    assert tools.weather("Lisbon", WORKSHOP_DAY) == {
        "city": "Lisbon",
        "day": "2026-11-24",
        "summary": "rain from noon",
        "low_c": 11,
        "high_c": 16,
        "rain_mm": 8.4,
        "wind_kmh": 24,
    }


@pytest.mark.usefixtures("weather_service")
def test_an_unknown_city_fails_with_the_message_of_the_service(tools: ModuleType) -> None:
    with pytest.raises(LookupError, match="no weather for 'Atlantis' on '2026-11-24'"):
        tools.weather("Atlantis", WORKSHOP_DAY)


async def test_combine_streams_its_lines_then_answers_with_the_whole(tools: ModuleType) -> None:
    weather = tools.Forecast("Oslo", WORKSHOP_DAY, "clear", -11, -4, 0.0, 5)
    *lines, answer = [part async for part in tools.combine(WORKSHOP_DAY, "walrus", [], weather, [])]
    assert lines == [
        "Tuesday, 24 November 2026, Oslo\n",
        "Weather: clear, -11 to -4 °C; no umbrella needed.\n",
        "Calendar: nothing today.\n",
        "Reading on walrus: nothing found.\n",
    ]
    assert isinstance(answer, Answer)
    assert answer.value == {
        "day": "2026-11-24",
        "city": "Oslo",
        "text": "".join(lines).rstrip("\n"),
        "events": [],
        "umbrella": False,
        "reading": [],
    }


def test_the_file_and_the_program_are_the_same_workflow() -> None:
    program = "import sys; from briefing import *; sys.stdout.buffer.write(briefing().to_proto().SerializeToString())"
    built = subprocess.run([sys.executable, "-c", program], cwd=EXAMPLE, check=True, capture_output=True, timeout=60)
    assert workflow_pb2.Workflow.FromString(built.stdout) == spelt_out(load_workflow(EXAMPLE / "briefing.yaml").message)


def spelt_out(workflow: workflow_pb2.Workflow) -> workflow_pb2.Workflow:
    """Set the defaults that the file leaves out."""
    workflow.scheduling = workflow_pb2.SCHEDULING_EAGER
    workflow.failure_policy = workflow_pb2.FAILURE_POLICY_FAIL_FAST
    for step in workflow.steps:
        step.join = workflow_pb2.JOIN_ALL
        step.on_interrupt = workflow_pb2.ON_INTERRUPT_RETRY
    return workflow


def test_the_demo_runs_from_any_folder_and_parallel_is_faster(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE / "demo.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Workshop on context managers (Library)" in done.stdout
    assert "Weather: rain from noon, 11 to 16 °C; take an umbrella." in done.stdout
    assert "With Statement Context Managers: " in done.stdout
    speed_up = re.search(r"^speed-up +([\d.]+) ×$", done.stdout, re.MULTILINE)
    assert speed_up is not None
    assert float(speed_up[1]) > 1

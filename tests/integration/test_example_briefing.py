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

from stepwave import Answer, AsyncClient
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
    yield module
    module._reference().close()


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the services, without latency."""
    module = load("services")
    monkeypatch.setattr(module, "WEATHER_LATENCY_SECONDS", 0)
    monkeypatch.setattr(module, "CALENDAR_LATENCY_SECONDS", 0)
    with module.services() as address:
        yield address


def test_search_gives_the_best_page_first(tools: ModuleType) -> None:
    found = tools.search("context managers", limit=2)
    assert [passage["topic"] for passage in found] == ["context-managers", "with"]
    assert "runtime context" in found[0]["excerpt"]


@pytest.mark.parametrize("query", ['"', "AND", "topic:with", "it's NEAR(a", "", "qqqq"])
def test_search_accepts_any_text(tools: ModuleType, query: str) -> None:
    assert isinstance(tools.search(query), list)


def test_a_day_has_its_single_its_recurring_and_its_all_day_events_in_order(tools: ModuleType, services: str) -> None:
    events = tools.calendar(WORKSHOP_DAY, f"http://{services}/calendar.ics")
    assert [(event["start"], event["end"], event["summary"]) for event in events] == [
        ("", "", "Rita's birthday"),
        ("09:30", "09:45", "Stand-up"),
        ("14:00", "15:30", "Workshop on context managers"),
    ]


def test_a_recurring_event_is_not_on_an_excepted_day(tools: ModuleType, services: str) -> None:
    events = tools.calendar(date(2026, 11, 26), f"http://{services}/calendar.ics")
    assert [event["summary"] for event in events] == ["Train to Porto"]


async def test_an_unknown_city_fails_with_the_message_of_the_service(services: str) -> None:
    flow, url = load_workflow(EXAMPLE / "briefing.yaml").message, f"http://{services}"
    given = {"day": "2026-11-24", "city": "Atlantis", "topic": "", "calendar_url": f"{url}/calendar.ics"}
    given["weather_url"] = f"{url}/weather"
    async with AsyncClient.local([load("tools")], http_allow=[services]) as client:
        result = await client.run(flow, given, check=False)
    (failure,) = result.failures
    assert (failure.step_id, failure.reason) == ("weather", "not_found")
    assert "no weather for 'Atlantis' on '2026-11-24'" in failure.message


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

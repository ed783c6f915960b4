"""Progress of a run for a client of MCP: its value increases with each message."""

from typing import cast

from stepwave._mcp.progress import Progress
from stepwave._model.events import AnyEvent
from stepwave.v1 import workflow_pb2
from unit.cli.script import Script


def counted(script: Script) -> tuple[list[str], list[float]]:
    """Return the messages for a run's events, and the values with them."""
    progress = Progress(workflow_pb2.Workflow())
    found = [(text, progress.value) for event in script.events if (text := progress.count(cast("AnyEvent", event)))]
    return [text for text, _ in found], [value for _, value in found]


def test_the_value_increases_with_all_reports_of_steps_that_run_together() -> None:
    script = Script(("a", "b"))
    script.started()
    for fraction in (0.5, 0.1, None, 1.0, 1.0):
        script.progress("a", fraction, "")
        script.progress("b", fraction, "")
    script.succeeded("a")
    _, values = counted(script)
    assert len(values) == 11
    assert values == sorted(set(values))
    assert values[-1] == 1


def test_a_report_without_a_message_shows_its_fraction_or_that_the_step_runs() -> None:
    script = Script(("a",))
    script.progress("a", 0.25, "")
    script.progress("a", None, "")
    texts, _ = counted(script)
    assert texts == ["a: 25%", "a: running"]

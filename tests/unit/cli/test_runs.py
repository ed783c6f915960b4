"""Following a run: what the display learns about the connection, and what it says of a paused run."""

import logging
from collections.abc import AsyncIterator

import pytest

from stepwave._model.events import Event
from stepwave._model.results import State
from stepwave.cli.display.displays import QuietDisplay
from stepwave.cli.runs import ShowOptions, follow
from unit.cli.script import Script


class _RecordingDisplay(QuietDisplay):
    """Records what it is to show.

    Attributes:
        shown: Messages, and changes of the connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def show_message(self, message: str) -> None:
        self.shown.append(message)

    def show_connection(self, *, lost: bool) -> None:
        self.shown.append("lost" if lost else "back")


async def test_the_display_shows_that_the_server_is_gone_and_back() -> None:
    first, *others = Script(("a",)).started("a").succeeded("a").finished(State.SUCCEEDED).events
    logger = logging.getLogger("stepwave.connection")

    async def events() -> AsyncIterator[Event]:
        yield first
        logger.warning("lost the server at %s; reconnecting", "here")
        logger.info("reconnected")
        for event in others:
            yield event

    display = _RecordingDisplay()
    await follow(events(), display)
    assert display.shown == ["lost the server at here; reconnecting", "lost", "reconnected", "back"]


def test_who_follows_a_step_of_a_paused_run_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    ShowOptions(step_id="summary").make_display(None, paused_at=3)
    assert capsys.readouterr() == ("", "paused: its server does not continue it\n")

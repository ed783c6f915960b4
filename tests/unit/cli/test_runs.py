"""Following a run: connection messages beside its events."""

import io
import logging
from collections.abc import AsyncIterator

import pytest
from rich.console import Console

from stepwave._model.events import Event
from stepwave._model.results import State
from stepwave.cli.display.displays import QuietDisplay
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.runs import follow
from unit.cli.script import Script


class RecordedDisplay:
    """A display, and the lines that it wrote."""

    def __init__(self) -> None:
        self._written = io.StringIO()
        self.display = QuietDisplay(Console(file=self._written))

    @property
    def lines(self) -> list[str]:
        return self._written.getvalue().splitlines()


@pytest.fixture
def recorded() -> RecordedDisplay:
    return RecordedDisplay()


async def events(*, end: bool = True) -> AsyncIterator[Event]:
    """Yield the events of a run. The connection is lost once."""
    script = Script(("search",)).started("search").succeeded("search").finished(State.SUCCEEDED)
    connection = logging.getLogger("stepwave.connection")
    yield script.events[0]
    connection.warning("lost the server at %s; reconnecting", "host:1")
    connection.info("reconnected")
    for event in script.events[1:] if end else ():
        yield event


async def test_connection_messages_are_shown(recorded: RecordedDisplay) -> None:
    await follow(events(), recorded.display)
    assert recorded.lines == ["lost the server at host:1; reconnecting", "reconnected"]


async def test_no_connection_messages_are_shown_after_the_run_was_followed(recorded: RecordedDisplay) -> None:
    with pytest.raises(CommandError):
        await follow(events(end=False), recorded.display)
    before = recorded.lines
    logging.getLogger("stepwave.connection").warning("lost the server at %s; reconnecting", "host:2")
    assert recorded.lines == before

"""How a run is followed: what is said beside its events."""

import io
import logging
from collections.abc import AsyncIterator

import pytest
from rich.console import Console

from stepwave._model.events import Event
from stepwave._model.results import State
from stepwave.cli.display.displays import QuietDisplay
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.follow import follow
from unit.cli.script import Script


class Said:
    """A display, and what it said."""

    def __init__(self) -> None:
        self._written = io.StringIO()
        self.display = QuietDisplay(Console(file=self._written))

    @property
    def lines(self) -> list[str]:
        return self._written.getvalue().splitlines()


@pytest.fixture
def said() -> Said:
    return Said()


async def events(*, end: bool = True) -> AsyncIterator[Event]:
    """Give the events of a run, whose stream is lost once."""
    script = Script(("search",)).started("search").succeeded("search").finished(State.SUCCEEDED)
    connection = logging.getLogger("stepwave.connection")
    yield script.events[0]
    connection.warning("lost the server at %s; reconnecting", "host:1")
    connection.info("reconnected")
    for event in script.events[1:] if end else ():
        yield event


async def test_what_becomes_of_the_connection_is_said(said: Said) -> None:
    await follow(events(), said.display)
    assert said.lines == ["lost the server at host:1; reconnecting", "reconnected"]


async def test_nothing_is_said_any_more_once_the_run_was_left(said: Said) -> None:
    with pytest.raises(CommandError):
        await follow(events(end=False), said.display)
    before = said.lines
    logging.getLogger("stepwave.connection").warning("lost the server at %s; reconnecting", "host:2")
    assert said.lines == before

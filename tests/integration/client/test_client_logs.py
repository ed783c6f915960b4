"""What actions log, as both clients and scripted runs see it."""

import logging

import pytest

from stepwave import AsyncClient, Client, Context, LogLevel, NotFound, StepLog, Workflow, action
from stepwave._client import queries
from stepwave.testing import run_scripted

logger = logging.getLogger("tools")


@action
async def talk(context: Context, words: list[str]) -> None:
    """Log each word."""
    for word in words:
        context.logger.warning("%s", word)


@action
def talk_on_thread(context: Context) -> None:
    """Log on a thread, also by a logger of the module."""
    context.logger.info("on a thread")
    logger.error("by another logger")


def talking() -> Workflow:
    flow = Workflow("talking")
    first = flow.step("first", talk, {"words": ["a", "b"]})
    flow.step("second", talk_on_thread, {}, depends_on=[first])
    return flow


async def test_the_events_of_a_run_are_the_messages_that_are_kept() -> None:
    async with AsyncClient.local(entry_points=False) as client:
        async with client.run(talking()) as run:
            events = [event async for event in run if isinstance(event, StepLog)]
        assert [(event.index, event.step_id, event.level, event.message) for event in events] == [
            (1, "first", LogLevel.WARNING, "a"),
            (2, "first", LogLevel.WARNING, "b"),
            (3, "second", LogLevel.INFO, "on a thread"),
        ]
        assert [event async for event in client.logs(run.run_id)] == events
        assert [event async for event in client.logs(run.run_id, "second")] == events[2:]
        assert events[0].to_dict()["level"] == "warning"


async def test_the_messages_of_an_unknown_run_are_not_found() -> None:
    async with AsyncClient.local(entry_points=False) as client:
        with pytest.raises(NotFound):
            await anext(client.logs("none"))


def test_the_blocking_client_returns_the_same() -> None:
    with Client.local(entry_points=False) as client:
        run_id = client.run(talking()).run_id
        assert [event.message for event in client.logs(run_id)] == ["a", "b", "on a thread"]
        assert [event.message for event in client.logs(run_id, step="first")] == ["a", "b"]


async def test_messages_are_read_over_several_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_LOGS_PER_PAGE", 2)
    async with AsyncClient.local(entry_points=False) as client:
        run_id = (await client.run(talking())).run_id
        assert [event.index async for event in client.logs(run_id)] == [1, 2, 3]


def test_a_scripted_run_has_the_messages_among_its_events_and_equal_scripts_give_equal_ones() -> None:
    one, other = (run_scripted(talking()) for _ in range(2))
    assert one.events == other.events
    assert [event.message for event in one.events if isinstance(event, StepLog)] == ["a", "b", "on a thread"]

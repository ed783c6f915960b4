"""The text of one step of a run, over a real server in this process."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from integration.client.fake import GUARD
from stepwave import ActionError, AsyncClient, Client, Context, Retry, RunFailed, State, Workflow, action


class Reader:
    """What the actions wait for: the reader has their first chunk."""

    def __init__(self) -> None:
        self.has_chunk = threading.Event()


READER = Reader()


@action
def story() -> Iterator[str]:
    yield "Once "
    assert READER.has_chunk.wait(GUARD)
    yield "upon a time"


@action
async def flaky_story(context: Context) -> AsyncIterator[str]:
    yield "Twice "
    if context.attempt == 1:
        await asyncio.to_thread(READER.has_chunk.wait, GUARD)
        raise ActionError("the pen broke")
    yield "upon a time"


@action
async def broken_story() -> AsyncIterator[str]:
    yield "Thrice "
    await asyncio.to_thread(READER.has_chunk.wait, GUARD)
    raise ActionError("no more ink", reason="invalid_input")


ACTIONS = [story, flaky_story, broken_story]


@pytest.fixture(autouse=True)
def _no_chunk_yet() -> None:
    READER.has_chunk.clear()


@pytest.fixture
def stepwave_actions() -> list[object]:
    return [*ACTIONS]


@pytest.fixture
async def local() -> AsyncIterator[AsyncClient]:
    async with AsyncClient.local(ACTIONS) as client:
        yield client


def story_flow(name: str) -> Workflow:
    flow = Workflow("w", retry=Retry(max_attempts=2, initial_backoff=0.001))
    first = flow.step("story", name)
    flow.step("printed", "core.echo", {"text": first.output})
    return flow


async def test_chunks_are_read_while_the_step_runs(local: AsyncClient) -> None:
    texts = []
    async with local.run(story_flow("story")) as run:
        async for text in run.text("story"):
            texts.append(text)
            READER.has_chunk.set()
        result = await run
    assert "".join(texts) == result.steps["story"].output == "Once upon a time"
    assert texts[0] == "Once "
    assert result.outputs == {"printed": {"text": "Once upon a time"}}


async def test_a_second_attempt_restarts_the_text(local: AsyncClient) -> None:
    whole = ""
    async with local.run(story_flow("flaky_story")) as run:
        async for text in run.text("story"):
            whole = text if text.restarts else whole + text
            READER.has_chunk.set()
        assert (await run).steps["story"].attempts == 2
    assert whole == "Twice upon a time"


async def test_the_text_of_a_failed_step_ends_with_the_failure_of_its_run(local: AsyncClient) -> None:
    texts: list[str] = []

    async def read() -> None:
        async with local.run(story_flow("broken_story")) as run:
            async for text in run.text("story"):
                texts.append(text)
                READER.has_chunk.set()

    with pytest.raises(RunFailed, match="step 'story' failed: no more ink"):
        await read()
    assert texts == ["Thrice "]


async def test_two_texts_are_read_at_once_through_a_watch(local: AsyncClient) -> None:
    flow = story_flow("story")
    flow.step("second", "flaky_story")

    async def second(run_id: str) -> str:
        whole = ""
        async with local.watch(run_id) as events:
            async for text in events.text("second"):
                whole = text if text.restarts else whole + text
        return whole

    async with local.run(flow) as run:
        await anext(run)
        READER.has_chunk.set()
        reading = asyncio.create_task(second(run.run_id))
        assert "".join([text async for text in run.text("story")]) == "Once upon a time"
        await run
    assert await reading == "Twice upon a time"


async def test_leaving_the_loop_and_the_run_cancels_it(local: AsyncClient) -> None:
    async with local.run(story_flow("story")) as run:
        async for _ in run.text("story"):
            break
    READER.has_chunk.set()
    assert (await local.wait(run.run_id, check=False, timeout=GUARD)).state is State.CANCELLED


def test_the_synchronous_client_reads_text_too(stepwave_client: Client) -> None:
    texts = []
    with stepwave_client.stream(story_flow("story")) as run:
        for text in run.text("story"):
            texts.append(text)
            READER.has_chunk.set()
        assert [event.kind for event in run][-1] == "run_finished"
    assert "".join(texts) == "Once upon a time"
    with stepwave_client.watch(run.run_id) as events:
        assert list(events.text("story")) == ["Once upon a time"]

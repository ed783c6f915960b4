"""Kinds of functions: the outermost callable and its result decide how an action runs."""

import asyncio
import functools
import os
import threading
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from typing import Annotated, Any, LiteralString

import pytest

from stepwave import Answer, Blob, Context, action
from stepwave_server.actions import Action
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.values import load
from stepwave_server.core.model import Payload

MAX_BYTES = 10_000


async def run(target: object) -> tuple[object, list[object]]:
    """Run an action; return its answer, and the chunks that it has emitted."""
    emitted: list[Payload] = []
    found = Action.of(target, name="action")
    context = Context(run_id="run", step_id="step")
    answer = await found.run("{}", lambda: context, emitted.append, MAX_BYTES)
    return load(answer), [load(chunk) for chunk in emitted]


def wrapped_as(outer: Callable[[Callable[..., Any]], Callable[..., object]], inner: Callable[..., object]) -> Any:
    """Decorate a function with `functools.wraps`: the wrapper has the inner function's name, hints and signature."""
    return functools.wraps(inner)(outer(inner))


async def coroutine() -> str:
    await asyncio.sleep(0)
    return f"ran on {threading.current_thread().name}"


def plain() -> str:
    return f"ran on {threading.current_thread().name}"


def generator() -> Iterator[int]:
    yield from (1, 2)


async def async_generator() -> AsyncIterator[int]:
    for number in (1, 2):
        await asyncio.sleep(0)
        yield number


def sync_over_async(inner: Callable[..., Any]) -> Callable[..., object]:
    return lambda: asyncio.run(inner())


def async_over_sync(inner: Callable[..., Any]) -> Callable[..., object]:
    async def wrapper() -> object:
        await asyncio.sleep(0)
        return inner()

    return wrapper


def pass_through(inner: Callable[..., Any]) -> Callable[..., object]:
    return lambda: inner()


def to_list(inner: Callable[..., Any]) -> Callable[..., object]:
    return lambda: list(inner())


def to_list_async(inner: Callable[..., Any]) -> Callable[..., object]:
    async def wrapper() -> object:
        return [item async for item in inner()]

    return wrapper


def to_stream(inner: Callable[..., Any]) -> Callable[..., object]:
    def wrapper() -> Iterator[object]:
        yield inner()

    return wrapper


def to_stream_async(inner: Callable[..., Any]) -> Callable[..., object]:
    async def wrapper() -> AsyncIterator[object]:
        yield await inner()

    return wrapper


@pytest.mark.parametrize(
    ("outer", "inner", "answer", "chunks"),
    [
        (sync_over_async, coroutine, "ran on stepwave-action", []),
        (async_over_sync, plain, "ran on MainThread", []),
        (pass_through, coroutine, "ran on MainThread", []),
        (pass_through, plain, "ran on stepwave-action", []),
        (pass_through, generator, [1, 2], [1, 2]),
        (pass_through, async_generator, [1, 2], [1, 2]),
        (async_over_sync, generator, [1, 2], [1, 2]),
        (async_over_sync, async_generator, [1, 2], [1, 2]),
        (to_list, generator, [1, 2], []),
        (to_list_async, async_generator, [1, 2], []),
        (to_stream, plain, "ran on stepwave-action", ["ran on stepwave-action"]),
        (to_stream_async, coroutine, "ran on MainThread", ["ran on MainThread"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_decorator_may_change_the_kind_of_function(
    outer: Callable[..., Any], inner: Callable[..., object], answer: object, chunks: list[object]
) -> None:
    assert await run(wrapped_as(outer, inner)) == (answer, chunks)


@pytest.mark.parametrize(
    ("outer", "inner", "streaming", "threaded"),
    [
        (to_list, generator, False, True),
        (to_list_async, async_generator, False, False),
        (async_over_sync, generator, False, False),
        (to_stream, plain, True, True),
        (to_stream_async, coroutine, True, False),
        (sync_over_async, coroutine, False, True),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_outermost_function_decides_whether_it_streams(
    outer: Callable[..., Any], inner: Callable[..., object], streaming: bool, threaded: bool
) -> None:
    found = Action.of(wrapped_as(outer, inner), name="action")
    assert (found.streaming, found.threaded) == (streaming, threaded)


class Caller:
    async def __call__(self) -> str:
        return "called"


class Plain:
    def __call__(self) -> str:
        return "called"


class Streamer:
    async def __call__(self) -> AsyncIterator[str]:
        yield "called"


class Runnable:
    async def invoke(self) -> str:
        return "invoked"


@pytest.mark.parametrize(
    ("target", "answer", "threaded"),
    [
        (Caller(), "called", False),
        (Plain(), "called", True),
        (Streamer(), "called", False),
        (Runnable(), "invoked", False),
        (functools.partial(coroutine), "ran on MainThread", False),
        (functools.partial(functools.partial(Caller())), "called", False),
        (functools.partial(plain), "ran on stepwave-action", True),
    ],
    ids=["async call", "call", "async generator", "invoke", "partial async", "partial instance", "partial"],
)
async def test_an_object_runs_like_its_function(target: object, answer: str, threaded: bool) -> None:
    assert (await run(target))[0] == answer
    assert Action.of(target, name="action").threaded is threaded


async def test_a_cached_function_is_read_like_the_inner_function() -> None:
    @functools.cache
    def double(number: "int") -> "Sequence[int]":
        """Double a number."""
        return [2 * number]

    found = Action.of(double, name="double")
    context = Context(run_id="run", step_id="step")
    assert (found.description, found.threaded) == ("Double a number.", True)
    assert await found.run('{"number": 2}', lambda: context, print, MAX_BYTES) == "[4]"


async def test_the_other_parameters_of_a_partial_come_from_the_input() -> None:
    def add(left: int, right: int) -> int:
        return left + right

    found = Action.of(action("add")(functools.partial(add, right=2)))
    context = Context(run_id="run", step_id="step")
    assert await found.run('{"left": 1}', lambda: context, print, MAX_BYTES) == "3"
    assert await found.run('{"left": 1, "right": 5}', lambda: context, print, MAX_BYTES) == "6"


async def test_a_generator_based_coroutine_is_awaited() -> None:
    @types.coroutine
    def old() -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        return "awaited"

    assert await run(old) == ("awaited", [])
    assert not Action.of(old, name="action").streaming


async def test_a_future_that_a_coroutine_returns_is_awaited() -> None:
    async def later() -> Awaitable[str]:
        return asyncio.ensure_future(coroutine())

    assert (await run(later))[0] == "ran on MainThread"


async def test_any_iterator_is_a_stream() -> None:
    assert await run(lambda: map(str, [1, 2])) == ("12", ["1", "2"])


@pytest.mark.parametrize("value", [[1, 2], (1, 2), range(1, 3)], ids=["list", "tuple", "range"])
async def test_a_collection_is_a_value(value: object) -> None:
    assert await run(lambda: value if not isinstance(value, range) else list(value)) == ([1, 2], [])


async def test_an_awaitable_that_always_results_in_itself_is_rejected() -> None:
    class Itself:
        def __await__(self) -> Generator[Any, None, "Itself"]:
            return self
            yield

    async def odd() -> object:
        return Itself()

    with pytest.raises(ActionFailed, match="JSON cannot hold"):
        await run(odd)


async def test_a_generator_on_a_thread_is_closed() -> None:
    closed = threading.Event()

    def stream() -> Iterator[int]:
        try:
            yield 1
            raise ValueError("broken")
        finally:
            closed.set()

    with pytest.raises(ValueError, match="broken"):
        await run(stream)
    assert closed.is_set()


# Answers of streams.


async def test_a_chunk_that_changes_later_is_in_the_answer_as_it_was_emitted() -> None:
    async def counting() -> AsyncIterator[dict[str, int]]:
        state = {"count": 0}
        for _ in range(3):
            yield state
            state["count"] += 1

    answer, chunks = await run(counting)
    assert answer == chunks == [{"count": 0}, {"count": 1}, {"count": 2}]


async def test_an_explicit_answer_that_changes_later_stays_as_it_was_yielded() -> None:
    def last() -> Iterator[object]:
        found = [1]
        yield Answer(found)
        found.append(2)

    assert await run(last) == ([1], [])


def _empty_async_stream(hint: object) -> Callable[[], object]:
    async def stream() -> Any:
        return
        yield

    stream.__annotations__["return"] = hint
    return stream


def _empty_stream(hint: object) -> Callable[[], object]:
    def stream() -> Any:
        return
        yield

    stream.__annotations__["return"] = hint
    return stream


@pytest.mark.parametrize(
    ("hint", "answer"),
    [
        (AsyncIterator[str], ""),
        (Iterator[str], ""),
        (Generator[str, None, None], ""),
        ("AsyncIterator[str]", ""),
        ("Iterator[Annotated[str, 'words']]", ""),
        (Iterator[Annotated[str, "words"]], ""),
        (AsyncIterator[LiteralString], ""),
        (AsyncIterator[int], []),
        (AsyncIterator[str | int], []),
        (AsyncIterator, []),
        ("AsyncIterator[Nowhere]", []),
        (Any, []),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [_empty_async_stream, _empty_stream], ids=["async", "thread"])
async def test_an_empty_stream_answers_by_its_declared_type(
    kind: Callable[[object], Callable[[], object]], hint: object, answer: object
) -> None:
    assert await run(kind(hint)) == (answer, [])


async def test_a_stream_of_blobs_needs_an_explicit_answer() -> None:
    def pictures() -> Iterator[object]:
        yield Blob(b"x", "image/png")

    with pytest.raises(ActionFailed, match="yield an Answer last"):
        await run(pictures)


async def test_a_list_of_chunks_that_exceeds_the_bound_is_rejected() -> None:
    def numbers() -> Iterator[int]:
        for _ in range(MAX_BYTES):
            yield 1

    with pytest.raises(ActionFailed, match=r"answered 20,001 bytes, more than the 10,000 allowed"):
        await run(numbers)


# Actions that fork.


def _fork(end: Callable[[], object]) -> str:
    """Fork. The child leaves the action, and the parent returns the child's exit code as text."""
    child = os.fork()
    if child == 0:
        return str(end())
    _, status = os.waitpid(child, 0)
    return f"child exited with {os.waitstatus_to_exitcode(status)}"


def _raising(error: BaseException) -> Callable[[], object]:
    def end() -> object:
        raise error

    return end


@pytest.mark.parametrize(
    ("end", "code"),
    [(lambda: "done", 0), (_raising(SystemExit(3)), 3), (_raising(SystemExit()), 0), (_raising(ValueError("no")), 1)],
    ids=["answers", "exits", "exits well", "raises"],
)
@pytest.mark.parametrize("kind", ["async", "thread", "async stream", "thread stream"])
async def test_a_forked_process_exits_when_it_leaves_the_action(
    end: Callable[[], object], code: int, kind: str
) -> None:
    async def on_loop() -> str:
        return _fork(end)

    def on_thread() -> str:
        return _fork(end)

    async def stream() -> AsyncIterator[str]:
        yield _fork(end)

    def stream_on_thread() -> Iterator[str]:
        yield _fork(end)

    kinds = {"async": on_loop, "thread": on_thread, "async stream": stream, "thread stream": stream_on_thread}
    assert (await run(kinds[kind]))[0] == f"child exited with {code}"

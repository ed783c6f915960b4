"""The actions of a host in another process."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from opentelemetry import trace

from stepwave import ActionError, Answer, Blob, Context, FailureReason, action

_begun: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
_ends: defaultdict[str, asyncio.Future[str]] = defaultdict(lambda: asyncio.get_running_loop().create_future())


@action
async def add(left: int, right: int) -> int:
    """Add two numbers."""
    return left + right


def _negate(number: int) -> int:
    return -number


negate = action.from_tool(
    {"name": "negate", "parameters": {"properties": {"number": {"type": "integer"}}, "required": ["number"]}}, _negate
)


@action
async def same(input: object) -> object:
    """Answer with the input."""
    return input


@action
async def bytes_of(text: str) -> Blob:
    """Answer with a blob."""
    return Blob(text.encode(), "text/plain")


@action
async def count(most: int, context: Context) -> AsyncIterator[str]:
    """Answer in chunks, and show progress."""
    for number in range(1, most + 1):
        context.progress(number / most, f"{number} of {most}")
        yield f"{number} "


@action
async def summed(most: int) -> AsyncIterator[int | Answer]:
    """Answer in chunks, and then with another answer."""
    for number in range(1, most + 1):
        yield number
    yield Answer({"sum": most * (most + 1) // 2})


@action
async def refuse(retryable: bool = False) -> None:
    """Fail."""
    raise ActionError("no more tickets", reason=FailureReason.RATE_LIMITED, retryable=retryable)


@action
async def told(context: Context) -> dict[str, object]:
    """Answer with what an action is told of its attempt."""
    span = trace.get_current_span().get_span_context()
    left = (context.deadline - datetime.now(UTC)).total_seconds() if context.deadline else None
    return {
        "run": context.run_id,
        "step": context.step_id,
        "attempt": context.attempt,
        "key": context.idempotency_key,
        "trace": f"{span.trace_id:032x}",
        "span": f"{span.span_id:016x}",
        "left": left,
    }


@action
async def talk(context: Context) -> str:
    """Log messages, by the logger of the context and by another one."""
    context.logger.info("looking for %s", "lakes")
    logging.getLogger("library").warning("few lakes are left")
    context.logger.error("the search failed", exc_info=LookupError("no lake"))
    return "done"


@action
async def hold(context: Context) -> None:
    """Wait until it is interrupted, and show when it has begun and how it ended."""
    try:
        context.emit("begun")
        _begun[context.run_id].set()
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        _ends[context.run_id].set_result("interrupted")
        raise


@action
async def begin_of(run: str) -> None:
    """Wait until `hold` has begun in a run."""
    await _begun[run].wait()


@action
async def end_of(run: str) -> str:
    """Wait until `hold` has ended in a run, and answer how."""
    return await _ends[run]


@action
def large(size: int) -> str:
    """Answer with a long text."""
    return "x" * size


@action
async def add_more(context: Context) -> None:
    """Add steps to the run."""
    await context.add_steps([{"id": "more", "action": "add"}])

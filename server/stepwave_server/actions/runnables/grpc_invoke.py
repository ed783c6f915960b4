"""`grpc.invoke`, and the actions of other processes that have names of their own here."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Annotated, cast

from pydantic import Field

from stepwave._actions.context import Answer, Context
from stepwave.v1 import runnable_pb2
from stepwave_server.actions.described import DescribedAction
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.registry import Action
from stepwave_server.actions.runnables.connection import Connection
from stepwave_server.actions.runnables.entry import RemoteAction, Runnable
from stepwave_server.actions.runnables.errors import failed_attempt
from stepwave_server.actions.values import Unread, dump, load
from stepwave_server.core.info import namespace_of
from stepwave_server.core.model import Blob, Failure, Payload, Reason
from stepwave_server.core.validate import did_you_mean
from stepwave_server.wire.events.encode import LogEntry
from stepwave_server.wire.runnables import Output, ShownProgress, to_attempt

__all__ = ["GRPC_INVOKE", "Runnables"]

GRPC_INVOKE = "grpc.invoke"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Runnables:
    """The services of actions that the configuration names, and the connections to them.

    Args:
        runnables: The services.
        max_bytes: Maximum size of a payload in bytes.
    """

    def __init__(self, runnables: Iterable[Runnable], max_bytes: int) -> None:
        self._connections = {it.name: Connection(it, max_bytes) for it in runnables}

    def actions(self) -> list[Action]:
        """Return `grpc.invoke` and the named actions; none without services."""
        if not self._connections:
            return []
        invoke = Action.of(self.invoke, name=GRPC_INVOKE, source="built-in")
        named = [
            _named_action(connection, action)
            for connection in self._connections.values()
            for action in connection.runnable.actions
        ]
        return [invoke, *named]

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(connection.close() for connection in self._connections.values()))

    async def invoke(
        self,
        runnable: Annotated[str, Field(description="The name of the service in the server's file of runnables.")],
        action: Annotated[str, Field(min_length=1, description="The name of the action there.")],
        context: Context,
        given: Annotated[object, Field(validation_alias="input", description="The input of the action.")] = None,
    ) -> AsyncIterator[object]:
        """Run an action of another process, which serves RunnableService: its chunks, progress and answer."""
        connection = self._connections.get(runnable)
        if connection is None:
            known = self._connections.keys()
            hint = did_you_mean(runnable, known) or f"; this server has {', '.join(sorted(known))}"
            raise ActionFailed(Reason.NOT_FOUND, f'unknown runnable "{runnable}"{hint}')
        async with aclosing(_call(connection, action, dump(given, connection.max_bytes), context)) as items:
            async for item in items:
                yield item


@dataclass(frozen=True, slots=True)
class _NamedAction(Action):
    """An action of another process, as the configuration describes it.

    Attributes:
        described: The description, by which inputs are checked.
    """

    described: DescribedAction

    @property
    def keys(self) -> tuple[str, ...] | None:
        """The keys of the input that it takes: not known."""
        return self.described.keys

    @property
    def takes_others(self) -> bool:
        """Whether it takes any other key of the input as well: not known."""
        return self.described.takes_others

    def problems(self, payload: Payload, targets: Sequence[str]) -> list[str]:
        """Return the problems of an input that no values of its bindings, at these JSON Pointers, can solve."""
        return self.described.problems(payload, targets)


def _named_action(connection: Connection, action: RemoteAction) -> Action:
    """Return an action of another process under its name here."""

    async def stream(context: Context, input: Unread | None = None) -> AsyncIterator[object]:
        async with aclosing(_call(connection, action.remote, _payload(input), context)) as items:
            async for item in items:
                yield item

    async def invoke(context: Context, input: Unread | None = None) -> object:
        return _answer_of(connection, await connection.invoke(_attempt(action.remote, _payload(input), context)))

    source = f"runnable {connection.runnable.name}"
    target = stream if connection.runnable.stream else invoke
    base = Action.of(target, name=action.name, source=source)
    described = DescribedAction(
        name=action.name,
        description=action.description,
        input_schema=action.input_schema,
        streaming=base.streaming,
        source=source,
    )
    given = {field.name: getattr(base, field.name) for field in fields(base)} | {
        "description": action.description,
        "input_schema": action.input_schema or "{}",
        "output_schema": action.output_schema,
        "idempotent": action.idempotent,
    }
    return _NamedAction(**given, described=described)


def _payload(input: Unread | None) -> Payload:
    return "null" if input is None else input.payload


async def _call(connection: Connection, action: str, given: Payload, context: Context) -> AsyncGenerator[object]:
    """Run an action of another process. Yield its chunks, and then its answer, if it has an explicit one.

    Raises:
        ActionFailed: It failed, or the call did.
    """
    attempt = _attempt(action, given, context)
    if not connection.runnable.stream:
        yield Answer(cast("None", _answer_of(connection, await connection.invoke(attempt))))
        return
    async with aclosing(connection.stream(attempt)) as messages:
        async for message in messages:
            match message:
                case ShownProgress(fraction, text):
                    context.progress(fraction, text)
                case LogEntry():
                    _log(context, message)
                case Output() | Failure():
                    yield Answer(cast("None", _answer_of(connection, message)))
                case _:
                    yield _chunk(message)


def _answer_of(connection: Connection, outcome: Output | Failure) -> Unread:
    """Return an answer, which is not converted to a Python value.

    Raises:
        ActionFailed: The outcome is a failure.
    """
    if isinstance(outcome, Failure):
        raise failed_attempt(connection.runnable, outcome)
    return Unread(outcome.payload)


def _log(context: Context, entry: LogEntry) -> None:
    """Log what an action of another process logged, under the name of its logger there."""
    logger, level = context.logger.logger, entry.level * 10
    if logger.isEnabledFor(level):
        name = entry.logger or logger.name
        logger.handle(logging.LogRecord(name, level, "", 0, entry.message, None, None))


def _chunk(chunk: Payload) -> object:
    """Return a chunk for a stream. Text is converted: chunks that are all text make one text."""
    is_text = not isinstance(chunk, Blob) and chunk.lstrip().startswith('"')
    return load(chunk) if is_text else Unread(chunk)


def _attempt(action: str, given: Payload, context: Context) -> runnable_pb2.Attempt:
    deadline = context.deadline
    return to_attempt(
        namespace=namespace_of(context.idempotency_key),
        run_id=context.run_id,
        step_id=context.step_id,
        number=context.attempt,
        action=action,
        input=given,
        idempotency_key=context.idempotency_key,
        deadline=None if deadline is None else round((deadline - EPOCH).total_seconds() * 1e9),
    )

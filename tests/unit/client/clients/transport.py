"""A scripted transport for tests of the client's logic; only sleeping advances its clock."""

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar, cast

from google.protobuf import timestamp_pb2
from google.protobuf.message import Message

from stepwave._client.session import Session
from stepwave._transport.base import MessageStream, Stream, Unary
from stepwave._transport.link import Link, LinkSettings
from stepwave.exceptions import ServerUnavailable, StepwaveError
from stepwave.v1 import event_pb2, payload_pb2, run_pb2
from stepwave.v1 import orchestrator_pb2 as pb

__all__ = [
    "ADDRESS",
    "LOST",
    "ScriptedTransport",
    "batch",
    "chunk",
    "finished",
    "run_finished",
    "session",
    "started",
    "transient",
]

ADDRESS = "127.0.0.1:50051"
LOST = ServerUnavailable(f"no server at {ADDRESS}", address=ADDRESS)

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")


class ScriptedTransport:
    """Answers calls from scripts, and records them.

    The script of a stream is a list. A message is returned, an exception is raised, and a function is called. `None` or
    the end of the list closes the stream.

    Attributes:
        sent: All calls by name, with a copy of the request.
        limits: The time limits of these calls, in seconds.
        cancelled: The number of streams that were cancelled.
        finished: The number of streams that ended by themselves.
        pauses: The lengths of all sleeps, in seconds.
    """

    address = ADDRESS

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []
        self.limits: list[float | None] = []
        self.cancelled = 0
        self.finished = 0
        self.pauses: list[float] = []
        self.time = 1_000.0
        self._streams: deque[list[object]] = deque()
        self._answers: dict[str, deque[Message | StepwaveError]] = {}
        self._always_lost = False

    def stream_answers(self, *script: object) -> None:
        """Script the next stream."""
        self._streams.append(list(script))

    def answers(self, name: str, *answers: Message | StepwaveError) -> None:
        """Script the next answers to a call. After them, the server is unavailable."""
        self._answers.setdefault(name, deque()).extend(answers)

    @property
    def names(self) -> list[str]:
        """The names of all calls, in order."""
        return [name for name, _ in self.sent]

    async def unary(self, method: Unary[Request, Response], request: Request, within: float) -> Response:
        self._record(method.name, request, within)
        scripted = self._answers.get(method.name)
        answer = scripted.popleft() if scripted else LOST
        if isinstance(answer, StepwaveError):
            raise answer
        return cast("Response", answer)

    def stream(
        self, method: Stream[Request, Response], request: Request, within: float | None
    ) -> MessageStream[Response]:
        self._record(method.name, request, within)
        return _ScriptedStream(self, self._streams.popleft() if self._streams else [LOST])

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds

    def now(self) -> float:
        return self.time

    async def shielded(self, work: Coroutine[Any, Any, Result]) -> Result:
        return await work

    async def computed(self, work: Callable[[], Result]) -> Result:
        return work()

    async def close(self) -> None:
        pass

    def _record(self, name: str, request: object, within: float | None) -> None:
        assert isinstance(request, Message)
        copy = type(request)()
        copy.CopyFrom(request)
        self.sent.append((name, copy))
        self.limits.append(within)


class _ScriptedStream(Generic[Response]):
    def __init__(self, transport: ScriptedTransport, script: Iterable[object]) -> None:
        self._transport = transport
        self._script = iter(script)

    async def read(self) -> Response | None:
        step = next(self._script, None)
        while callable(step):
            step()
            step = next(self._script, None)
        if isinstance(step, BaseException):
            raise step
        return cast("Response | None", step)

    async def finish(self) -> None:
        self._transport.finished += 1

    def cancel(self) -> None:
        self._transport.cancelled += 1


def session(transport: ScriptedTransport, *, draw: float = 1.0, **settings: Any) -> Session:
    """Return a session whose pauses are `draw` times the longest possible."""
    chosen = {"namespace": "", "timeout": 30.0, "connect_timeout": 3.0, "reconnect_window": 30.0, **settings}
    return Session(Link(transport, LinkSettings(**chosen), draw=lambda: draw))


def batch(*events: event_pb2.RunEvent, last: int = 0) -> pb.WatchRunResponse:
    """Put events into a message, which both streams encode alike."""
    return pb.WatchRunResponse(
        events=events, last_sequence=last or max((event.sequence for event in events), default=0)
    )


def started(sequence: int, step_id: str = "a") -> event_pb2.RunEvent:
    return _event(sequence, step_started=event_pb2.StepStarted(step_id=step_id, action="core.echo", attempt=1))


def transient(text: str, step_id: str = "a") -> event_pb2.RunEvent:
    return _event(0, step_progress=event_pb2.StepProgress(step_id=step_id, attempt=1, message=text))


def chunk(attempt: int, index: int, step_id: str = "a", json: str = "") -> event_pb2.RunEvent:
    payload = payload_pb2.Payload(json=json or f'"{index}"')
    message = event_pb2.StepChunk(step_id=step_id, attempt=attempt, index=index, payload=payload)
    return _event(0, step_chunk=message)


def finished(
    sequence: int, step_id: str = "a", output: str = "1", state: run_pb2.State.ValueType = run_pb2.STATE_SUCCEEDED
) -> event_pb2.RunEvent:
    result = run_pb2.StepResult(step_id=step_id, action="core.echo", state=state, attempts=1)
    if state == run_pb2.STATE_SUCCEEDED:
        result.output.json = output
    return _event(sequence, step_finished=event_pb2.StepFinished(result=result))


def run_finished(sequence: int, **result: Any) -> event_pb2.RunEvent:
    fields = {"run_id": "r", "workflow_name": "w", "state": run_pb2.STATE_SUCCEEDED, **result}
    return _event(sequence, run_finished=event_pb2.RunFinished(result=run_pb2.Result(**fields)))


def _event(sequence: int, **kind: Any) -> event_pb2.RunEvent:
    return event_pb2.RunEvent(
        run_id="r", sequence=sequence, time=timestamp_pb2.Timestamp(seconds=1_700_000_000), **kind
    )

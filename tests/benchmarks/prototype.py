"""The baseline: a minimal engine that serves Stepwave's contract, in a separate process.

It counts unmet dependencies (Kahn's algorithm), creates an asyncio task for every step, and streams `step_started` and
`step_finished` in batches of protobuf messages. It has no validation, journal, retries or cancellation. The difference
to Stepwave is the cost of these.

`python -m tests.benchmarks.prototype` prints its address, then serves until it is terminated.
"""

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence

import grpc.aio

from stepwave.v1 import event_pb2, run_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb

SERVICE = "stepwave.v1.OrchestratorService"

BATCH = 256
"""The maximum number of events in a message."""


class Run:
    """A run: its steps, their unmet dependencies, and the events that are not sent yet."""

    def __init__(self, steps: Sequence[workflow_pb2.Step]) -> None:
        self._steps = steps
        self._unmet = [len(step.depends_on) for step in steps]
        self._dependents = _dependents(steps)
        self._unfinished = len(steps)
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: deque[event_pb2.RunEvent] = deque()
        self._available = asyncio.Event()
        self._sequence = 0

    async def batches(self) -> AsyncIterator[pb.ExecuteWorkflowResponse]:
        """Run every step as soon as its dependencies are done, and yield batches of events."""
        started = self._event()
        started.run_started.step_count = len(self._steps)
        self._send(started)
        for index, count in enumerate(self._unmet.copy()):
            if not count:
                self._start(index)
        ended = False
        while not ended:
            await self._available.wait()
            self._available.clear()
            while self._events:
                batch = [self._events.popleft() for _ in range(min(BATCH, len(self._events)))]
                ended = batch[-1].HasField("run_finished")
                yield pb.ExecuteWorkflowResponse(events=batch, last_sequence=batch[-1].sequence)

    def _start(self, index: int) -> None:
        task = asyncio.get_running_loop().create_task(self._run_step(index))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_step(self, index: int) -> None:
        step = self._steps[index]
        event = self._event()
        start_time = time.time_ns()
        event.step_started.step_id, event.step_started.action, event.step_started.attempt = step.id, step.action, 1
        event.step_started.ready_time.FromNanoseconds(start_time)
        self._send(event)
        if step.action == "sleep":
            await asyncio.sleep(json.loads(step.input.json)["seconds"])
        self._finish(index, start_time)

    def _finish(self, index: int, start_time: int) -> None:
        step, event = self._steps[index], self._event()
        result = event.step_finished.result
        result.step_id, result.action, result.attempts = step.id, step.action, 1
        result.state, result.output.json = run_pb2.STATE_SUCCEEDED, "null"
        result.start_time.FromNanoseconds(start_time)
        result.end_time.CopyFrom(event.time)
        self._send(event)
        for dependent in self._dependents[index]:
            self._unmet[dependent] -= 1
            if not self._unmet[dependent]:
                self._start(dependent)
        self._unfinished -= 1
        if not self._unfinished:
            end = self._event()
            end.run_finished.result.state = run_pb2.STATE_SUCCEEDED
            self._send(end)

    def _event(self) -> event_pb2.RunEvent:
        self._sequence += 1
        event = event_pb2.RunEvent(run_id="prototype", sequence=self._sequence)
        event.time.FromNanoseconds(time.time_ns())
        return event

    def _send(self, event: event_pb2.RunEvent) -> None:
        self._events.append(event)
        self._available.set()


def _dependents(steps: Sequence[workflow_pb2.Step]) -> list[list[int]]:
    indexes = {step.id: index for index, step in enumerate(steps)}
    found: list[list[int]] = [[] for _ in steps]
    for index, step in enumerate(steps):
        for dependency in step.depends_on:
            found[indexes[dependency]].append(index)
    return found


async def _execute(request: pb.ExecuteWorkflowRequest, _: object) -> AsyncIterator[pb.ExecuteWorkflowResponse]:
    async for batch in Run(request.workflow.steps).batches():
        yield batch


async def serve() -> None:
    """Serve on a free loopback port until the process ends."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    handler = grpc.unary_stream_rpc_method_handler(
        _execute,
        request_deserializer=pb.ExecuteWorkflowRequest.FromString,
        response_serializer=pb.ExecuteWorkflowResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"ExecuteWorkflow": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())

"""The contenders, which run the loads: the prototype, bare streams and commits, Stepwave by raw stub and by SDK."""

import json
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import grpc.aio

from stepwave import AsyncClient, Workflow
from stepwave.v1 import event_pb2, orchestrator_pb2, orchestrator_pb2_grpc, payload_pb2, run_pb2, workflow_pb2

from . import bare_commits, bare_stream
from .loads import Load

PROTOTYPE = "prototype"
BARE_STREAM = "bare stream"
BARE_COMMITS = "bare commits"
RAW_STUB = "Stepwave, raw stub"
SDK = "Stepwave, SDK"
DURABLE = "Stepwave, raw stub, journal on disk"


class Contender(Protocol):
    """Runs the graph of a load, from its definition to its last event."""

    @property
    def name(self) -> str:
        """The name in the report."""

    def supports(self, load: Load) -> bool:
        """Return whether the contender can run the load."""

    async def run(self, load: Load) -> None:
        """Run the graph once."""


@dataclass(frozen=True)
class Recording:
    """The stream of one run of a load.

    Attributes:
        events: The events.
        messages: The number of messages.
    """

    events: tuple[event_pb2.RunEvent, ...]
    messages: int

    @property
    def batch(self) -> int:
        """The average number of events in a message."""
        return -(-len(self.events) // self.messages)

    def sample(self, size: int = 64) -> tuple[event_pb2.RunEvent, ...]:
        """Return events spread over the run, without its plan: a run has one plan, which grows with the run."""
        sampled = [event for event in self.events if event.WhichOneof("kind") != "run_started"]
        return tuple(sampled[:: -(-len(sampled) // size)])


@dataclass(frozen=True)
class BareStream:
    """The bare stream server. It sends as many events as a recorded run of the load, copied from that run.

    Attributes:
        channel: The channel to the bare server.
        recordings: The recording of a run of every load, by the load's name.
        batched: Whether a message has as many events as in that run. Otherwise every event has its own message.
    """

    channel: grpc.aio.Channel
    recordings: Mapping[str, Recording]
    batched: bool

    @property
    def name(self) -> str:
        return BARE_STREAM if self.batched else f"{BARE_STREAM}, unbatched"

    def supports(self, load: Load) -> bool:
        return not load.seconds

    async def run(self, load: Load) -> None:
        recording = self.recordings[load.name]
        batch = recording.batch if self.batched else 1
        request = bare_stream.CopyRequest(count=len(recording.events), batch=batch, samples=recording.sample())
        await bare_stream.receive(self.channel, request)


@dataclass(frozen=True)
class BareCommits:
    """SQLite in this process, with one commit for every step of a chain, as each step must wait for a commit.

    Attributes:
        folder: The folder of its file, on the same disk as the server's journal.
        recordings: The recording of a run of every load, by the load's name.
    """

    folder: Path
    recordings: Mapping[str, Recording]

    name = BARE_COMMITS

    def supports(self, load: Load) -> bool:
        return load.name == "long"

    async def run(self, load: Load) -> None:
        size = sum(event.ByteSize() for event in self.recordings[load.name].events) // load.steps
        bare_commits.commit(self.folder, load.steps, size)


@dataclass(frozen=True)
class RawStub:
    """Stepwave or the prototype, without the SDK: plain messages of the contract.

    Attributes:
        stub: The stub of the server.
        name: The name in the report.
    """

    stub: "orchestrator_pb2_grpc.OrchestratorServiceAsyncStub"  # quoted: the name exists only in the typed stubs
    name: str = RAW_STUB

    def supports(self, load: Load) -> bool:
        return self.name != DURABLE or not load.seconds

    async def run(self, load: Load) -> None:
        last, expected = event_pb2.RunEvent(), 1
        async for response in self._responses(load):
            for last in response.events:
                if last.sequence:  # transient events have none
                    assert last.sequence == expected
                    expected += 1
        assert last.run_finished.result.state == run_pb2.STATE_SUCCEEDED

    async def record(self, load: Load) -> Recording:
        """Run the graph once and record its stream."""
        responses = [response async for response in self._responses(load)]
        return Recording(tuple(event for response in responses for event in response.events), len(responses))

    def _responses(self, load: Load) -> AsyncIterable[orchestrator_pb2.ExecuteWorkflowResponse]:
        return self.stub.ExecuteWorkflow(orchestrator_pb2.ExecuteWorkflowRequest(workflow=as_message(load)))


def as_message(load: Load) -> workflow_pb2.Workflow:
    """Return the graph of a load as a message of the contract."""
    steps = [_as_step(load, index) for index in range(len(load.dependencies))]
    return workflow_pb2.Workflow(name=load.name, steps=steps)


def _as_step(load: Load, index: int) -> workflow_pb2.Step:
    depends_on = [f"s{other}" for other in load.dependencies[index]]
    if not load.seconds:
        return workflow_pb2.Step(id=f"s{index}", action="noop", depends_on=depends_on)
    pause = payload_pb2.Payload(json=json.dumps({"seconds": load.seconds[index]}))
    return workflow_pb2.Step(id=f"s{index}", action="sleep", depends_on=depends_on, input=pause)


@dataclass(frozen=True)
class Sdk:
    """Stepwave by its SDK, as programs use it: `Workflow` and `AsyncClient`.

    Attributes:
        client: The client of the server.
        scheduling: `eager` or `wave`. The latter runs only sleeping loads, for comparison.
    """

    client: AsyncClient
    scheduling: Literal["eager", "wave"] = "eager"

    @property
    def name(self) -> str:
        return SDK if self.scheduling == "eager" else f"{SDK}, wave"

    def supports(self, load: Load) -> bool:
        return self.scheduling == "eager" or load.wave_path > load.critical_path

    async def run(self, load: Load) -> None:
        expected = 1
        async with self.client.run(self._workflow(load)) as run:
            async for event in run:
                if event.sequence:
                    assert event.sequence == expected
                    expected += 1
        assert run.result.succeeded

    def _workflow(self, load: Load) -> Workflow:
        flow = Workflow(load.name, scheduling=self.scheduling)
        for index, others in enumerate(load.dependencies):
            depends_on = [f"s{other}" for other in others]
            if load.seconds:
                flow.step(f"s{index}", "sleep", {"seconds": load.seconds[index]}, depends_on=depends_on)
            else:
                flow.step(f"s{index}", "noop", depends_on=depends_on)
        return flow

"""Who runs the loads: the prototype, the bare stream, and Stepwave through its raw stub and through its SDK."""

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
    """Runs the graph of a load once, from its definition to its last event."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    def takes(self, load: Load) -> bool:
        """Say whether it runs such a load."""

    async def run(self, load: Load) -> None:
        """Run the graph once."""


@dataclass(frozen=True)
class Recording:
    """What one run of a load sent.

    Attributes:
        events: Its events.
        messages: In how many messages they came.
    """

    events: tuple[event_pb2.RunEvent, ...]
    messages: int

    @property
    def batch(self) -> int:
        """How many events there were in a message, on average."""
        return -(-len(self.events) // self.messages)

    def sample(self, size: int = 64) -> tuple[event_pb2.RunEvent, ...]:
        """Take events spread over the run, its plan left out: that one is sent once and grows with the run."""
        kept = [event for event in self.events if event.WhichOneof("kind") != "run_started"]
        return tuple(kept[:: -(-len(kept) // size)])


@dataclass(frozen=True)
class BareStream:
    """The bare server, sending as many events as the load's run has, taken from that run.

    Attributes:
        channel: The line to the bare server.
        recorded: One run of every load, by the load's name.
        batched: Whether as many events share a message as in that run; otherwise every event has its own.
    """

    channel: grpc.aio.Channel
    recorded: Mapping[str, Recording]
    batched: bool

    @property
    def name(self) -> str:
        return BARE_STREAM if self.batched else f"{BARE_STREAM}, unbatched"

    def takes(self, load: Load) -> bool:
        return not load.seconds

    async def run(self, load: Load) -> None:
        recording = self.recorded[load.name]
        batch = recording.batch if self.batched else 1
        await bare_stream.receive(self.channel, bare_stream.Order(len(recording.events), batch, recording.sample()))


@dataclass(frozen=True)
class BareCommits:
    """SQLite in this process, committing once for every step of a chain: none of its steps can begin before.

    Attributes:
        folder: Where its file is: on the disk of the server's journal.
        recorded: One run of every load, by the load's name.
    """

    folder: Path
    recorded: Mapping[str, Recording]

    name = BARE_COMMITS

    def takes(self, load: Load) -> bool:
        return load.name == "long"

    async def run(self, load: Load) -> None:
        size = sum(event.ByteSize() for event in self.recorded[load.name].events) // load.steps
        bare_commits.commit(self.folder, load.steps, size)


@dataclass(frozen=True)
class RawStub:
    """Stepwave, or the prototype, without its SDK: the contract's messages, sent and read as they are.

    Attributes:
        stub: The line to the server.
        name: What the report calls it.
    """

    stub: "orchestrator_pb2_grpc.OrchestratorServiceAsyncStub"  # quoted: only the typed stubs have the name
    name: str = RAW_STUB

    def takes(self, load: Load) -> bool:
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
        """Run the graph once and keep what comes."""
        responses = [response async for response in self._responses(load)]
        return Recording(tuple(event for response in responses for event in response.events), len(responses))

    def _responses(self, load: Load) -> AsyncIterable[orchestrator_pb2.ExecuteWorkflowResponse]:
        return self.stub.ExecuteWorkflow(orchestrator_pb2.ExecuteWorkflowRequest(workflow=as_message(load)))


def as_message(load: Load) -> workflow_pb2.Workflow:
    """Return the graph of a load as the contract has it."""
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
    """Stepwave as a program uses it: built with `Workflow`, run with `AsyncClient`.

    Attributes:
        client: The line to the server.
        scheduling: `eager` or `wave`; the latter runs only sleeping loads, for comparison.
    """

    client: AsyncClient
    scheduling: Literal["eager", "wave"] = "eager"

    @property
    def name(self) -> str:
        return SDK if self.scheduling == "eager" else f"{SDK}, wave"

    def takes(self, load: Load) -> bool:
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

"""Makes the golden journal of this version, once for a release: `python -m golden.make FOLDER` in the folder `tests`.

The journal has every kind of event, every final state, and a run that is not finished. Every later version must read
it, replay the same decisions for each run, and finish the unfinished run.
"""

import argparse
import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from stepwave import (
    ActionError,
    AsyncClient,
    Blob,
    Context,
    Fallback,
    Retry,
    RunFailed,
    StepStarted,
    Workflow,
    action,
)
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import orchestrator_pb2_grpc, payload_pb2, run_pb2, workflow_pb2
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.journal import Retention, SqliteJournal, backup

__all__ = ["ACTIONS", "UNFINISHED", "flows", "make"]

UNFINISHED = "left"
"""The id of the run that is not finished."""

RERUN = "rerun"
"""The id of the rerun."""

PART = "part"
"""The id of a run whose list failed in part. Its rerun is `part-again`."""


@action
async def answers(value: object = None) -> object:
    """Return the value."""
    return value


@action
async def breaks(message: str = "broken") -> None:
    """Fail."""
    raise ValueError(message)


@action
async def hangs(context: Context) -> str:
    """Wait forever in the first attempt, then return a text.

    The unfinished run waits in every attempt, the rerun in none.
    """
    if context.run_id == UNFINISHED or (context.attempt == 1 and context.run_id != RERUN):
        await asyncio.Event().wait()
    return f"attempt {context.attempt}"


@action
async def fails_in(context: Context, run_id: str, value: object = None) -> object:
    """Fail in one run, and return the value in others."""
    if context.run_id == run_id:
        raise ValueError("not in this run")
    return value


@action
async def paints() -> Blob:
    """Return a value that is not JSON."""
    return Blob(bytes(range(64)), "image/png")


@action
async def recovers(context: Context) -> str:
    """Fail twice, then return a text."""
    if context.attempt < 3:
        raise ConnectionError(f"attempt {context.attempt}")
    return "at last"


@action
async def asks(retryable: bool = True) -> None:
    """Fail as a busy service does: with a time to wait, for another attempt or for none."""
    raise ActionError("busy", reason="rate_limited", retryable=retryable, retry_after=0.03)


ACTIONS = (answers, breaks, hangs, fails_in, paints, recovers, asks)


def flows() -> list[Workflow]:
    """Return the workflows whose runs end without a cancel or a restart."""
    return [
        _wired(),
        _unwired(),
        _waves(),
        _stops(),
        _goes_on(),
        _late(),
        _overdue(),
        _joined(),
        _retried(),
        _replaced(),
    ]


def _wired() -> Workflow:
    flow = Workflow("wired", labels={"kind": "data", "team": "Ærø"})
    first = flow.step("first", answers, {"value": {"text": "é \N{SNOWMAN}", "big": 2**60, "small": 1e-7}})
    flow.step("second", answers, {"value": [first.output["text"], flow.input["city"], None, True]})
    flow.step("paints", paints, depends_on=["second"])
    flow.step("wide", answers, {"value": "x" * 5_000})
    return flow


def _unwired() -> Workflow:
    flow = Workflow("unwired")
    first = flow.step("first", answers, {"value": {}})
    flow.step("reads", answers, {"value": first.output["nowhere"]})
    return flow


def _waves() -> Workflow:
    flow = Workflow("waves", scheduling="wave", max_parallelism=2)
    for index in range(9):
        flow.step(f"s{index}", answers, {"value": index}, depends_on=[f"s{index - 3}"] if index > 2 else [])
    return flow


def _stops() -> Workflow:
    flow = Workflow("stops")
    flow.step("breaks", breaks)
    flow.step("hangs", hangs)
    flow.step("never", answers, depends_on=["hangs"])
    flow.step("cleans", answers, depends_on=["hangs"], join="all_done")
    return flow


def _goes_on() -> Workflow:
    flow = Workflow("goes_on", failure_policy="continue")
    flow.step("breaks", breaks, {"message": "one"})
    flow.step("skipped", answers, depends_on=["breaks"])
    flow.step("apart", answers, depends_on=["skipped"], join="all_done")
    flow.step("allowed", breaks, {"message": "two"}, allow_failure=True)
    flow.step("after", answers, depends_on=["allowed"])
    return flow


def _late() -> Workflow:
    flow = Workflow("late", failure_policy="continue")
    flow.step("late", hangs, timeout=0.05)
    return flow


def _overdue() -> Workflow:
    flow = Workflow("overdue", timeout=0.05)
    flow.step("hangs", hangs)
    flow.step("next", answers, depends_on=["hangs"])
    return flow


def _joined() -> Workflow:
    flow = Workflow("joined", failure_policy="continue", outputs=["any"])
    flow.step("wins", answers, {"value": "won"})
    flow.step("loses", hangs)
    flow.step("any", answers, depends_on=["wins", "loses"], join="any")
    return flow


def _retried() -> Workflow:
    retry = Retry(max_attempts=3, initial_backoff=0.01, max_backoff=0.02)
    flow = Workflow("retried", failure_policy="continue", retry=retry)
    flow.step("recovers", recovers)
    flow.step("gives_up", breaks, {"message": "three times"})
    flow.step("late", hangs, timeout=0.02, total_timeout=0.1, retry=Retry(max_attempts=9, initial_backoff=0.05))
    flow.step("asked", asks)
    flow.step("permanent", asks, {"retryable": False})
    return flow


def _replaced() -> Workflow:
    flow = Workflow("replaced", failure_policy="continue")
    flow.step("by_value", breaks, fallback=Fallback(value={"price": 25}))
    flow.step(
        "by_action", breaks, retry=Retry(max_attempts=2, initial_backoff=0), fallback=Fallback(answers, {"value": 1})
    )
    flow.step("in_vain", breaks, fallback=Fallback(breaks, {"message": "worse"}))
    flow.step("after", answers, depends_on=["by_value", "by_action"])
    return flow


def _interrupted(name: str) -> Workflow:
    flow = Workflow(name, failure_policy="continue")
    flow.step("again", hangs)
    flow.step("given-up", hangs, on_interrupt="fail")
    flow.step("last", answers, depends_on=["again", "given-up"], join="all_done")
    return flow


def _kept() -> Workflow:
    flow = Workflow("kept")
    flow.step("kept", answers, {"value": "kept"})
    flow.step("hangs", hangs, depends_on=["kept"])
    flow.step("after", answers, depends_on=["hangs"])
    return flow


def grown() -> list[workflow_pb2.Workflow]:
    """Return workflows with graphs within their graphs, whose runs end without a cancel or a restart."""
    return [_decided(), _listed(), _listed_in_vain(), _nested(), _nested_in_vain(), _chosen()]


def _json(text: str) -> payload_pb2.Payload:
    return payload_pb2.Payload(json=text)


def _step(step_id: str, action: str = "answers", *after: str, given: str = "", **fields: Any) -> workflow_pb2.Step:
    if given:
        fields["input"] = _json(given)
    return workflow_pb2.Step(id=step_id, action=action, depends_on=after, **fields)


def _flow(name: str, *steps: workflow_pb2.Step, go_on: bool = False, **fields: Any) -> workflow_pb2.Workflow:
    policy = workflow_pb2.FAILURE_POLICY_CONTINUE if go_on else workflow_pb2.FAILURE_POLICY_FAIL_FAST
    return workflow_pb2.Workflow(name=name, steps=steps, failure_policy=policy, **fields)


def _items(text: str, at_once: int = 0) -> workflow_pb2.ForEach:
    return workflow_pb2.ForEach(items=_json(text), max_parallelism=at_once)


def _decided() -> workflow_pb2.Workflow:
    return _flow(
        "decided",
        _step("a", given='{"value": {"hits": [1, 2, 3]}}'),
        _step("many", "answers", "a", when='size(deps["a"].output.hits) > 2', given='{"value": "many"}'),
        _step("few", "answers", "a", when='size(deps["a"].output.hits) <= 2'),
        _step("after", "answers", "few"),
        _step("either", "core.echo", "many", "few", join=workflow_pb2.JOIN_ANY),
        _step("no_value", "answers", "a", when='deps["a"].output.misses == 0', given="{}", allow_failure=True),
        workflow_pb2.Step(
            id="counted",
            action="answers",
            depends_on=["a"],
            input=_json("{}"),
            bindings=[workflow_pb2.Binding(target="/value", expression='size(deps["a"].output.hits) * 2')],
        ),
        go_on=True,
    )


def _listed() -> workflow_pb2.Workflow:
    hits = workflow_pb2.StepOutput(id="a", path="/hits")
    item = [workflow_pb2.Binding(target="/value", item="/name")]
    return _flow(
        "listed",
        _step("a", given='{"value": {"hits": [{"name": "x"}, {"name": "y"}, {"name": "z"}]}}'),
        workflow_pb2.Step(
            id="pages",
            action="answers",
            input=_json("{}"),
            bindings=item,
            for_each=workflow_pb2.ForEach(step=hits, max_parallelism=2),
        ),
        workflow_pb2.Step(
            id="deep",
            workflow=_flow("body", _step("first", "core.echo"), _step("second", "core.echo", "first")),
            for_each=workflow_pb2.ForEach(step=hits, max_parallelism=1),
        ),
        _step("none", for_each=_items("[]")),
        _step("end", "core.echo", "pages", "deep", "none"),
        max_parallelism=2,
    )


def _listed_in_vain() -> workflow_pb2.Workflow:
    return _flow(
        "listed_in_vain",
        _step("allowed", "breaks", for_each=_items('[{"message": "one"}, {"message": "two"}]'), allow_failure=True),
        _step("counted", "breaks", for_each=_items('[{"message": "one"}, {"message": "two"}]')),
        _step("replaced", "breaks", for_each=_items("[{}]"), fallback=workflow_pb2.Fallback(value=_json("0"))),
        _step("no_list", for_each=workflow_pb2.ForEach(input="")),
        _step("late", "hangs", for_each=_items("[{}, {}]", 1), total_timeout=Duration(nanos=50_000_000)),
        go_on=True,
    )


def _nested() -> workflow_pb2.Workflow:
    inner = _flow(
        "inner",
        _step("wins", given='{"value": 1}'),
        _step("loses", "hangs"),
        _step("any", "answers", "wins", "loses", given='{"value": 2}', join=workflow_pb2.JOIN_ANY),
        _step("last", given='{"value": 3}'),
        scheduling=workflow_pb2.SCHEDULING_WAVE,
        outputs=["any", "last"],
        max_parallelism=3,
    )
    return _flow(
        "nested",
        workflow_pb2.Step(id="sub", workflow=_flow("middle", workflow_pb2.Step(id="sub", workflow=inner))),
        _step("end", "core.echo", "sub"),
    )


def _nested_in_vain() -> workflow_pb2.Workflow:
    late = _flow("late", _step("hangs", "hangs"), _step("next", "answers", "hangs"))
    cleaned = _flow(
        "cleaned",
        _step("breaks", "breaks"),
        _step("hangs", "hangs"),
        _step("cleans", "answers", "hangs", join=workflow_pb2.JOIN_ALL_DONE),
    )
    return _flow(
        "nested_in_vain",
        workflow_pb2.Step(id="late", workflow=late, timeout=Duration(nanos=50_000_000)),
        workflow_pb2.Step(id="cleaned", workflow=cleaned),
        workflow_pb2.Step(id="replaced", workflow=cleaned, fallback=workflow_pb2.Fallback(value=_json("0"))),
        _step("nobody", "core.wait", timeout=Duration(nanos=50_000_000)),
        go_on=True,
    )


def _chosen() -> workflow_pb2.Workflow:
    inline = '{"workflow": {"name": "w", "steps": [{"id": "x", "action": "core.echo"}]}, "input": {"n": 1}}'
    return _flow(
        "chosen",
        _step("inline", "core.workflow", given=inline),
        _step("unknown", "core.workflow", given='{"name": "nowhere"}', allow_failure=True),
        _step("end", "core.echo", "inline", "unknown"),
        go_on=True,
    )


def _partial() -> workflow_pb2.Workflow:
    items = f'[{{"run_id": "", "value": 1}}, {{"run_id": "{PART}"}}, {{"run_id": "", "value": 3}}]'
    return _flow(PART, _step("list", "fails_in", for_each=_items(items)), go_on=True)


def _waiting() -> workflow_pb2.Workflow:
    return _flow(
        "waiting", _step("ok", "core.wait", given='{"who": "you"}'), _step("no", "core.wait", allow_failure=True)
    )


async def make(folder: Path) -> None:
    """Make the journal and one exported run."""
    working = folder / "working.db"
    async with _client(working) as client:
        for flow in flows():
            with suppress(RunFailed):
                await client.run(flow, {"city": "Oslo"}, run_id=flow.name)
        for wide in grown():
            with suppress(RunFailed):
                await client.run(wide, {"city": "Oslo"}, run_id=wide.name)
        await _compose(client)
        await client.start(_waiting(), run_id="waiting")
        await _wait_until_running(client, "waiting", "no")
        await client.start(_kept(), run_id="cancelled")
        await _wait_until_running(client, "cancelled", "hangs")
        await client.cancel("cancelled", "nobody wants it")
        for run_id in ("interrupted", UNFINISHED):
            await client.start(_interrupted(run_id), run_id=run_id)
            await _wait_until_running(client, run_id, "given-up")
    async with _client(working) as client:
        await client.wait("interrupted", check=False)
        await client.rerun("cancelled", from_failed=True, new_run_id=RERUN)
        await _complete(client)
        with suppress(RunFailed):
            await client.run(_partial(), run_id=PART)
        await client.rerun(PART, from_failed=True, new_run_id=f"{PART}-again")
        await _wait_until_running(client, UNFINISHED, "again", attempt=2)
    _crash(working)
    async with _client(working) as client:
        await _wait_until_running(client, UNFINISHED, "again", attempt=3)
        (await client.export("interrupted")).save(folder / "interrupted.json")
        backup(working, folder / "journal.db")
    with closing(sqlite3.connect(folder / "journal.db")) as golden, golden:
        golden.execute("UPDATE owner SET process = ''")  # the process and machine that made it must not appear
    for file in folder.glob("working.db*"):
        file.unlink()


@asynccontextmanager
async def _client(path: Path) -> AsyncIterator[AsyncClient]:
    """Serve from a journal. Runs that are not finished are left to the next server."""
    settings = Settings(listen="127.0.0.1:0", entry_points=False, tracebacks=False)
    journal = SqliteJournal.open(path, clock=time.time_ns, retention=Retention())
    async with Server(settings, actions=ACTIONS, journal=journal) as server, AsyncClient(server.address) as client:
        yield client


async def _compose(client: AsyncClient) -> None:
    """Add steps to a run in several parts, one before the step that it depends on; and leave another run idle."""
    await client.start(Workflow("composed"), run_id="composed", open=True)
    first, later = Workflow("first"), Workflow("later")
    first.step("last", answers, {"value": 1}, depends_on=["first"])
    later.step("first", answers, {"value": 2})
    later.for_each("list", over=[1, 2], action=answers, input={"value": later.item})
    await client.add_steps("composed", first)
    await client.add_steps("composed", later, seal=True)
    await client.wait("composed")
    async with grpc.aio.insecure_channel(client.address) as channel:
        stub: orchestrator_pb2_grpc.OrchestratorServiceAsyncStub = orchestrator_pb2_grpc.OrchestratorServiceStub(
            channel
        )
        idle = Duration(nanos=50_000_000)
        plan = workflow_pb2.Workflow(name="idle", steps=[_step("first", "answers")])
        await stub.StartRun(pb.StartRunRequest(workflow=plan, run_id="idle", open=True, idle_timeout=idle))
    await client.wait("idle", check=False)


async def _complete(client: AsyncClient) -> None:
    """Complete what waits, and wait for the end of the run."""
    async with grpc.aio.insecure_channel(client.address) as channel:
        stub: orchestrator_pb2_grpc.OrchestratorServiceAsyncStub = orchestrator_pb2_grpc.OrchestratorServiceStub(
            channel
        )
        await stub.CompleteStep(pb.CompleteStepRequest(run_id="waiting", step_id="ok", output=_json('"yes"')))
        no = run_pb2.Failure(reason=run_pb2.FAILURE_REASON_ACTION_ERROR, message="no")
        await stub.CompleteStep(pb.CompleteStepRequest(run_id="waiting", step_id="no", failure=no))
    await client.wait("waiting")


def _crash(path: Path) -> None:
    """Let the last server on a journal look as if it had crashed."""
    with closing(sqlite3.connect(path)) as journal, journal:
        journal.execute("UPDATE owner SET process = 'crashed'")


async def _wait_until_running(client: AsyncClient, run_id: str, step_id: str, attempt: int = 1) -> None:
    """Wait until an attempt of the step has started."""
    async with client.watch(run_id) as events:
        async for event in events:
            if isinstance(event, StepStarted) and (event.step_id, event.attempt) == (step_id, attempt):
                return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m golden.make", description="Make the golden journal.")
    parser.add_argument("folder", type=Path, help="the folder of the journal, named after the version")
    asyncio.run(make(parser.parse_args().folder))

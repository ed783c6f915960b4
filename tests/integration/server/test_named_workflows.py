"""Named workflows and input schemas on a server: what it refuses, and the digests of runs."""

import json
import sqlite3
from pathlib import Path

import grpc
import pytest

from integration.server.build import end_of, flow, step, text, value_of
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal, workflow_refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.wire.workflows.content import digest

SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string"}, "limit": {"type": "integer", "minimum": 1}},
    "required": ["query"],
}
SEARCH = f"name: search\ninput_schema: '{json.dumps(SCHEMA)}'\nsteps: [{{id: a, action: core.echo}}]\n"


def _checked(**fields: object) -> workflow_pb2.Workflow:
    workflow = flow(step("a", "core.echo"))
    workflow.input_schema = json.dumps(fields or SCHEMA)
    return workflow


async def test_an_input_that_matches_the_schema_is_accepted(client: RawClient) -> None:
    events = await client.run(_checked(), given={"query": "x", "limit": 3})
    assert value_of(end_of(events).outputs["a"]) == {"query": "x", "limit": 3}


async def test_every_problem_of_an_input_is_listed_with_its_place(client: RawClient) -> None:
    refused = await workflow_refusal(client, _checked(), input=text('{"query": 3, "limit": 0}'))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.violations == [
        ("input", "input/query: 3 is not of type 'string'"),
        ("input", "input/limit: 0 is less than the minimum of 1"),
    ]


async def test_a_run_without_an_input_has_the_input_null(client: RawClient) -> None:
    refused = await refusal(client.start(_checked()))
    assert refused.violations == [("input", "input: None is not of type 'object'")]


async def test_a_refused_input_starts_nothing(client: RawClient) -> None:
    await refusal(client.start(_checked(), given={}, run_id="mine"))
    assert (await refusal(client.get("mine"))).reason == "RUN_NOT_FOUND"


async def test_a_schema_that_cannot_be_used_is_refused_by_every_call(client: RawClient) -> None:
    refused = await workflow_refusal(client, _checked(type="strin"))
    ((field, description),) = refused.violations
    assert field == "workflow.input_schema"
    assert description.startswith("is no JSON Schema: /type: 'strin' is not valid")


async def test_a_rerun_of_a_run_with_a_schema_is_accepted(client: RawClient) -> None:
    await client.run(_checked(), given={"query": "x"}, run_id="first")
    rerun = pb.StartRunRequest(rerun=pb.Rerun(run_id="first"), run_id="second")
    await client.stub.StartRun(rerun)
    assert value_of(end_of(await client.events("second")).outputs["a"]) == {"query": "x"}


async def test_a_workflow_by_its_name_has_its_schema(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(SEARCH)
    client = connect(await serve(workflows=tmp_path))
    request = pb.StartRunRequest(workflow_name="search", input=text('{"query": 3}'))
    assert (await refusal(client.stub.StartRun(request))).fields == ["input"]
    request.input.json = '{"query": "x"}'
    assert (await client.stub.StartRun(request)).run.workflow_name == "search"


async def test_a_named_workflow_is_listed_with_its_schema_and_the_digest_of_its_runs(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "search.yaml").write_text(SEARCH)
    client = connect(await serve(workflows=tmp_path))
    (named,) = (await client.stub.ListWorkflows(pb.ListWorkflowsRequest())).workflows
    run = (await client.stub.StartRun(pb.StartRunRequest(workflow_name="search", input=text('{"query": ""}')))).run
    assert json.loads(named.input_schema) == SCHEMA
    assert named.digest == run.workflow_digest
    assert len(named.digest) == 64


async def test_the_digest_of_a_run_stays_while_it_runs_and_after_its_end(client: RawClient) -> None:
    workflow = flow(step("a", "core.echo", given={"b": 1, "a": 2}))
    started = await client.start(workflow, run_id="first")
    await client.events("first")
    workflow.steps[0].input.json = ' {"a":2,"b":1}'
    again = await client.start(workflow, run_id="second")
    other = await client.start(flow(step("a", "core.echo", given={"a": 2})), run_id="third")
    (await client.events("second")), (await client.events("third"))
    listed = (await client.stub.ListRuns(pb.ListRunsRequest())).runs
    digests = {run.run_id: run.workflow_digest for run in listed}
    assert started.workflow_digest == (await client.get("first")).workflow_digest == digests["first"] != ""
    assert again.workflow_digest == digests["second"] == digests["first"]
    assert other.workflow_digest == digests["third"] != digests["first"]


async def test_the_digest_of_a_large_workflow_is_computed_when_it_is_asked_for(client: RawClient) -> None:
    held = step("held", "controlled")
    workflow = flow(held, *(step(f"s{place}", after=["held"]) for place in range(1_100)))
    expected = digest(workflow.SerializeToString(deterministic=True))
    assert (await client.start(workflow, run_id="large")).workflow_digest == expected
    explained = await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="large"))
    assert explained.run.workflow_digest == expected
    await client.cancel("large")
    await client.events("large")
    (listed,) = (await client.stub.ListRuns(pb.ListRunsRequest())).runs
    assert listed.workflow_digest == expected
    await client.delete("large")
    await client.start(flow(held, *(step(f"t{place}", after=["held"]) for place in range(1_100))), run_id="large")
    assert (await client.get("large")).workflow_digest not in {"", expected}


async def test_a_rerun_has_the_digest_of_the_run_that_it_repeats(client: RawClient) -> None:
    await client.run(_checked(), given={"query": "x"}, run_id="first")
    again = (await client.stub.StartRun(pb.StartRunRequest(rerun=pb.Rerun(run_id="first")))).run
    assert again.workflow_digest == (await client.get("first")).workflow_digest != ""


def _forget_digests(journal: Path) -> None:
    """Change a journal to one of version 0.1.0, which has no digests."""
    with sqlite3.connect(journal) as connection:
        for run, options in connection.execute("SELECT run, options FROM definitions").fetchall():
            stored = {key: value for key, value in json.loads(options).items() if key != "workflow_digest"}
            connection.execute("UPDATE definitions SET options = ? WHERE run = ?", (json.dumps(stored), run))
        for run, info in connection.execute("SELECT run, info FROM runs WHERE info IS NOT NULL").fetchall():
            message = pb.GetRunResponse().run
            message.ParseFromString(info)
            message.workflow_digest = ""
            connection.execute("UPDATE runs SET info = ? WHERE run = ?", (message.SerializeToString(), run))
    connection.close()


async def test_runs_of_an_older_journal_have_digests(connect: Connect, tmp_path: Path) -> None:
    journal = tmp_path / "journal.db"
    settings = Settings(listen="127.0.0.1:0", entry_points=False, journal=f"sqlite:{journal}", drain_timeout=0)
    sleeping = flow(step("a", "core.sleep", given={"seconds": 600}))
    async with Server(settings) as server:
        client = connect(server)
        ended = (await client.start(flow(step("a", "core.echo")), run_id="ended")).workflow_digest
        await client.events("ended")
        running = (await client.start(sleeping, run_id="running")).workflow_digest
    _forget_digests(journal)
    async with Server(settings) as server:
        client = connect(server)
        assert (await client.get("ended")).workflow_digest == ended
        assert (await client.get("running")).workflow_digest == running
        listed = (await client.stub.ListRuns(pb.ListRunsRequest())).runs
        assert {run.workflow_digest for run in listed} == {ended, running}


async def test_all_problems_of_all_files_are_reported_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nstep: 3\n")
    (tmp_path / "b.yaml").write_text(
        "name: b\nsteps:\n  - {id: x, action: nope}\n  - {id: y, action: core.echo, depends_on: [z]}\n"
    )
    (tmp_path / "c.yaml").write_text("name: c\ninput_schema: '{'\nsteps: [{id: x, action: core.echo}]\n")
    server = Server(Settings(listen="127.0.0.1:0", workflows=tmp_path, entry_points=False))
    with pytest.raises(ValueError, match="unknown key") as error:
        await server.start()
    places = [line.removeprefix(f"{tmp_path}/").split(" ")[:2] for line in str(error.value).splitlines()]
    assert places == [
        ["a.yaml:2:1:", "unknown"],
        ["b.yaml:3:21:", "steps[0].action:"],
        ["b.yaml:4:45:", "steps[1].depends_on[0]:"],
        ["c.yaml:2:15:", "input_schema:"],
    ]

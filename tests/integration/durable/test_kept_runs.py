"""Runs after a restart: repeated submissions, lists, deletion and retention."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from integration.durable.restarts import Restarts, RunningServer
from integration.server.build import end_of, flow, state_of, step
from integration.server.raw_client import GUARD, RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2

ONE = flow(step("a"))
BLOCKED = flow(step("blocked", "controlled"))


async def test_a_repeated_submission_finds_the_run_that_ended_before_the_restart(restarts: Restarts) -> None:
    async with restarts.start() as first:
        events = await first.client.run(ONE, given={"n": 1}, run_id="mine")
    async with restarts.start() as second:
        assert await second.client.run(ONE, given={"n": 1}, run_id="mine") == events
        assert (await second.client.start(ONE, given={"n": 1}, run_id="mine")).last_sequence == events[-1].sequence
        assert second.controlled.invoked == []


async def test_a_repeated_submission_finds_the_resumed_run(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(BLOCKED, run_id="mine")
        await first.controlled.wait_started("blocked")
    async with restarts.start() as second:
        await second.controlled.wait_started("blocked")
        assert (await second.client.start(BLOCKED, run_id="mine")).run_id == "mine"
        assert second.controlled.invoked == ["blocked"]


@pytest.mark.parametrize("ended", [True, False])
async def test_other_content_with_the_same_id_is_refused_after_the_restart(restarts: Restarts, *, ended: bool) -> None:
    async with restarts.start() as first:
        await first.client.start(ONE if ended else BLOCKED, given=1, run_id="mine")
        if ended:
            await first.client.events("mine")
    async with restarts.start() as second:
        for workflow, given in ((flow(step("b")), 1), (ONE if ended else BLOCKED, 2)):
            refused = await refusal(second.client.start(workflow, given=given, run_id="mine"))
            assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RUN_EXISTS")


# Lists.


async def _page(client: RawClient, size: int = 0, token: str = "", **wanted: object) -> tuple[list[str], str]:
    """Return the ids of a page, and the token of the next."""
    request = pb.ListRunsRequest(page_size=size, page_token=token, **wanted)  # type: ignore[arg-type]  # as they come
    page = await client.stub.ListRuns(request)
    return [run.run_id for run in page.runs], page.next_page_token


async def _run_several(running: RunningServer, count: int) -> list[str]:
    """Run workflows, and return the ids of the runs, the newest first."""
    ids = [f"run{place}" for place in range(count)]
    for run_id in ids:
        await running.client.run(ONE, run_id=run_id)
    return ids[::-1]


async def test_a_page_token_is_valid_after_a_restart(restarts: Restarts) -> None:
    async with restarts.start() as first:
        ids = await _run_several(first, 7)
        page, token = await _page(first.client, size=3)
        assert page == ids[:3]
    async with restarts.start() as second:
        await second.client.run(ONE, run_id="newer")  # does not change later pages
        page, token = await _page(second.client, size=3, token=token)
        assert page == ids[3:6]
        assert await _page(second.client, size=3, token=token) == (ids[6:], "")


async def test_filters_find_runs_from_before_and_after_the_restart(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.run(flow(step("a"), name="other", labels={"team": "red", "tier": "1"}), run_id="other")
        await first.client.start(flow(step("blocked", "controlled"), labels={"team": "red"}), run_id="live")
        await first.controlled.wait_started("blocked")
        middle = (await first.client.get("live")).create_time
    async with restarts.start() as second:
        second.controlled.release("f")
        await second.client.run(flow(step("f", "fails"), labels={"team": "blue"}), run_id="failed")
        client = second.client
        assert await _page(client) == (["failed", "live", "other"], "")
        assert await _page(client, labels={"team": "red"}) == (["live", "other"], "")
        assert await _page(client, labels={"team": "red", "tier": "1"}) == (["other"], "")
        assert await _page(client, workflow_name="other") == (["other"], "")
        assert await _page(client, run_id_prefix="l") == (["live"], "")
        assert await _page(client, states=[run_pb2.STATE_FAILED]) == (["failed"], "")
        assert await _page(client, states=[run_pb2.STATE_RUNNING]) == (["live"], "")
        assert await _page(client, create_time_from=middle) == (["failed", "live"], "")
        assert await _page(client, create_time_before=middle) == (["other"], "")


async def test_all_calls_return_the_same_for_an_ended_run_after_the_restart(restarts: Restarts) -> None:
    wide = flow(*(step(f"s{i}") for i in range(5)), step("last", after=["s0", "s1"]), labels={"a": "b"})
    async with restarts.start() as first:
        await first.client.run(wide, run_id="mine")
        before = await _everything(first.client)
    async with restarts.start() as second:
        assert await _everything(second.client) == before


async def _everything(client: RawClient) -> tuple[object, ...]:
    steps = await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="mine"))
    return await client.get("mine"), await client.result("mine"), steps


# Deletion.


async def test_a_deleted_run_stays_deleted(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await _run_several(first, 3)
        await first.client.delete("run1")
    async with restarts.start() as second:
        assert await _page(second.client) == (["run2", "run0"], "")
        assert (await refusal(second.client.get("run1"))).code is grpc.StatusCode.NOT_FOUND
        assert (await refusal(second.client.events("run1"))).code is grpc.StatusCode.NOT_FOUND


async def test_the_id_of_a_deleted_run_can_be_used_again_after_a_restart(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.run(ONE, run_id="mine")
        await first.client.delete("mine")
        events = await first.client.run(flow(step("b")), run_id="mine")
    async with restarts.start() as second:
        assert await second.client.events("mine") == events


# Retention.


async def _wait_kept(path: Path, enough: Callable[[list[str]], bool]) -> list[str]:
    """Wait until the file has only events of listed runs, and a condition holds for these; return their ids."""
    async with asyncio.timeout(GUARD):
        while True:
            with closing(sqlite3.connect(path)) as file:
                runs = file.execute("SELECT run, run_id FROM runs ORDER BY run").fetchall()
                chunks = {run for (run,) in file.execute("SELECT DISTINCT place >> 32 FROM chunks")}
                (deleted,) = file.execute("SELECT count(*) FROM rubbish").fetchone()
                rest = {run for table in ("definitions", "endings", "labels") for run in _runs_of(file, table)}
            ids = [run_id for _, run_id in runs]
            if enough(ids) and not deleted:
                assert chunks == {run for run, _ in runs}
                assert rest <= chunks
                return ids
            await asyncio.sleep(0.01)  # there is no event when the file changes


def _runs_of(file: sqlite3.Connection, table: str) -> set[int]:
    return {run for (run,) in file.execute(f"SELECT run FROM {table}")}


async def test_runs_over_the_maximum_count_are_deleted_from_the_file(restarts: Restarts) -> None:
    async with restarts.start(keep_runs=3) as first:
        ids = await _run_several(first, 8)
        assert await _wait_kept(restarts.path, lambda found: len(found) <= 3) == ids[2::-1]
        assert await _page(first.client) == (ids[:3], "")


async def test_a_server_that_keeps_fewer_forgets_what_an_earlier_one_kept(restarts: Restarts) -> None:
    async with restarts.start() as first:
        ids = await _run_several(first, 8)
    async with restarts.start(keep_runs=2) as second:
        assert await _wait_kept(restarts.path, lambda found: len(found) <= 2) == ids[1::-1]
        assert await _page(second.client) == (ids[:2], "")


async def test_a_run_that_is_too_old_is_forgotten_by_the_next_server(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await _run_several(first, 3)
    await asyncio.sleep(0.2)  # the age
    async with restarts.start(keep_age=0.1) as second:
        assert await _wait_kept(restarts.path, lambda found: not found) == []
        assert await _page(second.client) == ([], "")


async def test_runs_are_kept_within_a_size_and_the_file_stays_bounded(restarts: Restarts) -> None:
    big = flow(*(step(f"s{i}", "large_output", given={"size": 500_000}) for i in range(4)))
    async with restarts.start(keep_bytes=7_000_000) as first:
        for place in range(20):  # 40 MB
            await first.client.run(big, run_id=f"run{place}")
        kept = await _wait_kept(restarts.path, lambda found: len(found) <= 2)
        assert kept == ["run18", "run19"]
    assert restarts.path.stat().st_size < 30_000_000


async def test_retention_never_deletes_a_running_run(restarts: Restarts) -> None:
    async with restarts.start(keep_runs=1) as first:
        await first.client.start(BLOCKED, run_id="live")
        await first.controlled.wait_started("blocked")
        await _run_several(first, 5)
    async with restarts.start(keep_runs=1, keep_age=0.001) as second:
        watch = second.client.watch("live")
        await watch.until("run_started")  # a reader keeps a run at any age
        second.controlled.release("blocked")
        assert state_of(end_of(await watch.rest()).state) == "succeeded"

"""Results, reports and exports of runs with steps within others, as a client sees them."""

import pytest

from stepwave import AsyncClient, RunFailed, State, Workflow
from stepwave.testing import replay

INNER = Workflow("page")
_fetched = INNER.step("fetch", "core.echo", INNER.input)
INNER.step("parse", "core.echo", {"page": _fetched.output})


def pages() -> Workflow:
    """Return a workflow with a list of workflows, and a step after it that is declared before it."""
    flow = Workflow("pages")
    flow.step("end", "core.echo", 1, depends_on=["pages"])
    flow.for_each("pages", over=["a", "b"], workflow=INNER)
    return flow


async def test_a_result_has_the_steps_within_others_by_their_paths() -> None:
    async with AsyncClient.local() as client:
        result = await client.run(pages())
    assert result["pages"] == [{"parse": {"page": "a"}}, {"parse": {"page": "b"}}]
    assert result["pages[1]"] == {"parse": {"page": "b"}}
    assert result["pages[1]/fetch"] == "b"
    assert result.steps["pages[0]/parse"].state is State.SUCCEEDED


async def test_a_result_that_is_fetched_later_has_the_steps_within_a_step_after_it() -> None:
    async with AsyncClient.local() as client:
        followed = await client.run(pages(), run_id="pages")
        fetched = await client.result("pages")
    assert list(fetched.steps) == [
        "end",
        "pages",
        *(f"pages[{index}]{step}" for index in range(2) for step in ("", "/fetch", "/parse")),
    ]
    assert list(followed.steps) == list(fetched.steps)


async def test_a_misspelt_child_is_named_with_the_most_similar_one() -> None:
    async with AsyncClient.local() as client:
        result = await client.run(pages())
    with pytest.raises(KeyError, match=r"no step 'pages\[1\]/fech'; did you mean 'pages\[1\]/fetch'"):
        result["pages[1]/fech"]


async def test_a_failed_run_names_the_innermost_step_that_failed() -> None:
    inner = Workflow("bad")
    inner.step("break", "core.fail", {"message": "broken"})
    flow = Workflow("flow")
    flow.for_each("pages", over=[1], workflow=inner)
    async with AsyncClient.local() as client:
        with pytest.raises(RunFailed, match=r"^step 'pages\[0\]/break' failed: broken$"):
            await client.run(flow)


async def test_a_report_and_a_replay_know_the_steps_within_others() -> None:
    async with AsyncClient.local() as client:
        await client.run(pages(), run_id="pages")
        export = await client.export("pages")
    report = export.report()
    assert (report.path[0], report.path[-1]) == ("pages", "end")
    assert report.path[-2] in {"pages[0]/parse", "pages[1]/parse"}
    assert report.path_parts.total == report.makespan
    replay(export)

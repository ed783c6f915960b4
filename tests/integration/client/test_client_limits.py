"""Limits as a client reads them: why steps wait, and the state of each limit."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from integration.client.fake import GUARD
from stepwave import ActionLimit, AdaptiveLimit, AsyncClient, RateLimit, WaitCause, WaitingSteps, Workflow, action

LIMITS = """\
limits:
  - {actions: blo*, concurrency: 3, rate: {count: 9, per: 2s, burst: 4}, per_key: {concurrency: 1}}
  - {actions: blocked, adaptive: {initial: 5, max: 10}}
"""


async def test_a_client_reads_why_steps_wait_and_the_state_of_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "limits.yaml").write_text(LIMITS)
    monkeypatch.setenv("STEPWAVE_LIMITS", str(tmp_path / "limits.yaml"))
    reached, released = asyncio.Event(), asyncio.Event()

    @action
    async def blocked(tenant: str) -> str:
        reached.set()
        await released.wait()
        return tenant

    flow = Workflow("flow")
    for step_id in ("a", "b"):
        flow.step(step_id, blocked, {"tenant": "x"}, concurrency_key="/tenant")
    async with AsyncClient.local([blocked], entry_points=False) as client, asyncio.timeout(GUARD):
        run = await client.start(flow)
        assert run.waiting == ()
        await reached.wait()
        message = 'the only place of the limit "blo*" for this key is taken'
        assert (await client.get(run.run_id)).waiting == (
            WaitingSteps(WaitCause.CONCURRENCY, message, "blo*", 1, ("b",)),
        )
        (listed,) = [it for it in await client.actions() if it.name == "blocked"]
        assert listed.limits == (
            ActionLimit("blo*", False, 3, RateLimit(9, timedelta(seconds=2), 4), None, 1),
            ActionLimit("blo*", True, 1, None, None, 1),
            ActionLimit("blocked", False, None, None, AdaptiveLimit(5, 1, 10, 0, None), 1),
        )
        released.set()
        assert (await client.wait(run.run_id)).outputs == {"a": "x", "b": "x"}

"""The bounds and shares of namespaces: runs under way, attempts in flight, kept bytes, and starts in a second."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from integration.access.conftest import Serve, access_text
from stepwave import AsyncClient, Workflow, action
from stepwave.exceptions import LimitExceeded
from stepwave_server.access.authenticator import Authenticator
from stepwave_server.access.roles import AccessError
from stepwave_server.access.start_rates import StartRates
from stepwave_server.app import Server
from stepwave_server.assembly import bounded
from stepwave_server.config import Settings
from stepwave_server.engine.base import EngineOptions
from waiting import until


def write(path: Path, bounds: str) -> None:
    path.write_text(access_text().replace("[namespaces.research]", f"[namespaces.research]\n{bounds}"))


def client(server: Server, namespace: str, *, patience: float = 0) -> AsyncClient:
    token = f"runner-{namespace}"
    return AsyncClient(server.address, token=token, namespace=namespace, connect_timeout=patience)


def waiting() -> Workflow:
    flow = Workflow("waits")
    flow.step("wait", "core.wait")
    return flow


def wide(steps: int, action_name: str = "gate") -> Workflow:
    flow = Workflow("wide")
    for number in range(steps):
        flow.step(f"s{number}", action_name)
    return flow


class Gate:
    """An action whose attempts wait until the test opens the gate."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.inside = self.most = 0
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    def action(self) -> object:
        @action("gate")
        async def gate() -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.begun.release()
            await self._open.wait()
            self.inside -= 1

        return gate


class Full(NamedTuple):
    """A server whose namespace may have one run, and its audit log, which has the refusals of others."""

    server: Server
    log: Path

    async def refused(self) -> bool:
        """Return whether a start was refused."""
        return "TOO_MANY_RUNS" in self.log.read_text()


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    made = Gate()
    yield made
    made.open()


async def test_a_namespace_has_no_more_runs_than_it_may(serve: Serve, access: Path) -> None:
    write(access, "max_runs = 1")
    server = await serve()
    async with client(server, "research") as research, client(server, "default") as default:
        run = await research.start(waiting())
        with pytest.raises(LimitExceeded, match='1 runs are under way in the namespace "research"') as caught:
            await research.start(waiting())
        assert (caught.value.reason, caught.value.retry_after) == ("TOO_MANY_RUNS", timedelta(seconds=1))
        await default.start(waiting())
        await default.start(waiting())
        await research.complete_step(run.run_id, "wait")
        await research.wait(run.run_id)
        await research.start(waiting())


@pytest.fixture
async def full(serve: Serve, access: Path, tmp_path: Path) -> Full:
    write(access, "max_runs = 1")
    return Full(await serve(audit_log=tmp_path / "audit.jsonl"), tmp_path / "audit.jsonl")


async def test_a_client_waits_for_a_place_as_the_server_asks(full: Full) -> None:
    async with client(full.server, "research", patience=20) as research:
        first = await research.start(waiting())
        second = asyncio.create_task(research.start(waiting()))
        await until(full.refused)
        await research.complete_step(first.run_id, "wait")
        assert (await second).run_id != first.run_id


async def test_a_stream_waits_for_a_place_as_the_server_asks(full: Full) -> None:
    flow = Workflow("echo")
    flow.step("echo", "core.echo")
    async with client(full.server, "research", patience=20) as research:
        first = await research.start(waiting())
        second = asyncio.create_task(_outputs(research, flow))
        await until(full.refused)
        await research.complete_step(first.run_id, "wait")
        assert (await second) == {"echo": 1}


async def _outputs(research: AsyncClient, flow: Workflow) -> object:
    return (await research.run(flow, 1)).outputs


async def test_a_namespace_has_no_more_attempts_than_it_may(serve: Serve, access: Path, gate: Gate) -> None:
    write(access, "max_attempts = 2")
    server = await serve(actions=[gate.action()])
    async with client(server, "research") as research, client(server, "default") as default:
        mine, other = await research.start(wide(4)), await default.start(wide(4))
        for _ in range(6):  # two of one namespace, and all of the other
            await gate.begun.acquire()
        waits = (await research.explain(mine.run_id)).steps
        assert sum("namespace research" in step.message for step in waits) == 2
        gate.open()
        await research.wait(mine.run_id)
        await default.wait(other.run_id)
    assert gate.most == 6


async def test_a_changed_bound_on_attempts_holds_at_once(
    serve: Serve, access: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepwave_server.access.authenticator.CHECK_SECONDS", 0.02)
    write(access, "max_attempts = 1")
    server = await serve(actions=[gate.action()])
    async with client(server, "research") as research:
        run = await research.start(wide(4))
        await gate.begun.acquire()
        write(access, "max_attempts = 3")
        for _ in range(2):
            await gate.begun.acquire()
        waits = (await research.explain(run.run_id)).steps
        assert [it.message for it in waits if it.message] == [
            'all 3 places of the limit "namespace research" are taken'
        ]
        gate.open()
        await research.wait(run.run_id)


async def test_the_first_bound_on_attempts_of_a_server_waits_for_its_next_start(
    serve: Serve, access: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stepwave_server.access.authenticator.CHECK_SECONDS", 0.02)
    await serve()
    write(access, "max_attempts = 1")
    await until(partial(_logged, caplog, "the max_attempts of namespaces holds from the next start"))


async def test_namespaces_that_wait_for_places_get_them_by_their_weights(
    serve: Serve, access: Path, gate: Gate
) -> None:
    write(access, "weight = 3")
    order: list[str] = []

    @action("note")
    async def note(input: str) -> None:
        order.append(input)

    server = await serve(actions=[gate.action(), note], max_attempts=1)
    async with client(server, "research") as research, client(server, "default") as default:
        await default.start(wide(1))
        await gate.begun.acquire()
        flood = [await default.start(wide(3, "note"), "default") for _ in range(4)]
        run = await research.start(wide(9, "note"), "research")
        for held, step in ((default.explain(flood[0].run_id), "s2"), (research.explain(run.run_id), "s8")):
            waits = {it.step_id: it.message for it in (await held).steps}
            assert waits[step] == "the server's max_attempts is 1"
        gate.open()
        await research.wait(run.run_id)
        assert Counter(order[:12]) == {"research": 9, "default": 3}


@pytest.mark.parametrize("journal", ["memory", "sqlite"])
async def test_a_namespace_whose_runs_keep_too_many_bytes_starts_no_more(
    serve: Serve, access: Path, tmp_path: Path, journal: str
) -> None:
    write(access, "max_kept_bytes = 10_000")
    server = await serve(journal=f"sqlite:{tmp_path / 'journal.db'}" if journal == "sqlite" else journal)
    large, echo = "x" * 10_000, wide(1, "core.echo")
    async with client(server, "research") as research, client(server, "default") as default:
        first = await research.start(echo, large)
        with pytest.raises(LimitExceeded, match=r"keep \d+,\d{3} bytes.* is 10,000: delete") as caught:
            await research.start(echo, large)
        assert (caught.value.reason, caught.value.retry_after) == ("TOO_MANY_KEPT_BYTES", timedelta(seconds=1))
        assert (await research.start(echo, large, run_id=first.run_id)).run_id == first.run_id
        await research.wait(first.run_id)
        for _ in range(2):
            await default.start(echo, large)
    async with AsyncClient(server.address, token="admin-research", namespace="research") as admin:
        await admin.delete(first.run_id)
        await admin.start(echo, large)


async def test_a_namespace_starts_no_more_runs_in_a_second_than_it_may(serve: Serve, access: Path) -> None:
    write(access, "starts_per_second = 0.001")
    server = await serve()
    async with client(server, "research") as research, client(server, "default") as default:
        await research.start(waiting())
        with pytest.raises(LimitExceeded, match="starts more runs in a second than it may") as caught:
            await research.start(waiting())
        assert caught.value.reason == "TOO_MANY_STARTS"
        assert caught.value.retry_after is not None
        assert timedelta(seconds=900) < caught.value.retry_after <= timedelta(seconds=1000)
        await default.start(waiting())
        await default.start(waiting())


@pytest.mark.parametrize("bounds", ["max_runs = 1", "max_attempts = 1", "weight = 2", "max_kept_bytes = 1"])
async def test_a_bound_that_needs_one_server_is_refused_on_temporal(access: Path, bounds: str) -> None:
    write(access, bounds)
    settings = Settings(listen="127.0.0.1:0", engine="temporal", entry_points=False, access=access)
    with pytest.raises(AccessError, match=rf"namespaces.research.{bounds.split()[0]}: one server must know"):
        async with Server(settings):
            pass


async def test_a_changed_file_with_a_bound_that_needs_one_server_is_refused_on_temporal(
    access: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stepwave_server.access.authenticator.CHECK_SECONDS", 0.02)
    authenticator = Authenticator(access)
    bounded(EngineOptions(), authenticator, on_temporal=True)
    authenticator.start()
    write(access, "weight = 2")
    try:
        await until(partial(_logged, caplog, "the old rules stay: namespaces.research.weight: one server must know"))
        assert authenticator.weight_of("research") == 1
    finally:
        await authenticator.close()


async def _logged(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


def test_starts_are_spread_and_a_quiet_time_gives_a_second_of_them() -> None:
    now = 100.0
    rates = StartRates(lambda name: 2.0 if name == "bounded" else None, lambda: now)
    assert [rates.take("bounded") for _ in range(3)] == [0, 0, 0.5]
    assert all(rates.take("free") == 0 for _ in range(100))
    now += 0.5
    assert [rates.take("bounded") for _ in range(2)] == [0, 0.5]
    now += 10
    assert [rates.take("bounded") for _ in range(3)] == [0, 0, 0.5]

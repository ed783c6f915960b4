"""A server in the client's own process."""

import asyncio
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stepwave import AsyncClient, Client, ServerUnavailable
from stepwave.testing import serve


def folder_of(address: str) -> Path:
    return Path(address.removeprefix("unix:")).parent


async def test_only_this_user_can_reach_a_local_server() -> None:
    async with AsyncClient.local(entry_points=False) as client:
        assert stat.S_IMODE(folder_of(client.address).stat().st_mode) == 0o700


async def test_a_local_server_leaves_no_files() -> None:
    async with AsyncClient.local(entry_points=False) as client:
        assert await client.parallel(["core.echo"], 1) == [1]
        folder = folder_of(client.address)
    assert not folder.exists()


async def test_two_local_servers_are_independent() -> None:
    async with AsyncClient.local(entry_points=False) as one, AsyncClient.local(entry_points=False) as other:
        assert one.address != other.address
        await one.parallel(["core.echo"])
        assert [run async for run in other.runs()] == []


async def test_a_local_server_stops_when_its_task_is_cancelled() -> None:
    serving = asyncio.Event()
    addresses = []

    async def use() -> None:
        async with AsyncClient.local(entry_points=False) as client:
            addresses.append(client.address)
            serving.set()
            await client.parallel(["core.sleep"], {"seconds": 600})

    task = asyncio.create_task(use())
    await serving.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not folder_of(addresses[0]).exists()


async def test_a_long_path_to_temporary_files_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    async with AsyncClient.local(entry_points=False) as client:
        assert await client.parallel(["core.echo"], 1) == [1]


async def test_without_the_server_installed_the_error_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "stepwave_server.app", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'stepwave\[server\]'"):
        async with AsyncClient.local():
            raise AssertionError("not reached")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'stepwave\[server\]'"), Client.local():
        raise AssertionError("not reached")


def test_a_server_on_a_thread_ends_with_its_block() -> None:
    with serve(entry_points=False) as address, Client(address) as client:
        assert client.parallel(["core.echo"], 1) == [1]
    with Client(address, connect_timeout=0) as client, pytest.raises(ServerUnavailable):
        client.server_info()


def test_a_local_server_ignores_the_journal_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEPWAVE_JOURNAL", f"sqlite:{tmp_path}/journal.db")
    with Client.local() as client:
        assert client.server_info().journal == "memory"
    assert list(tmp_path.iterdir()) == []


def test_a_server_on_a_thread_stops_although_an_action_never_ends() -> None:
    script = """
import asyncio
from stepwave import Client, RunFailed, Workflow, action
from stepwave.testing import serve

@action
async def stay():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

flow = Workflow("flow")
flow.step("stay", stay, timeout=0.1)
with serve([stay], cancel_grace=0.1) as address, Client(address) as client:
    try:
        client.run(flow)
    except RunFailed as error:
        print(error.failure.reason)
print("left")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "timeout\nleft\n")
    assert "Traceback" not in done.stderr

"""A server for tests, in their own process: real, except that nothing leaves the machine.

With pytest, fixtures bring it; they work in synchronous and asynchronous tests alike:

    @pytest.mark.stepwave(actions=[search, "package.tools"])
    def test_the_briefing_names_the_city(stepwave_client):
        assert "Oslo" in stepwave_client.run(flow, {"city": "Oslo"}).outputs["brief"]

    @pytest.mark.stepwave(actions=[search], max_attempts=1)
    async def test_one_search_at_a_time(stepwave_server):
        async with AsyncClient(stepwave_server) as client: ...

- `stepwave_server` is the address of a server with the actions, and the settings, of the marker `stepwave`;
- `stepwave_client` is a `Client` of that server;
- `stepwave_actions` gives actions for all tests that see it: override it in a `conftest.py` or a module.

Without pytest, `serve` does the same. An asynchronous test that wants the server on its own event loop takes
`AsyncClient.local` instead.

`replay` makes of any run that once went wrong, or right, a test that it would be decided alike today:

    def test_the_run_of_that_day_is_decided_as_it_was():
        replay("runs/briefing-7k3f9q2m.json")  # from `stepwave export` or `client.export`
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ._export import RunExport
from ._local import needs_server_extra, server_on_thread

__all__ = ["replay", "serve"]


@contextmanager
def serve(actions: Iterable[object] = (), **settings: Any) -> Iterator[str]:
    """Run a server on a thread of this process while inside, and give its address; its runs end with it.

    Args:
        actions: What steps can do, beside the built-in actions: marked functions and classes, modules, or names of
            modules.
        settings: Settings of the server, by their names in `stepwave_server.config.Settings`.

    Raises:
        ModuleNotFoundError: The server is not installed: `pip install 'stepwave[server]'`.
    """
    with server_on_thread(actions, settings) as address:
        yield address


def replay(source: "RunExport | str | os.PathLike[str]") -> None:
    """Feed the recorded outcomes of a run through today's scheduler, and compare all that it decides. Nothing runs.

    Args:
        source: An exported run, or the file that holds one; the run need not have ended.

    Raises:
        ReplayDiverged: It decides otherwise; the first event that differs is named.
        InvalidExport: The file, or its workflow, is no such thing.
        Unsupported: A newer version made it.
        OSError: The file cannot be read.
        ModuleNotFoundError: The scheduler is not installed: `pip install 'stepwave[server]'`.
    """
    export = source if isinstance(source, RunExport) else RunExport.load(source)
    with needs_server_extra("a replay"):
        from ._replay import replay_export
    replay_export(export)

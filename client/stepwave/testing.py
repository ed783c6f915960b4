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

`run_scripted` runs a workflow with some of its actions replaced, in virtual time: what becomes of failures is seen at
once, though there may be hours of pauses and timeouts between. It needs no server beside it, and no socket:

    def test_the_briefing_survives_a_flaky_weather_service():
        script = {"weather": [ConnectionError(), Takes(90, {"summary": "sun"})]}
        run = run_scripted("briefing.yaml", script, {"city": "Oslo"}, actions=["package.tools"])
        assert run.attempts("weather") == 2
        assert run.elapsed > timedelta(seconds=90)
        run.assert_order("weather", "brief")

The fixture `stepwave_scripted` is the same function with the actions and settings that `stepwave_server` would have.

`replay` makes of any run that once went wrong, or right, a test that it would be decided alike today:

    def test_the_run_of_that_day_is_decided_as_it_was():
        replay("runs/briefing-7k3f9q2m.json")  # from `stepwave export` or `client.export`
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ._client.local import needs_server_extra, server_on_thread
from ._client.runs import checked
from ._reports.export import RunExport
from ._scripted.entries import Always, ByStep, Hangs, Script, Takes, parts_of
from ._scripted.report import ScriptedAttempt, ScriptedRun
from ._scripted.script_errors import RunStuck, ScriptExhausted
from ._values.payload import JSON, Blob
from ._values.time import Seconds, to_seconds
from .exceptions import RunFailed

if TYPE_CHECKING:
    from ._scripted.prepare import WorkflowLike

__all__ = [
    "Always",
    "ByStep",
    "Hangs",
    "RunStuck",
    "Script",
    "ScriptExhausted",
    "ScriptedAttempt",
    "ScriptedRun",
    "Takes",
    "replay",
    "run_scripted",
    "serve",
]

# Past any clock that a test runs by: an action that compares its deadline with the real time has some left.
_START = datetime(2100, 1, 1, tzinfo=UTC)


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
        from ._reports.replay import replay_export
    replay_export(export)


def run_scripted(
    workflow: "WorkflowLike",
    script: Script | None = None,
    input: JSON | Blob = None,
    *,
    actions: Iterable[object] = (),
    check: bool = True,
    cancel_after: Seconds | None = None,
    start: datetime = _START,
    run_id: str = "scripted",
    patience: float = 10.0,
    **settings: Any,
) -> ScriptedRun:
    """Run a workflow in virtual time with some of its actions replaced. All else is as on a server.

    A script has the actions to replace, by name. Each has a list, of which every attempt of the action, whichever step
    makes it, takes the next entry; or, in its place, the one entry that goes for all attempts:

    - an exception, or a class of them, is raised;
    - `Takes(90, entry)` goes as the entry does, after 90 seconds, and `Hangs()` never ends;
    - a callable is called as an action is: with what it names of the input, on a thread if it is a plain function; it
      may be a generator, and it may be the action itself;
    - `Always(entry)`, the last one of a list, goes for every further attempt;
    - `ByStep({"plan": …, "write": …})` in the place of the list has a list, or an entry, for each step of the action;
    - anything else is the answer; one for all attempts that is a list wants `Always([…])`.

    An action that is replaced need not be among `actions`. If it is, its input is checked as it would, and one that
    does not fit fails as it would, without an entry being taken.

    Nothing waits: when all that can happen has happened, the clock goes to the next timer, be it a backoff, a timeout,
    `core.sleep` or an action's own `asyncio.sleep`. Event times and deadlines are by that clock; `time.time()` and the
    like know nothing of it. It stands still while a thread works or a connection is open, so replace what talks to
    others. Plain functions run one at a time, when nothing else can happen. The same script gives the same events.

    Within a running event loop, as in an async test, that loop stands still meanwhile.

    Args:
        workflow: The workflow, or the path of a workflow file.
        script: What replaces actions; `None`: nothing is replaced.
        input: The run's input.
        actions: Where the other actions come from, as for `serve`.
        check: Raise if the run did not succeed, as clients do.
        cancel_after: Cancel the run after so long, by virtual time; `None`: don't.
        start: The wall clock at the start of the run.
        run_id: Its id; the drawn share of pauses depends on it.
        patience: How many seconds of real time a thread or a connection may keep the run; `math.inf` when you debug.
        settings: Settings of the server, by their names in `stepwave_server.config.Settings`.

    Raises:
        ScriptExhausted: An action was attempted more often than its script has entries.
        RunFailed: The run failed; a note tells of each attempt.
        RunCancelled: It was cancelled.
        RunStuck: Virtual time cannot go on.
        InvalidWorkflow: The workflow cannot run: every problem is listed, with its place if it came from a file.
        Unsupported: It has what this version does not support yet.
        ValueError: The workflow lacks an action or step of the script, or JSON cannot hold an answer or the input.
        TypeError: An exception of the script needs arguments, or a callable does not say which it takes.
        ActionsError: An action cannot be loaded, or a callable of the script cannot be called with an input.
        OSError: The file cannot be read.
        ModuleNotFoundError: The server is not installed: `pip install 'stepwave[server]'`.
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    with needs_server_extra("a scripted run"):
        from ._scripted.drive import Order, perform
        from ._scripted.prepare import apart, check_names, nanos, placed, read
    message, loaded = read(workflow)
    parts = parts_of(script or {})
    check_names(parts, message)
    order = Order(
        workflow=message,
        input=input,
        run_id=run_id,
        script=parts,
        actions=actions,
        settings=settings,
        start=nanos(start),
        cancel_after=None if cancel_after is None else to_seconds(cancel_after),
        patience=patience,
    )
    try:
        with placed(loaded):
            run = apart(lambda: perform(order))
        return _checked(run) if check else run
    except (RunFailed, RunStuck, ScriptExhausted) as error:
        raise error.with_traceback(None) from None  # how it came here tells a test nothing


def _checked(run: ScriptedRun) -> ScriptedRun:
    try:
        checked(run.result)
    except RunFailed as error:
        error.add_note(str(run))
        raise
    return run

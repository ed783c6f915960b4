"""A real server for tests, in their own process.

With pytest, use the fixtures, in synchronous and asynchronous tests:

    @pytest.mark.stepwave(actions=[search, "package.tools"])
    def test_the_briefing_names_the_city(stepwave_client):
        assert "Oslo" in stepwave_client.run(flow, {"city": "Oslo"}).outputs["brief"]

    @pytest.mark.stepwave(actions=[search], max_attempts=1)
    async def test_one_search_at_a_time(stepwave_server):
        async with AsyncClient(stepwave_server) as client: ...

- `stepwave_server` is the address of a server with the actions and settings of the marker `stepwave`.
- `stepwave_client` is a `Client` of that server. As with `Client.local`, the functions that a `Workflow` has as actions
  need not be among the actions of the marker. Other clients of `stepwave_server` send the names alone.
- `stepwave_actions` has actions for all tests in its scope: override it in a `conftest.py` or a module.

Without pytest, use `serve`. For a server on the event loop of an asynchronous test, use `AsyncClient.local`.

`run_scripted` runs a workflow in virtual time, with some of its actions replaced. Hours of pauses and timeouts pass at
once. It needs no other server, and no socket. The functions that a `Workflow` has as actions are brought along:

    def test_the_briefing_survives_a_flaky_weather_service():
        script = {"weather": [ConnectionError(), Takes(90, {"summary": "sun"})]}
        run = run_scripted("briefing.yaml", script, {"city": "Oslo"}, actions=["package.tools"])
        assert run.attempts("weather") == 2
        assert run.elapsed > timedelta(seconds=90)
        run.assert_order("weather", "brief")

The fixture `stepwave_scripted` is this function with the actions and settings of `stepwave_server`.

`replay` tests that today's scheduler would make the same decisions as in an exported run:

    def test_the_scheduler_decides_as_in_that_run():
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
from ._scripted.report import ScriptedAttempt, ScriptedRun
from ._scripted.script import Always, ByStep, Hangs, RunStuck, Script, ScriptExhausted, Takes, read_script
from ._values.payload import JSON, Blob
from ._values.time import Seconds, to_nanos, to_seconds
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

# In the future: an action that compares its deadline with the real time has time left.
_START = datetime(2100, 1, 1, tzinfo=UTC)


@contextmanager
def serve(actions: Iterable[object] = (), **settings: Any) -> Iterator[str]:
    """Run a server on a thread of this process, and yield its address. Its runs end with it.

    Clients of an address send the names of actions alone. For a workflow with functions: `serve(flow.actions)`.

    Args:
        actions: Actions beside the built-in ones: marked functions and classes, modules, or names of modules.
        settings: Settings of the server, by their names in `stepwave_server.config.Settings`.

    Raises:
        ModuleNotFoundError: The server is not installed: `pip install 'stepwave[server]'`.
    """
    with server_on_thread(actions, settings) as server:
        yield server.address


def replay(source: "RunExport | str | os.PathLike[str]") -> None:
    """Feed the recorded outcomes of a run through today's scheduler, and compare its decisions. No action runs.

    Args:
        source: An exported run, or its file. The run need not have ended.

    Raises:
        ReplayDiverged: The scheduler decides otherwise. The error names the first event that differs.
        InvalidExport: The file is not an export, or its workflow is malformed.
        Unsupported: A newer version wrote the export.
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
    """Run a workflow in virtual time, with some of its actions replaced. All else is as on a server.

    A script has an entry list for each action to replace, by name. Each attempt of the action, in any step, uses the
    next entry. In place of a list, a single entry is used for all attempts. An entry is one of these:

    - An exception, or its class, is raised.
    - `Takes(90, entry)` behaves as `entry` after 90 seconds. `Hangs()` never ends.
    - A callable is called like an action. Each parameter gets the value of the same key of the input, one named `input`
      the whole input, and one annotated `Context` the attempt's context. The values are checked against type hints. A
      plain function runs on a thread. A callable may be a generator, or the action itself: a function or a class.
    - `Always(entry)`, the last of a list, is used for all further attempts.
    - Any other value is the answer. To answer all attempts with a list, write `Always([…])`.

    `ByStep({"plan": …, "write": …})` in place of a list has a list, or a single entry, for each step of the action.

    A key may also be the id of a step, if no step has an action of this name: `{"plan": …}`. It replaces the step's own
    action for this step alone. The steps of a nested workflow have the path to them as their id, `report/write`. The
    children of a `for_each` share a key: `pages` is for all items, and `pages/fetch` for this step of all their
    workflows. Each item uses the list from its beginning. `pages[3]` and `pages[3]/fetch` are for one item. Of several
    keys that fit a step, the one with the most indexes is used, and a key of a step before that of its action.

    A step of the action `core.wait` is completed by its entries, as by `complete_step`: `{"approval": "yes"}` at once,
    `Takes(3600, "yes")` after an hour. An exception fails it, as `fail_step` does. A callable gets the step's input.
    Without an entry it waits for its timeout.

    A replaced action need not be among `actions`. If it is, or if a `Workflow` has it as a function, its input is
    checked, and an invalid input fails the attempt without using an entry. A replaced class of a `Workflow` is not
    instantiated, so its input is not checked.

    When nothing else can happen, the clock jumps to the next timer: a backoff, a timeout, `core.sleep` or an action's
    `asyncio.sleep`. Event times and deadlines are by this clock; `time.time()` is not. The clock stands still while a
    thread works or a connection is open, so replace actions that use the network. Plain functions run one at a time,
    when nothing else can happen. The same script gives the same events.

    In an async test, the running event loop is blocked meanwhile.

    Args:
        workflow: The workflow, or the path of a workflow file.
        script: The entries for the actions and steps to replace; `None`: none are replaced.
        input: The run's input.
        actions: The other actions, as for `serve`, except the functions and classes that a `Workflow` has as actions.
        check: Whether to raise if the run did not succeed, as clients do.
        cancel_after: The virtual time after which to cancel the run, in seconds or as a `timedelta`; `None`: never.
        start: The wall clock at the start of the run.
        run_id: The run's id, which also determines the jitter of pauses.
        patience: The longest that a thread or a connection may block the run, in real seconds; `math.inf` to debug.
        settings: Settings of the server, by their names in `stepwave_server.config.Settings`, such as the folder of its
            `workflows` for steps of `core.workflow` that run one by its name.

    Raises:
        ScriptExhausted: An action was attempted more often than its script has entries.
        RunFailed: The run failed. A note describes each attempt.
        RunCancelled: The run was cancelled.
        RunStuck: Virtual time cannot advance.
        InvalidWorkflow: The workflow cannot run. Every problem is listed, with its place in a workflow file.
        Unsupported: The workflow uses a feature that this version does not support.
        ValueError: The workflow lacks an action or step of the script, a key has an index where there is no list, or
            JSON cannot hold an answer or the input.
        TypeError: An exception of the script needs arguments, or the parameters of a callable are unknown.
        ActionsError: An action cannot be loaded, two actions have the same name, or a callable of the script cannot be
            called with an input.
        OSError: The file cannot be read.
        ModuleNotFoundError: The server is not installed: `pip install 'stepwave[server]'`.
    """
    __tracebackhide__ = True  # pytest then shows the line of the test
    with needs_server_extra("a scripted run"):
        from ._scripted.prepare import by_action, call_off_loop, located_errors, read_workflow, with_functions
        from ._scripted.runner import RunSpec, execute
    message, loaded = read_workflow(workflow)
    scripts = read_script(script or {})
    replaced = by_action(scripts, message)
    spec = RunSpec(
        workflow=message,
        input=input,
        run_id=run_id,
        script=scripts,
        replaced=replaced,
        actions=with_functions(actions, workflow, replaced),
        settings=settings,
        start=to_nanos(start),
        cancel_after=None if cancel_after is None else to_seconds(cancel_after),
        patience=patience,
    )
    try:
        with located_errors(loaded):
            run = call_off_loop(lambda: execute(spec))
        return _checked(run) if check else run
    except (RunFailed, RunStuck, ScriptExhausted) as error:
        raise error.with_traceback(None) from None  # internal frames do not help a test


def _checked(run: ScriptedRun) -> ScriptedRun:
    try:
        checked(run.result)
    except RunFailed as error:
        error.add_note(str(run))
        raise
    return run

"""The asynchronous face of the SDK: the client for asyncio."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

from stepwave._building.requests import Definition, Rerun, RunFilter, Startable
from stepwave._building.workflow import ActionLike
from stepwave._model.catalog import ActionInfo, NamedWorkflow, Plan, ServerInfo
from stepwave._model.explanation import RunExplanation
from stepwave._model.report import RunReport
from stepwave._model.results import Run, RunResult, State, StepResult
from stepwave._reports.export import RunExport
from stepwave._transport.aio import AsyncTransport, LoopAffinity
from stepwave._values.payload import JSON, Blob, Output
from stepwave._values.time import Seconds

from .aio_streams import EventStream, RunHandle
from .session import connect

__all__ = ["AsyncClient"]


class AsyncClient:
    """A client of a Stepwave server, for asyncio.

        async with AsyncClient() as client:
            result = await client.run(flow, {"city": "Oslo"})

    Every call raises exceptions of the tree in `stepwave.exceptions` alone, and is tried again for a while when nobody
    answers. A client may be made anywhere, and belongs to the event loop that enters it, or that of its first call: on
    another one it raises `RuntimeError`.

    Args:
        address: `HOST:PORT` or `unix:PATH`; `None`: `$STEPWAVE_SERVER`, else `127.0.0.1:50051`.
        timeout: How long a call may take, in seconds or as a `timedelta`; runs, watches and `wait` have their own.
        connect_timeout: For how long a call is tried again while nobody answers.
        reconnect_window: For how long a stream that was lost is looked for, and a run outlives the stream that held it;
            at most an hour. Of a server that is restarted, it begins anew with the restart; but zero does so only after
            a crash: a run outlives a server that stops in order, whether its caller comes back or not.
        namespace: The namespace of all calls; empty: the server's default.
        insecure: Whether plain text may leave this machine.

    Raises:
        ValueError: The address is malformed, or is another machine's and `insecure` was not said.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: Seconds = 30,
        connect_timeout: Seconds = 3,
        reconnect_window: Seconds = 30,
        namespace: str = "",
        insecure: bool = False,
    ) -> None:
        self._affinity = LoopAffinity()
        self._session = connect(
            partial(AsyncTransport, affinity=self._affinity),
            address,
            timeout=timeout,
            connect_timeout=connect_timeout,
            reconnect_window=reconnect_window,
            namespace=namespace,
            insecure=insecure,
        )

    @property
    def address(self) -> str:
        """Where the server is looked for."""
        return self._session.address

    @staticmethod
    def local(actions: Iterable[object] = (), **settings: Any) -> AbstractAsyncContextManager["AsyncClient"]:
        """Run a server in this process, on a private socket, and give a client of it; for notebooks and tests.

            async with AsyncClient.local(actions=[search, "package.tools"]) as client: ...

        It shares the caller's event loop. So an async action that swallows its cancellation for ever is abandoned, but
        its task stays there, and `asyncio.run` does not return before it ends: `Client.local` and `stepwave.testing`
        have a loop of their own, which nobody waits for.

        Args:
            actions: What steps can do, beside the built-in actions: marked functions and classes, modules, or names of
                modules.
            settings: Settings of the server, by their names in `stepwave_server.config.Settings`.

        Raises:
            ModuleNotFoundError: The server is not installed: `pip install 'stepwave[server]'`.
        """
        from .local import LocalClient

        return LocalClient(AsyncClient, actions, settings)

    def run(
        self,
        workflow: Startable,
        input: JSON | Blob = None,
        *,
        run_id: str | None = None,
        timeout: Seconds | None = None,
        check: bool = True,
    ) -> RunHandle:
        """Run a workflow. Await it for the result, or enter it to iterate over its events.

        Nothing happens before that. A run is held: leaving before its end (by `break`, by an exception, by the
        cancellation of the task) cancels it.

        Args:
            workflow: A `Workflow`, a message of the contract, the name of a workflow that the server has, or a `Rerun`
                of an earlier run.
            input: The run's input: a value that JSON can hold, or a `Blob`; none for a `Rerun`.
            run_id: Its id; one is made if there is none. A run of that id and the same content is joined.
            timeout: How long it may take, in seconds or as a `timedelta`; then it is cancelled, and `DeadlineExceeded`
                raised. `None`: for ever.
            check: Whether awaiting raises `RunFailed` or `RunCancelled` when the run ends so.

        Raises:
            ValueError: JSON cannot hold the input, or there is one for a `Rerun`.
        """
        return RunHandle(
            self._session.run(workflow, input, run_id=run_id, timeout=timeout), self._affinity, check=check
        )

    async def start(self, workflow: Startable, input: JSON | Blob = None, *, run_id: str | None = None) -> Run:
        """Start a run that nobody holds: it goes on when this client leaves. Arguments as for `run`."""
        return await self._session.start(workflow, input, run_id=run_id)

    def rerun(
        self,
        run_id: str,
        *,
        from_failed: bool = False,
        new_run_id: str | None = None,
        timeout: Seconds | None = None,
        check: bool = True,
    ) -> RunHandle:
        """Run an earlier run's workflow again, on its input: `run(Rerun(run_id))`, which `start` takes as well.

        Args:
            run_id: The earlier run.
            from_failed: Whether steps that succeeded, and whose dependencies are all taken over, are taken over with
                their outputs, and not run again.
            new_run_id: The new run's id; one that begins alike is made if there is none.
            timeout: As for `run`.
            check: As for `run`.

        Raises:
            NotFound: There is no such run any more; here and below, as soon as the handle is awaited or iterated over.
            FailedPrecondition: It has not ended.
        """
        return self.run(Rerun(run_id, from_failed), run_id=new_run_id, timeout=timeout, check=check)

    def watch(self, run_id: str, *, after: int = 0, kinds: Iterable[str] = (), attach: bool = False) -> EventStream:
        """Watch a run from outside, as an async context manager that iterates over its events; leaving changes nothing.

        Args:
            run_id: The run, under way or ended.
            after: Only events after this number; 0: all.
            kinds: Only these kinds of events, such as `step_finished`, and always `run_finished`; none given: all.
            attach: Whether to hold the run meanwhile, if it is one that is held. It outlives its last holder by its
                reconnect window.

        Raises:
            ValueError: There is no such kind of event.
        """
        return EventStream(self._session.watch(run_id, after=after, kinds=kinds, attach=attach), self._affinity)

    async def get(self, run_id: str) -> Run:
        """Return a run as it stands now."""
        return await self._session.get(run_id)

    async def result(self, run_id: str) -> RunResult:
        """Return what a run came to, whatever that is.

        Raises:
            FailedPrecondition: It has not ended yet: see `wait`.
        """
        return await self._session.result(run_id)

    async def wait(
        self,
        run_id: str,
        *,
        check: bool = True,
        timeout: Seconds | None = None,  # noqa: ASYNC109 - the server hears of it as the call's deadline
    ) -> RunResult:
        """Wait for a run's end, and return what it came to. Not to wait any longer leaves the run alone.

        A server that is lost meanwhile, even while the result is fetched, is looked for during `reconnect_window`.

        Args:
            run_id: The run.
            check: Whether to raise `RunFailed` or `RunCancelled` if it ends so.
            timeout: How long to wait, in seconds or as a `timedelta`; then `DeadlineExceeded` is raised. `None`: for
                ever.
        """
        return await self._session.wait(run_id, check=check, within=timeout)

    def steps(self, run_id: str) -> AsyncIterator[StepResult]:
        """Iterate over a run's steps and what they came to so far, in the order in which they are declared."""
        return self._session.steps(run_id)

    def runs(
        self,
        *,
        states: Iterable[State | str] = (),
        workflow: str | None = None,
        prefix: str = "",
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Run]:
        """Iterate over runs, the newest first.

        Args:
            states: Only runs in one of these states; none given: in any.
            workflow: Only runs of the workflow of this name.
            prefix: Only runs whose id begins so.
            labels: Only runs whose workflow has all these labels.
            since: Only runs accepted then or later; a time without a zone is local.
            until: Only runs accepted before.
            limit: How many at most.
        """
        wanted = RunFilter(states=states, workflow=workflow, prefix=prefix, labels=labels, since=since, until=until)
        return self._session.runs(wanted, limit=limit)

    async def cancel(self, run_id: str, reason: str = "") -> Run:
        """Cancel a run, and return it as it stands now: it may still be stopping. One that has ended stays as it is."""
        return await self._session.cancel(run_id, reason)

    async def delete(self, run_id: str) -> None:
        """Forget a run.

        Raises:
            FailedPrecondition: It has not ended.
        """
        await self._session.delete(run_id)

    async def export(self, run_id: str) -> RunExport:
        """Return all that is kept of a run, as far as it has come: for a file, or for `stepwave.testing.replay`.

        (await client.export(run_id)).save("runs/briefing.json")
        """
        return await self._session.export(run_id)

    async def report(self, run_id: str) -> RunReport:
        """Return where a run's time went: its critical path, what it was spent on, and what could be saved.

        Of a run under way, so far. An exported run is reported without a server: `RunExport.load(path).report()`.
        """
        return await self._session.report(run_id)

    async def explain(self, run_id: str) -> RunExplanation:
        """Return what a run waits for: what each step that has not ended does or waits for, and since when.

        Of a running Python action, the line of code where it stands, unless the server withholds tracebacks. Of a run
        that has ended there is nothing to explain: `report` says where its time went.
        """
        return await self._session.explain(run_id)

    async def plan(self, workflow: Definition) -> Plan:
        """Validate a workflow and explain how it would run; nothing is invoked.

        Raises:
            InvalidWorkflow: It is malformed; every problem is listed.
        """
        return await self._session.plan(workflow)

    async def actions(self) -> list[ActionInfo]:
        """Return the actions of the server, by name."""
        return await self._session.actions()

    async def workflows(self) -> list[NamedWorkflow]:
        """Return the named workflows of the server, by name."""
        return await self._session.workflows()

    async def server_info(self) -> ServerInfo:
        """Return what the server is and can do."""
        return await self._session.server_info()

    async def parallel(
        self,
        actions: Sequence[ActionLike],
        input: JSON | Blob = None,
        *,
        timeout: Seconds | None = None,  # noqa: ASYNC109 - the server hears of it as the call's deadline
    ) -> list[Output]:
        """Run actions side by side, each on the same input, and return their answers in the order of the arguments.

        Args:
            actions: Marked functions or classes, or names of actions; none: the answer is `[]`.
            input: The input of each.
            timeout: How long all may take, in seconds or as a `timedelta`; then they are cancelled.

        Raises:
            ParallelFailed: One failed; all others have ended. It names the lowest index that did, and carries the
                answers there are.
        """
        return await self._session.parallel(actions, input, within=timeout)

    async def close(self) -> None:
        """Free the connection; calls under way are cut off, and held runs end when their window has passed."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        self._affinity.bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

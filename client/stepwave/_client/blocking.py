"""The client without asyncio, on the caller's own thread."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from stepwave._actions.failure import FailureReason
from stepwave._building.action_types import OpenRunOptions
from stepwave._building.references import StepHandle
from stepwave._building.requests import Definition, Rerun, Startable
from stepwave._building.workflow import ActionLike, Workflow
from stepwave._model.catalog import ActionInfo, NamedWorkflow, Plan, ServerInfo, ServerStats
from stepwave._model.events import StepLog
from stepwave._model.explanation import RunExplanation
from stepwave._model.report import RunReport
from stepwave._model.results import Run, RunResult, State, StepResult
from stepwave._reports.export import RunExport
from stepwave._transport.aio import AsyncTransport, LoopAffinity
from stepwave._transport.blocking import SyncTransport, drive, drive_each
from stepwave._transport.link import Link, connect
from stepwave._transport.security import Connection, PathLike, resolve_connection
from stepwave._values.payload import JSON, Blob, Output
from stepwave._values.time import Seconds

from .functions import Register
from .session import Session
from .streams import SyncEventStream, SyncRunHandle
from .sync_open_runs import SyncOpenRun

if TYPE_CHECKING:
    from .local import LocalServer

__all__ = ["Client", "ClientInProcess"]


class Client:
    """A blocking client of a Stepwave server: `AsyncClient` without `await`. It takes the same arguments.

        with Client() as client:
            result = client.run(flow, {"city": "Oslo"})

    Two methods take the place of `AsyncClient.run`: `run` returns the result, `stream` the events. A call runs on the
    caller's thread, so Ctrl-C interrupts it, and cancels a run. Threads may share a client.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: Seconds = 30,
        connect_timeout: Seconds = 3,
        reconnect_window: Seconds = 30,
        namespace: str = "",
        token: str | None = None,
        tls: bool | None = None,
        tls_ca: PathLike | None = None,
        client_cert: PathLike | None = None,
        client_key: PathLike | None = None,
        profile: str | None = None,
        insecure: bool = False,
    ) -> None:
        connection = resolve_connection(
            address,
            namespace=namespace,
            token=token,
            tls=tls,
            tls_ca=tls_ca,
            client_cert=client_cert,
            client_key=client_key,
            profile=profile,
            insecure=insecure,
        )
        self._connect(connection, timeout=timeout, connect_timeout=connect_timeout, reconnect_window=reconnect_window)

    def _connect(
        self,
        connection: Connection,
        *,
        timeout: Seconds = 30,
        connect_timeout: Seconds = 3,
        reconnect_window: Seconds = 30,
    ) -> None:
        self._security = connection.security
        link = connect(
            SyncTransport(connection.address, connection.security),
            timeout=timeout,
            connect_timeout=connect_timeout,
            reconnect_window=reconnect_window,
            namespace=connection.namespace,
        )
        self._link = link
        self._session = Session(link)
        self._register: Register | None = None

    @property
    def address(self) -> str:
        """The server's address."""
        return self._session.address

    @staticmethod
    def local(actions: Iterable[object] = (), **settings: Any) -> AbstractContextManager["Client"]:
        """Run a server in this process, on a thread and a private socket, and return a client of it.

        As `AsyncClient.local`.
        """
        from .local import local_sync_client

        return local_sync_client(ClientInProcess, actions, settings)

    def run(
        self,
        workflow: Startable,
        input: JSON | Blob = None,
        *,
        run_id: str | None = None,
        timeout: Seconds | None = None,
        check: bool = True,
        open: bool = False,
    ) -> RunResult:
        """Run a workflow, and return its result. An interrupt meanwhile cancels the run.

        Args:
            workflow: A `Workflow`, a message of the contract, the name of a workflow that the server has, or a `Rerun`
                of an earlier run.
            input: The run's input: a value that JSON can hold, or a `Blob`; none for a `Rerun`.
            run_id: The run's id; `None`: a new one. A run with this id and the same content is joined.
            timeout: The longest that the run may take, in seconds or as a `timedelta`; `None`: no limit.
            check: Whether to raise if the run ends without success.
            open: Whether steps may be added while the run lasts. As for `AsyncClient.run`.

        Raises:
            RunFailed, RunCancelled: The run ended so, and `check` is true.
            DeadlineExceeded: The timeout passed; the run is cancelled.
            StepwaveError: The server refused the run, or was lost.
            ValueError: JSON cannot hold the input, or there is one for a `Rerun`.
        """
        return drive(self._session.run(workflow, input, run_id=run_id, timeout=timeout, check=check, open=open))

    def stream(
        self,
        workflow: Startable,
        input: JSON | Blob = None,
        *,
        run_id: str | None = None,
        timeout: Seconds | None = None,
        open: bool = False,
    ) -> SyncRunHandle:
        """Run a workflow, as a context manager that iterates over its events. Leaving before the end cancels the run.

        Arguments as for `run`.
        """
        return SyncRunHandle(self._session.run(workflow, input, run_id=run_id, timeout=timeout, open=open))

    def start(
        self, workflow: Startable, input: JSON | Blob = None, *, run_id: str | None = None, open: bool = False
    ) -> Run:
        """Start a run that is not attached to this client. As `AsyncClient.start`."""
        return drive(self._session.start(workflow, input, run_id=run_id, open=open))

    def compose(
        self,
        name: str,
        input: JSON | Blob = None,
        *,
        run_id: str | None = None,
        idle_timeout: Seconds | None = None,
        check: bool = True,
        **options: Unpack[OpenRunOptions],
    ) -> SyncOpenRun:
        """Run a plan while it is still written: a context manager to which steps are added. As `AsyncClient.compose`.

        with client.compose("plan", {"city": "Oslo"}) as plan:
            plan.step("search", "web.search", {"query": plan.input["city"]})
        print(plan.result.outputs)
        """
        affinity = LoopAffinity()
        transport = AsyncTransport(self.address, affinity, security=self._security)
        session = Session(Link(transport, self._link.settings), affinity, self._register)
        run = session.compose(name, input, run_id=run_id, idle_timeout=idle_timeout, check=check, **options)
        return SyncOpenRun(run, self.watch, transport.close)

    def add_steps(self, run_id: str, steps: Workflow | Iterable[Mapping[str, object]], *, seal: bool = False) -> Run:
        """Add steps to an open run, and return its current state. As `AsyncClient.add_steps`."""
        return drive(self._session.add_steps(run_id, steps, seal=seal))

    def rerun(
        self,
        run_id: str,
        *,
        from_failed: bool = False,
        new_run_id: str | None = None,
        timeout: Seconds | None = None,
        check: bool = True,
    ) -> RunResult:
        """Run an earlier run's workflow again, on its input. As `AsyncClient.rerun`.

        Same as `run(Rerun(run_id))`; `stream` and `start` take a `Rerun` too.
        """
        return self.run(Rerun(run_id, from_failed), run_id=new_run_id, timeout=timeout, check=check)

    def watch(self, run_id: str, *, after: int = 0, kinds: Iterable[str] = (), attach: bool = False) -> SyncEventStream:
        """Watch a run, as a context manager that iterates over its events. As `AsyncClient.watch`."""
        return SyncEventStream(self._session.watch(run_id, after=after, kinds=kinds, attach=attach))

    def get(self, run_id: str) -> Run:
        """Return a run's current state."""
        return drive(self._session.get(run_id))

    def result(self, run_id: str) -> RunResult:
        """Return a run's result. As `AsyncClient.result`."""
        return drive(self._session.result(run_id))

    def wait(self, run_id: str, *, check: bool = True, timeout: Seconds | None = None) -> RunResult:
        """Wait for a run's end, and return its result. As `AsyncClient.wait`."""
        return drive(self._session.wait(run_id, check=check, timeout=timeout))

    def steps(self, run_id: str) -> Iterator[StepResult]:
        """Iterate over the results of a run's steps so far. As `AsyncClient.steps`."""
        return drive_each(self._session.steps(run_id))

    def logs(self, run_id: str, step: str | None = None) -> Iterator[StepLog]:
        """Iterate over what the actions of a run have logged so far. As `AsyncClient.logs`."""
        return drive_each(self._session.logs(run_id, step))

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
    ) -> Iterator[Run]:
        """Iterate over runs, the newest first. As `AsyncClient.runs`."""
        return drive_each(
            self._session.runs(
                states=states,
                workflow=workflow,
                prefix=prefix,
                labels=labels,
                since=since,
                until=until,
                limit=limit,
            )
        )

    def cancel(self, run_id: str, reason: str = "") -> Run:
        """Cancel a run. As `AsyncClient.cancel`."""
        return drive(self._session.cancel(run_id, reason))

    def complete_step(self, run_id: str, step: StepHandle | str, output: JSON | Blob = None) -> Run:
        """Answer a step of the action `core.wait`. As `AsyncClient.complete_step`."""
        return drive(self._session.complete_step(run_id, step, output))

    def fail_step(
        self,
        run_id: str,
        step: StepHandle | str,
        message: str,
        *,
        reason: FailureReason | str = FailureReason.ACTION_ERROR,
        retryable: bool = False,
    ) -> Run:
        """Fail a step of the action `core.wait`. As `AsyncClient.fail_step`."""
        return drive(self._session.fail_step(run_id, step, message, reason=reason, retryable=retryable))

    def delete(self, run_id: str) -> None:
        """Delete a run that has ended."""
        drive(self._session.delete(run_id))

    def export(self, run_id: str) -> RunExport:
        """Return a run's definition and its events so far. As `AsyncClient.export`."""
        return drive(self._session.export(run_id))

    def report(self, run_id: str) -> RunReport:
        """Return where a run's time went. As `AsyncClient.report`."""
        return drive(self._session.report(run_id))

    def explain(self, run_id: str) -> RunExplanation:
        """Return what each unfinished step of a run does or waits for. As `AsyncClient.explain`."""
        return drive(self._session.explain(run_id))

    def plan(self, workflow: Definition) -> Plan:
        """Validate a workflow and explain how it would run. As `AsyncClient.plan`."""
        return drive(self._session.plan(workflow))

    def actions(self) -> list[ActionInfo]:
        """Return the actions of the server, by name."""
        return drive(self._session.actions())

    def workflows(self) -> list[NamedWorkflow]:
        """Return the named workflows of the server, by name."""
        return drive(self._session.workflows())

    def server_info(self) -> ServerInfo:
        """Return the server's version, limits and capabilities."""
        return drive(self._session.server_info())

    def server_stats(self) -> ServerStats:
        """Return what the server does now. As `AsyncClient.server_stats`."""
        return drive(self._session.server_stats())

    def parallel(
        self, actions: Sequence[ActionLike], input: JSON | Blob = None, *, timeout: Seconds | None = None
    ) -> list[Output]:
        """Run actions in parallel on the same input. As `AsyncClient.parallel`."""
        return drive(self._session.parallel(actions, input, timeout=timeout))

    def close(self) -> None:
        """Free the connection. Calls of other threads end."""
        drive(self._session.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ClientInProcess(Client):
    """A client of a server in this process."""

    def __init__(self, server: "LocalServer") -> None:
        self._connect(Connection(address=server.address))  # the environment is about other servers
        self._register = server.register
        self._session = Session(self._link, register=server.register)

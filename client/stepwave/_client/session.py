"""The calls of a client, written once for both clients, as coroutines over a transport.

`AsyncClient` inherits them. `Client` drives them over a transport that blocks instead of suspending, so that each
coroutine ends in one step.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Unpack

from stepwave._actions.failure import FailureReason
from stepwave._building.action_types import OpenRunOptions
from stepwave._building.failure_policies import reason_number
from stepwave._building.references import StepHandle
from stepwave._building.requests import Rerun, Startable, kind_number, set_run
from stepwave._building.workflow import ActionLike, Workflow
from stepwave._convert.collect import Collector
from stepwave._convert.results import (
    run_from_proto,
)
from stepwave._files import steps_of
from stepwave._model.results import Run, RunResult, State
from stepwave._transport.aio import LoopAffinity
from stepwave._transport.base import (
    ADD_STEPS,
    CANCEL,
    COMPLETE,
    DELETE,
    START,
)
from stepwave._transport.link import Link
from stepwave._values.payload import JSON, Blob, Output, to_payload
from stepwave._values.time import Seconds, to_duration, to_seconds
from stepwave.exceptions import ParallelFailed
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2

from .follow import Follower
from .functions import Register
from .open_runs import OpenRun, PlanBuilder
from .queries import Queries
from .runs import AttachedRun, WatchedRun, checked
from .streams import EventStream, RunHandle

__all__ = ["Session"]


class Session(Queries):
    """The calls of a client.

    Args:
        link: The link to the server.
        affinity: The event loop that the runs belong to; `None`: one that is never bound, for a blocking transport.
        register: Adds actions to the server, if it runs in this process; `None`: another process's server.
    """

    def __init__(self, link: Link, affinity: LoopAffinity | None = None, register: Register | None = None) -> None:
        super().__init__(link, register)
        self._affinity = affinity or LoopAffinity()

    @property
    def address(self) -> str:
        """The server's address."""
        return self._link.transport.address

    def run(
        self,
        workflow: Startable,
        input: JSON | Blob = None,
        *,
        run_id: str | None = None,
        timeout: Seconds | None = None,
        check: bool = True,
        open: bool = False,
    ) -> RunHandle:
        """Run a workflow. Await it for the result, or enter it to iterate over its events.

        The run starts when it is awaited or entered. Leaving before its end (by `break`, an exception, or the
        cancellation of the task) cancels it.

        Args:
            workflow: A `Workflow`, a message of the contract, the name of a workflow that the server has, or a `Rerun`
                of an earlier run.
            input: The run's input: a value that JSON can hold, or a `Blob`; none for a `Rerun`.
            run_id: The run's id; `None`: a new one. A run with this id and the same content is joined.
            timeout: The longest that the run may take, in seconds or as a `timedelta`; then it is cancelled, and
                `DeadlineExceeded` raised. `None`: no limit.
            check: Whether awaiting raises `RunFailed` or `RunCancelled` when the run ends so. After the handle's
                `cancel`, not `RunCancelled`.
            open: Whether steps may be added while the run lasts: by its actions (`Context.add_steps`), or by
                `add_steps`. It ends once it is sealed. `compose` is for a caller that adds steps itself.

        Raises:
            ValueError: JSON cannot hold the input, or there is one for a `Rerun`.
            InvalidWorkflow: The server runs in this process, and a function of the workflow cannot be an action there:
                another action has its name, for example. All other problems are raised by the handle.
        """
        hint = self._register_functions(workflow)
        request = pb.ExecuteWorkflowRequest(namespace=self._namespace, open=open)
        set_run(request, workflow, input, run_id)
        request.reconnect_window.CopyFrom(to_duration(self._link.settings.reconnect_window))
        seconds = None if timeout is None else to_seconds(timeout)
        run = AttachedRun(self._link, request, timeout=seconds, hint=hint)
        return RunHandle(run, self._affinity, check=check)

    async def start(
        self, workflow: Startable, input: JSON | Blob = None, *, run_id: str | None = None, open: bool = False
    ) -> Run:
        """Start a run that is not attached to this client: it continues when the client leaves. Arguments as for `run`.

        Raises:
            ValueError: JSON cannot hold the input, or there is one for a `Rerun`.
        """
        request = pb.StartRunRequest(namespace=self._namespace, open=open)
        set_run(request, workflow, input, run_id)
        with self._register_functions(workflow):
            return run_from_proto((await self._link.call(START, request)).run)

    def compose(
        self,
        name: str,
        input: JSON | Blob = None,
        *,
        run_id: str | None = None,
        idle_timeout: Seconds | None = None,
        check: bool = True,
        **options: Unpack[OpenRunOptions],
    ) -> OpenRun:
        """Run a plan while it is still written: an async context manager to which steps are added.

            async with client.compose("plan", {"city": "Oslo"}) as plan:
                plan.step("search", "web.search", {"query": plan.input["city"]})
            print(plan.result.outputs)

        The run starts when the block is entered. Leaving the block seals the run and waits for its end; an exception in
        it cancels the run.

        Args:
            name: The name of the workflow.
            input: The run's input: a value that JSON can hold, or a `Blob`.
            run_id: The run's id; `None`: a new one. A run with this id and the same content is joined, and its steps
                may be added again.
            idle_timeout: How long the run may wait for steps when all steps so far have ended, in seconds or as a
                `timedelta`; then it fails. `None`: the server's default.
            check: Whether leaving the block raises `RunFailed` or `RunCancelled` when the run ends so.
            options: Options of the workflow, as for `Workflow`: `failure_policy`, `max_parallelism`, `timeout`,
                `labels`, `outputs`, `retry`.

        Raises:
            ValueError: JSON cannot hold the input, or an option is not one of its named values.
        """
        builder = PlanBuilder(name, **options)
        request = pb.ExecuteWorkflowRequest(namespace=self._namespace, open=True)
        set_run(request, builder, input, run_id)
        request.reconnect_window.CopyFrom(to_duration(self._link.settings.reconnect_window))
        if idle_timeout is not None:
            request.idle_timeout.CopyFrom(to_duration(idle_timeout))
        return OpenRun(
            self._link, self._affinity, request, builder, check=check, register=self._register, watch=self.watch
        )

    async def add_steps(
        self, run_id: str, steps: Workflow | Iterable[Mapping[str, object]], *, seal: bool = False
    ) -> Run:
        """Add steps to an open run, and return its current state. Steps that it has already are no error.

        Args:
            run_id: The run.
            steps: The steps of a `Workflow`, or steps as mappings of the form that a workflow file has.
            seal: Whether these are the last ones.

        Raises:
            InvalidWorkflow: Steps cannot be added. Nothing has changed, and the run goes on.
            FailedPrecondition: The run takes no more steps.
            NotFound: There is no such run.
        """
        request = pb.AddStepsRequest(namespace=self._namespace, run_id=run_id, steps=steps_of(steps), seal=seal)
        with self._register_functions(steps if isinstance(steps, Workflow) else ""):
            return run_from_proto((await self._link.call(ADD_STEPS, request)).run)

    def rerun(
        self,
        run_id: str,
        *,
        from_failed: bool = False,
        new_run_id: str | None = None,
        timeout: Seconds | None = None,
        check: bool = True,
    ) -> RunHandle:
        """Run an earlier run's workflow again, on its input. Same as `run(Rerun(run_id))`; `start` takes a `Rerun` too.

        Args:
            run_id: The earlier run.
            from_failed: Whether to reuse the outputs of steps that succeeded, if those of all their dependencies are
                reused too, instead of running these steps again.
            new_run_id: The new run's id; `None`: a new one with the same beginning.
            timeout: As for `run`.
            check: As for `run`.

        Raises:
            NotFound: There is no such run. This and the next are raised when the handle is awaited or iterated over.
            FailedPrecondition: The earlier run has not ended.
        """
        return self.run(Rerun(run_id, from_failed), run_id=new_run_id, timeout=timeout, check=check)

    def watch(self, run_id: str, *, after: int = 0, kinds: Iterable[str] = (), attach: bool = False) -> EventStream:
        """Watch a run, as an async context manager that iterates over its events. Leaving does not affect the run.

        Args:
            run_id: The run, under way or ended.
            after: Only events after this number; 0: all.
            kinds: Only these kinds of events, such as `step_finished`, and always `run_finished`; empty: all.
            attach: Whether to keep the run attached while it is watched. An attached run is cancelled when the
                reconnect window has passed since its last attachment ended.

        Raises:
            ValueError: There is no such kind of event.
        """
        wanted = tuple(kinds)
        follower = self._follower(run_id, after=after, kinds=wanted, attach=attach)
        run = WatchedRun(follower, Collector(), kinds=wanted)
        return EventStream(run, self._affinity)

    async def wait(
        self,
        run_id: str,
        *,
        check: bool = True,
        timeout: Seconds | None = None,  # noqa: ASYNC109 - the server gets it as the call's deadline
    ) -> RunResult:
        """Wait for a run's end, and return its result. To stop waiting does not affect the run.

        A server that is lost meanwhile, even while the result is fetched, is retried during `reconnect_window`.

        Args:
            run_id: The run.
            check: Whether to raise `RunFailed` or `RunCancelled` if the run ends so.
            timeout: The longest to wait, in seconds or as a `timedelta`; then `DeadlineExceeded` is raised. `None`: no
                limit.
        """
        seconds = None if timeout is None else to_seconds(timeout)
        deadline = None if seconds is None else self._link.transport.now() + seconds
        # The first event comes at once, and shows that the server answers: a later loss lasts for `reconnect_window`.
        follower = self._follower(run_id, kinds=("run_started", "run_finished"), timeout=seconds)
        try:
            while await follower.read():
                pass
        finally:
            await follower.close()
        # The server may be restarting now: this call is retried as long as the stream was.
        result = await Queries(self._link.patient(deadline)).result(run_id)
        return checked(result) if check else result

    async def cancel(self, run_id: str, reason: str = "") -> Run:
        """Cancel a run, and return its current state: it may still be stopping. No effect on one that has ended."""
        request = pb.CancelRunRequest(namespace=self._namespace, run_id=run_id, reason=reason)
        return run_from_proto((await self._link.call(CANCEL, request)).run)

    async def complete_step(self, run_id: str, step: StepHandle | str, output: JSON | Blob = None) -> Run:
        """Answer a step of the action `core.wait`, such as an approval, and return the run's current state.

        The call may be sent again: the same answer has no further effect.

        Args:
            run_id: The run.
            step: The step, or its id; within another step the path to it, such as `pages[3]/approval`.
            output: The answer: a value that JSON can hold, or a `Blob`.

        Raises:
            ValueError: JSON cannot hold the output.
            NotFound: There is no such run or step.
            FailedPrecondition: The step does not wait: it has not started, has ended otherwise, or has another action.
            AlreadyExists: The step was completed with another outcome.
        """
        request = pb.CompleteStepRequest(output=to_payload(output))
        return await self._complete(request, run_id, step)

    async def fail_step(
        self,
        run_id: str,
        step: StepHandle | str,
        message: str,
        *,
        reason: FailureReason | str = FailureReason.ACTION_ERROR,
        retryable: bool = False,
    ) -> Run:
        """Fail a step of the action `core.wait`, such as a rejection, and return the run's current state.

        The call may be sent again: the same failure has no further effect.

        Args:
            run_id: The run.
            step: The step, as for `complete_step`.
            message: The failure, for a person.
            reason: The kind of failure.
            retryable: Whether the step's retry policy may make another attempt, which waits again.

        Raises:
            ValueError: There is no such reason.
            NotFound: As for `complete_step`. The others too.
        """
        failure = run_pb2.Failure(reason=reason_number(reason), message=message, retryable=retryable)
        return await self._complete(pb.CompleteStepRequest(failure=failure), run_id, step)

    async def _complete(self, request: pb.CompleteStepRequest, run_id: str, step: StepHandle | str) -> Run:
        request.namespace, request.run_id = self._namespace, run_id
        request.step_id = step if isinstance(step, str) else step.id
        return run_from_proto((await self._link.call(COMPLETE, request)).run)

    async def delete(self, run_id: str) -> None:
        """Delete a run.

        Raises:
            FailedPrecondition: The run has not ended.
        """
        await self._link.call(DELETE, pb.DeleteRunRequest(namespace=self._namespace, run_id=run_id))

    async def parallel(
        self,
        actions: Sequence[ActionLike],
        input: JSON | Blob = None,
        *,
        timeout: Seconds | None = None,  # noqa: ASYNC109 - the server gets it as the call's deadline
    ) -> list[Output]:
        """Run actions in parallel, each on the same input, and return their answers in the order of the arguments.

        Args:
            actions: Marked functions or classes, or names of actions; empty: the answer is `[]`.
            input: The input of each action.
            timeout: The longest that all actions together may take, in seconds or as a `timedelta`; then they are
                cancelled. `None`: no limit.

        Raises:
            ParallelFailed: An action failed; all others have ended. It names the lowest index that failed, and carries
                the other answers.
        """
        if not actions:
            return []
        # `continue`: which index is the lowest to fail must not depend on which fails first.
        workflow = Workflow("parallel", failure_policy="continue")
        for index, action in enumerate(actions):
            workflow.step(f"p{index}", action)
        return _answers(await self.run(workflow, input, timeout=timeout, check=False), len(actions))

    async def close(self) -> None:
        """Free the connection. Calls under way end; attached runs end when their reconnect window has passed."""
        await self._link.transport.close()

    def _follower(
        self,
        run_id: str,
        *,
        after: int = 0,
        kinds: Iterable[str] = (),
        attach: bool = False,
        timeout: float | None = None,
    ) -> Follower:
        request = pb.WatchRunRequest(
            namespace=self._namespace,
            run_id=run_id,
            after_sequence=after,
            attach=attach,
            kinds=[kind_number(kind) for kind in kinds],
        )
        return Follower(self._link, request, timeout=timeout)


def _answers(result: RunResult, count: int) -> list[Output]:
    if result.state is State.CANCELLED:
        checked(result)
    steps = [result.steps[f"p{index}"] for index in range(count)]
    answered = [step.state is State.SUCCEEDED for step in steps]
    answers = [step.output for step in steps]
    if not all(answered):
        raise ParallelFailed(result, answered.index(False), answers, answered)
    return answers

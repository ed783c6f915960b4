"""Changes of runs under way on this server: callers add steps, and complete steps that wait."""

from abc import abstractmethod
from functools import partial

from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import AddSteps, StepCompleted
from stepwave_server.core.planning import was_made
from stepwave_server.engine.checks import RunChecks
from stepwave_server.engine.errors import JournalUnavailable, NotAccepting, RunReplaced
from stepwave_server.engine.runs.completions import check_completion, check_ended, with_attempt
from stepwave_server.engine.runs.run import LocalRun

__all__ = ["RunChanges"]


class RunChanges(RunChecks[LocalRun]):
    """The calls that change runs under way on this server."""

    @abstractmethod
    def _turn(self) -> None:
        """Decide on the inputs so far, and commit."""

    async def add_steps(self, key: RunKey, addition: AddSteps) -> None:
        """Add steps to an open run. Return when they are committed. It is no error if the run has them already.

        Raises:
            StepsRefused: The steps cannot be added. Nothing has changed.
            RunNotOpen: The run takes no more steps.
            RunNotFound: The run does not exist.
            JournalUnavailable: The journal cannot commit.
            NotAccepting: The engine closes.
        """
        if self._commit_error:
            raise JournalUnavailable(self._commit_error)
        if await self._query(key, partial(self._add_steps, addition=addition)) is None:
            await self._require_made(key, addition)

    def _add_steps(self, run: LocalRun, addition: AddSteps) -> bool:
        """Add steps to a run under way. They are decided, and not committed, when this returns."""
        self._turn()  # decides the inputs before this one: the check below is then that of the decision
        if run.broken is not None:
            raise RunReplaced
        fresh = self._to_add(run, addition)
        if fresh is not None:
            run.feed(fresh)
            self._turn()
            if not was_made(run.state, fresh) or (fresh.seal and run.state.open):  # the run takes no inputs
                raise NotAccepting
        return True

    async def complete(self, key: RunKey, completion: StepCompleted) -> None:
        """Complete a step that waits. Return when that is committed. It is no error if it had this outcome before.

        Raises:
            RunNotFound: The run does not exist.
            StepNotFound: The run has no such step.
            StepNotWaiting: The step does not wait to be completed.
            StepCompletedBefore: The step has another outcome.
            JournalUnavailable: The journal cannot commit.
            NotAccepting: The engine closes.
        """
        self._turn()  # decides the inputs before this one, so that the checks below are those of the decision
        if self._commit_error:
            raise JournalUnavailable(self._commit_error)
        if await self._query(key, lambda run: self._complete(run, completion)) is None:
            finished = await self.finished_steps(key)
            check_ended(key, completion, next((end for end in finished if end.step_id == completion.step_id), None))

    def _complete(self, run: LocalRun, completion: StepCompleted) -> bool:
        """Complete a step of a run under way. That is decided, and not committed, when this returns."""
        if check_completion(run.key, run.state, completion, paused=run.paused):
            sequence = run.state.sequence
            run.feed(with_attempt(run.state, completion))
            self._turn()
            if run.state.sequence == sequence and run.broken is None:  # the run takes no inputs
                raise NotAccepting
        return True

"""`stepwave approve`: complete a step that waits for someone, with an answer or a rejection."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated

import typer

from stepwave._client.aio import AsyncClient
from stepwave._model.events import WaitCause
from stepwave._model.results import Run, State, StepResult
from stepwave._values.payload import JSON
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.output import print_message
from stepwave.cli.display.text import approve_command, one_line, plural
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import InsecureOption, RunArgument, ServerOption, parse_input
from stepwave.exceptions import AlreadyExists, FailedPrecondition

__all__ = ["approve"]

_MAX_INPUT = 200  # characters
_REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome to complete a step with.

    Attributes:
        output: The answer.
        rejection: The message of the failure; `None`: the step succeeds with the answer.
    """

    output: JSON
    rejection: str | None

    def is_of(self, step: StepResult) -> bool:
        """Return whether a step has ended with this outcome."""
        if self.rejection is None:
            return step.state is State.SUCCEEDED and step.output == self.output
        return step.state is State.FAILED and step.failure is not None and step.failure.message == self.rejection

    @property
    def verb(self) -> str:
        """The past form of the action, for messages."""
        return "approved" if self.rejection is None else "rejected"


def approve(
    run: RunArgument,
    step: Annotated[
        str | None,
        typer.Argument(
            metavar="[STEP]",
            help="The step, or the path to it, such as 'pages[3]/approval'. Default: the only one that waits.",
            show_default=False,
        ),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE",
            help="The answer, which is the step's output: JSON, or @ and the name of a file, or @- for standard input. "
            "Default: null.",
            show_default=False,
        ),
    ] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Fail the step instead.")] = False,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why it is rejected: the step's failure.", show_default=False)
    ] = None,
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Complete a step that waits for someone: a step of the action `core.wait`.

    Without STEP it completes the only step of the run that waits, and lists them if there are several. To complete a
    step again with the same answer has no effect.

    ```
    stepwave approve @last
    stepwave approve @last publish --input '{"title": "Fjords"}'
    stepwave approve @last publish --reject --reason 'too long'
    ```
    """
    if reject and input is not None:
        raise CommandError("--reject fails the step, --input is its answer: leave out one of them")
    if reason is not None and not reject:
        raise CommandError("--reason says why a step is rejected: add --reject")
    outcome = _Outcome(parse_input(input), (reason or _REJECTED) if reject else None)
    print_message(asyncio.run(_approve(Target(server, insecure), run, step, outcome)))


async def _approve(target: Target, prefix: str, step_id: str | None, outcome: _Outcome) -> str:
    """Complete a step, and return what happened."""
    async with target.open() as client:
        run = await client.get((await find_run(client, prefix)).run_id)
        if step_id is None:
            step_id = await _only_waiting(client, run)
        again = step_id not in _waiting_ids(run)[0] and await _has_outcome(client, run, step_id, outcome)
        await _complete(client, run, step_id, outcome)
    if again:
        return f"{step_id} of {run.run_id} was {outcome.verb} before, with the same outcome"
    return f"{outcome.verb} {step_id} of {run.run_id}"


def _waiting_ids(run: Run) -> tuple[list[str], int]:
    """Return the first steps that wait for someone, and the number of all."""
    groups = [group for group in run.waiting if group.cause is WaitCause.EXTERNAL]
    return [step_id for group in groups for step_id in group.step_ids], sum(group.step_count for group in groups)


async def _only_waiting(client: AsyncClient, run: Run) -> str:
    """Return the only step that waits for someone.

    Raises:
        CommandError: There is none, or there are several.
    """
    ids, count = _waiting_ids(run)
    if count == 1:
        return ids[0]
    if run.state.ended:
        raise CommandError(f"{run.run_id} has ended: {run.state}")
    if not count:
        raise CommandError(f"no step of {run.run_id} waits for someone; what they wait for: stepwave why {run.run_id}")
    explained = await client.explain(run.run_id)
    inputs = {step.step_id: one_line(step.message) for step in explained.steps if step.cause is WaitCause.EXTERNAL}
    raise CommandError("\n".join(_listed(run, ids, count, inputs)))


def _listed(run: Run, ids: Sequence[str], count: int, inputs: Mapping[str, str]) -> Iterator[str]:
    yield f"{plural(count, 'step')} of {run.run_id} wait for someone; name one of them:"
    for step_id in ids:
        yield f"  {approve_command(run.run_id, step_id)}"
        if inputs.get(step_id):
            yield f"      {inputs[step_id][:_MAX_INPUT]}"
    if count > len(ids):
        yield f"  and {count - len(ids):,} more"


async def _has_outcome(client: AsyncClient, run: Run, step_id: str, outcome: _Outcome) -> bool:
    """Return whether a step has ended with this outcome.

    Raises:
        CommandError: The run has no such step.
    """
    known = []
    async for step in client.steps(run.run_id):
        if step.step_id == step_id:
            return outcome.is_of(step)
        known.append(step.step_id)
    near = get_close_matches(step_id, known, 1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    raise CommandError(f'{run.run_id} has no step "{one_line(step_id)}"{hint}')


async def _complete(client: AsyncClient, run: Run, step_id: str, outcome: _Outcome) -> None:
    try:
        if outcome.rejection is None:
            await client.complete_step(run.run_id, step_id, outcome.output)
        else:
            await client.fail_step(run.run_id, step_id, outcome.rejection)
    except (AlreadyExists, FailedPrecondition) as error:
        raise CommandError(str(error)) from error

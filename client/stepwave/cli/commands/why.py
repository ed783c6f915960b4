"""`stepwave why`: what a run waits for, step by step, and the line where each action stands."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.text import Text

from stepwave._model.events import WaitCause
from stepwave._model.explanation import CodeLine, RunExplanation, StepExplanation
from stepwave._model.results import Run, State
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.output import print_json, print_text
from stepwave.cli.display.text import duration_text, missing_line, one_line, place_text, plural
from stepwave.cli.options import Format, FormatOption, InsecureOption, RunArgument, ServerOption

__all__ = ["why"]

_SHOWN = 40
_NAMED = 3
_LONGEST_NAME = 32
_CAUSES = {
    WaitCause.CONCURRENCY: "a place",
    WaitCause.RATE: "a rate limit",
    WaitCause.EXTERNAL: "an answer from outside",
}


def why(
    run: RunArgument, output: FormatOption = Format.TEXT, server: ServerOption = None, insecure: InsecureOption = False
) -> None:
    """Say why a run does not move: what each step does or waits for, since when, and at which line its action stands.

    For a run that has ended, `stepwave report` says where its time went.
    """
    explanation = asyncio.run(_ask(Target(server, insecure), run))
    if output is Format.JSON:
        print_json(explanation.to_dict())
        return
    for line in _lines(explanation):
        print_text(line)


async def _ask(target: Target, beginning: str) -> RunExplanation:
    async with target.open() as client:
        return await client.explain((await find_run(client, beginning)).run_id)


def _lines(explanation: RunExplanation) -> Iterator[Text]:
    run, now = explanation.run, explanation.time
    if run.state.ended:
        yield Text(_ended(run))
        return
    yield Text.assemble((run.run_id, "bold"), f"  {run.workflow_name}  ", _state(run, now))
    yield Text(f"not ended: {explanation.step_count:,} of {plural(run.counts.total, 'step')}")
    yield from (Text(note, style="yellow") for note in _notes(run))
    if explanation.steps:
        yield Text()
        yield from _steps(explanation)


def _ended(run: Run) -> str:
    spent = duration_text(run.end_time - run.start_time) if run.end_time and run.start_time else ""
    after = f" after {spent}" if spent else ""
    failed = f"; why: stepwave result {run.run_id}" if run.state is State.FAILED else ""
    return f"{run.run_id} has ended: {run.state}{after}{failed}; where its time went: stepwave report {run.run_id}"


def _state(run: Run, now: datetime) -> str:
    state = "stopping" if run.stopping else run.state
    return f"{state} {duration_text(now - run.start_time)}" if run.start_time else state


def _notes(run: Run) -> Iterator[str]:
    """Yield what keeps the whole run from moving."""
    if run.paused:
        yield "paused: its server leaves it alone, and one that is started with --recover resume goes on with it"
    if run.stopping:
        yield "stopping: nothing more starts, and what runs is interrupted"
    if run.missing_actions:
        yield missing_line(run.missing_actions)


def _steps(explanation: RunExplanation) -> Iterator[Text]:
    shown = explanation.steps[:_SHOWN]
    known = {step.step_id: step for step in explanation.steps}
    width = min(max(cell_len(step.step_id) for step in shown), _LONGEST_NAME)
    for step in shown:
        name = Text(one_line(step.step_id), style="bold" if step.running else "")
        name.truncate(width, overflow="ellipsis", pad=True)
        yield name.append("  ").append_text(_step(step, known, explanation.time))
    if (more := explanation.step_count - len(shown)) > 0:
        yield Text(f"and {plural(more, 'more step')}", style="dim")


def _step(step: StepExplanation, known: Mapping[str, StepExplanation], now: datetime) -> Text:
    message = f": {one_line(step.message)}" if step.message else ""
    if step.running:
        line = Text(f"running {_since(step, now)}, attempt {step.attempt}{message}", style="cyan")
        return line.append_text(_where(step.where)) if step.where else line
    if step.cause is not None:
        return Text(_waits(step, now), style="yellow")
    if step.waits_for:
        return Text(f"waits for {_named(step.waits_for, step.waits_for_count, known, now)}{message}")
    return Text(one_line(step.message) or "may start")


def _since(step: StepExplanation, now: datetime) -> str:
    return duration_text(now - step.since) if step.since else ""


def _where(where: CodeLine) -> Text:
    """Draw a line of code: its place, its function and itself."""
    place = Text(f"  {place_text(where.file, where.line)}", style="bold")
    function = where.function.rpartition(".")[2]  # of a method or an inner function, its own name says enough
    place.append(f" in {one_line(function)}", style="not bold")
    return place.append(f": {one_line(where.text)}", style="not bold") if where.text else place


def _waits(step: StepExplanation, now: datetime) -> str:
    """Say what a step waits for that is no step."""
    if step.cause is WaitCause.BACKOFF:
        left = f" for another {duration_text(step.until - now)}" if step.until and step.until > now else ""
        return f"pauses{left}, attempt {step.attempt} failed"
    waits = " ".join(filter(None, ("waits", _since(step, now))))
    if step.cause is WaitCause.ACTION_MISSING:
        return f"{waits} for a server with the action {one_line(step.action)}"
    message = f": {one_line(step.message)}" if step.message else ""
    return f"{waits} for {_CAUSES.get(step.cause or WaitCause.UNKNOWN, step.cause)}{message}"


def _named(ids: Sequence[str], count: int, known: Mapping[str, StepExplanation], now: datetime) -> str:
    """Name the first steps of some, and what each does."""
    names = []
    for step_id in ids[:_NAMED]:
        does = _briefly(known[step_id], now) if step_id in known else ""
        names.append(one_line(step_id) + (f" ({does})" if does else ""))
    more = [f"{count - len(names):,} more"] if count > len(names) else []
    return ", ".join([*names, *more])


def _briefly(step: StepExplanation, now: datetime) -> str:
    if step.running:
        return f"running {_since(step, now)}"
    if step.cause is WaitCause.BACKOFF:
        return "pauses"
    return f"waits for {_CAUSES.get(step.cause, 'its action')}" if step.cause is not None else ""

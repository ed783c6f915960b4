"""`stepwave why`: show what each step of a run does or waits for, and the line of code of each running action."""

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
from stepwave.cli.display.text import PAUSED_TEXT, duration_text, missing_line, one_line, place_text, plural
from stepwave.cli.options import Format, FormatOption, InsecureOption, RunArgument, ServerOption

__all__ = ["why"]

_MAX_STEPS = 40
_MAX_DEPENDENCIES = 3
_MAX_NAME_WIDTH = 32
_CAUSE_TEXTS = {
    WaitCause.CONCURRENCY: "a place",
    WaitCause.RATE: "a rate limit",
    WaitCause.EXTERNAL: "an answer from outside",
}


def why(
    run: RunArgument, output: FormatOption = Format.TEXT, server: ServerOption = None, insecure: InsecureOption = False
) -> None:
    """Show what each step of a run does or waits for, since when, and the line of code that its action has reached.

    For an ended run, use `stepwave report`: it shows where the time went.
    """
    explanation = asyncio.run(_fetch(Target(server, insecure), run))
    if output is Format.JSON:
        print_json(explanation.to_dict())
        return
    width = _name_width(explanation)
    for line in _lines(explanation):
        print_text(line, indent=width + 2)


async def _fetch(target: Target, prefix: str) -> RunExplanation:
    async with target.open() as client:
        return await client.explain((await find_run(client, prefix)).run_id)


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
    duration = duration_text(run.end_time - run.start_time) if run.end_time and run.start_time else ""
    after = f" after {duration}" if duration else ""
    failed = f"; why: stepwave result {run.run_id}" if run.state is State.FAILED else ""
    return f"{run.run_id} has ended: {run.state}{after}{failed}; where its time went: stepwave report {run.run_id}"


def _state(run: Run, now: datetime) -> str:
    state = "stopping" if run.stopping else run.state
    return f"{state} {duration_text(now - run.start_time)}" if run.start_time else state


def _notes(run: Run) -> Iterator[str]:
    """Yield the reasons why the whole run does not progress."""
    if run.paused:
        yield f"{PAUSED_TEXT}; a server started with --recover resume continues it"
    if run.stopping:
        yield "stopping: no more steps start, and running steps are interrupted"
    if run.missing_actions:
        yield missing_line(run.missing_actions)


def _name_width(explanation: RunExplanation) -> int:
    """Return the width of the column of step ids."""
    return min(max((cell_len(step.step_id) for step in explanation.steps[:_MAX_STEPS]), default=0), _MAX_NAME_WIDTH)


def _steps(explanation: RunExplanation) -> Iterator[Text]:
    shown = explanation.steps[:_MAX_STEPS]
    known = {step.step_id: step for step in explanation.steps}
    width = _name_width(explanation)
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
        return line.append_text(_code_line(step.where)) if step.where else line
    if step.cause is not None:
        return Text(_wait(step, now), style="yellow")
    if step.waits_for:
        return Text(f"waits for {_dependencies(step.waits_for, step.waits_for_count, known, now)}{message}")
    return Text(one_line(step.message) or "may start")


def _since(step: StepExplanation, now: datetime) -> str:
    return duration_text(now - step.since) if step.since else ""


def _code_line(where: CodeLine) -> Text:
    """Return the place of a line of code, its function and its text."""
    place = Text(f"  {place_text(where.file, where.line)}", style="bold")
    function = where.function.rpartition(".")[2]  # the last part: a method or an inner function has a qualified name
    place.append(f" in {one_line(function)}", style="not bold")
    return place.append(f": {one_line(where.text)}", style="not bold") if where.text else place


def _wait(step: StepExplanation, now: datetime) -> str:
    """Return what a step waits for, other than another step."""
    if step.cause is WaitCause.BACKOFF:
        left = f" for another {duration_text(step.until - now)}" if step.until and step.until > now else ""
        return f"pauses{left}, attempt {step.attempt} failed"
    waiting = " ".join(filter(None, ("waits", _since(step, now))))
    if step.cause is WaitCause.ACTION_MISSING:
        return f"{waiting} for a server with the action {one_line(step.action)}"
    message = f": {one_line(step.message)}" if step.message else ""
    return f"{waiting} for {_CAUSE_TEXTS.get(step.cause or WaitCause.UNKNOWN, step.cause)}{message}"


def _dependencies(ids: Sequence[str], count: int, known: Mapping[str, StepExplanation], now: datetime) -> str:
    """Return the first of the steps that a step waits for, with what each does, and the number of the others."""
    names = []
    for step_id in ids[:_MAX_DEPENDENCIES]:
        activity = _activity(known[step_id], now) if step_id in known else ""
        names.append(one_line(step_id) + (f" ({activity})" if activity else ""))
    more = [f"{count - len(names):,} more"] if count > len(names) else []
    return ", ".join([*names, *more])


def _activity(step: StepExplanation, now: datetime) -> str:
    if step.running:
        return f"running {_since(step, now)}"
    if step.cause is WaitCause.BACKOFF:
        return "pauses"
    return f"waits for {_CAUSE_TEXTS.get(step.cause, 'its action')}" if step.cause is not None else ""

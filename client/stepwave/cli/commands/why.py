"""`stepwave why`: show what each step of a run does or waits for, and the line of code of each running action."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice

from rich.cells import cell_len
from rich.text import Text

from stepwave._convert.paths import declared_id
from stepwave._model.events import WaitCause
from stepwave._model.explanation import CodeLine, RunExplanation, StepExplanation
from stepwave._model.results import Run, State
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.output import print_json, print_text
from stepwave.cli.display.text import (
    PAUSED_TEXT,
    approve_command,
    duration_text,
    missing_line,
    one_line,
    place_text,
    plural,
)
from stepwave.cli.options import Format, FormatOption, InsecureOption, RunArgument, ServerOption

__all__ = ["why"]

_MAX_STEPS = 40
_MAX_DEPENDENCIES = 3
_MAX_NAME_WIDTH = 32
_MAX_INPUT = 200  # characters
_MAX_RUNNING_ITEMS = 5  # of one list
_CAUSE_TEXTS = {
    WaitCause.CONCURRENCY: "a place",
    WaitCause.RATE: "a rate limit",
    WaitCause.EXTERNAL: "an answer",
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
    names = (_row_name(ids) for ids, _ in islice(_rows(explanation.steps), _MAX_STEPS))
    return min(max(map(cell_len, names), default=0), _MAX_NAME_WIDTH)


def _steps(explanation: RunExplanation) -> Iterator[Text]:
    known = {step.step_id: step for step in explanation.steps}
    width = _name_width(explanation)
    run_id, now = explanation.run.run_id, explanation.time
    rows = list(islice(_rows(explanation.steps), _MAX_STEPS))
    for ids, step in rows:
        name = Text(one_line(_row_name(ids)), style="bold" if step.running else "")
        name.truncate(width, overflow="ellipsis", pad=True)
        yield name.append("  ").append_text(_step(run_id, step, known, now))
    if (more := explanation.step_count - sum(len(ids) for ids, _ in rows)) > 0:
        yield Text(f"and {plural(more, 'more step')}", style="dim")


def _rows(steps: Sequence[StepExplanation]) -> Iterator[tuple[list[str], StepExplanation]]:
    """Yield steps with their ids. Of the children of a list, and of the steps within them, the first few have a row.

    Those that wait for the same have one row together.
    """
    rows: dict[tuple[str, object], tuple[list[str], StepExplanation]] = {}
    for place, step in enumerate(steps):
        alone = "[" not in step.step_id or step.cause is WaitCause.EXTERNAL
        key = ("", place) if alone else (declared_id(step.step_id), (step.running, step.cause, _waited(step)))
        rows.setdefault(key, ([], step))[0].append(step.step_id)
    for ids, step in rows.values():
        if step.running and len(ids) > 1:
            by_id = {one.step_id: one for one in steps if one.running}
            yield from (([step_id], by_id[step_id]) for step_id in ids[:_MAX_RUNNING_ITEMS])
            if rest := ids[_MAX_RUNNING_ITEMS:]:
                yield rest, by_id[rest[0]]
        else:
            yield ids, step


def _waited(step: StepExplanation) -> str:
    """Return what a step within a list waits for, so that those with the same share a row."""
    return ",".join(map(declared_id, step.waits_for)) or step.message


def _row_name(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]}, {len(ids) - 1:,} more"


def _step(run_id: str, step: StepExplanation, known: Mapping[str, StepExplanation], now: datetime) -> Text:
    message = f": {one_line(step.message)}" if step.message else ""
    if step.expanded:
        return Text(f"{one_line(step.message)}, running {_since(step, now)}", style="cyan")
    if step.running:
        line = Text(f"running {_since(step, now)}, attempt {step.attempt}{message}", style="cyan")
        return line.append_text(_code_line(step.where)) if step.where else line
    if step.cause is not None:
        return Text(_wait(run_id, step, now), style="yellow")
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


def _wait(run_id: str, step: StepExplanation, now: datetime) -> str:
    """Return what a step waits for, other than another step."""
    if step.cause is WaitCause.BACKOFF:
        left = f" for another {duration_text(step.until - now)}" if step.until and step.until > now else ""
        return f"pauses{left}, attempt {step.attempt} failed"
    waiting = " ".join(filter(None, ("waits", _since(step, now))))
    if step.cause is WaitCause.ACTION_MISSING:
        return f"{waiting} for a server with the action {one_line(step.action)}"
    message = f": {one_line(step.message)}" if step.message else ""
    if step.cause is WaitCause.EXTERNAL:
        return f"{waiting} for an answer: {approve_command(run_id, step.step_id)}{_input(step)}"
    return f"{waiting} for {_CAUSE_TEXTS.get(step.cause or WaitCause.UNKNOWN, step.cause)}{message}"


def _input(step: StepExplanation) -> str:
    """Return the input of a step that waits for someone: it is for this person."""
    text = one_line(step.message)
    return f"; its input: {text if len(text) <= _MAX_INPUT else text[:_MAX_INPUT] + '…'}" if text else ""


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

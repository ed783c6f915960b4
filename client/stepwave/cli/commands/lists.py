"""`stepwave runs`, `actions` and `workflows`: list what a server has."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, cast

import typer

from stepwave._building.requests import RunFilter
from stepwave._model.catalog import ActionInfo, NamedWorkflow
from stepwave._model.results import Run, State
from stepwave._values.payload import JSON
from stepwave.cli.connect import Target
from stepwave.cli.display.output import print_json, print_message, print_table
from stepwave.cli.display.text import counts_text, duration_text, limit_text, one_line, run_notes, run_state, time_text
from stepwave.cli.options import (
    ActionsOption,
    Format,
    FormatOption,
    InsecureOption,
    ServerOption,
    choice_metavar,
    choice_parser,
    parse_labels,
    parse_time,
)
from stepwave.cli.process.shutdown import run_with_actions

__all__ = ["actions", "runs", "workflows"]

_DIGEST_LENGTH = 12  # characters of a digest that are shown


class RunState(StrEnum):
    """The states that a run can have. A run that is stopping is also running."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


def runs(
    state: Annotated[
        list[RunState] | None,
        typer.Option(
            "--state",
            parser=choice_parser(RunState),
            metavar=choice_metavar(RunState),
            help="Only runs in this state. Repeatable.",
            show_default=False,
        ),
    ] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="NAME", help="Only runs of this workflow.", show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="Only runs with this label. Repeatable.", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only runs accepted at this time or later, such as 2h (ago) or 2026-01-31T09:00."
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only runs accepted before this time.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The largest number of runs to list.")] = 50,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    output: FormatOption = Format.TEXT,
) -> None:
    """List runs, newest first.

    ```
    stepwave runs --state failed --label team=weather --since 2h
    stepwave runs --workflow briefing --since 2026-01-31 --until 2026-02-01T12:00Z
    ```
    """
    now = datetime.now(UTC)
    run_filter = RunFilter(
        states={State.RUNNING if item is RunState.STOPPING else State(item.value) for item in state or ()},
        workflow=workflow,
        labels=parse_labels("--label", label),
        since=parse_time("--since", since, now),
        until=parse_time("--until", until, now),
    )
    found = asyncio.run(_runs(Target(server, insecure), run_filter, frozenset(state or ()), limit + 1))
    shown = found[:limit]
    if output is Format.JSON:
        print_json([run.to_dict() for run in shown])
        return
    _print_runs(shown)
    if len(found) > limit:
        print_message(f"there are more runs; list them with --limit {limit * 10}")


async def _runs(target: Target, run_filter: RunFilter, states: frozenset[RunState], limit: int) -> list[Run]:
    only_stopping = RunState.STOPPING in states and RunState.RUNNING not in states
    async with target.open() as client:
        found = client.runs(
            states=run_filter.states,
            workflow=run_filter.workflow,
            labels=run_filter.labels,
            since=run_filter.since,
            until=run_filter.until,
            limit=None if only_stopping else limit,
        )
        matching: list[Run] = []
        async for run in found:
            if not only_stopping or run.state is not State.RUNNING or run.stopping:
                matching.append(run)
            if len(matching) == limit:
                break
        return matching


def _print_runs(runs: Sequence[Run]) -> None:
    """Print a table of runs. It has a column of notes only if a run has a note."""
    headings: tuple[str, ...] = ("RUN", "WORKFLOW", "STATE", "STARTED", "TIME", "STEPS")
    notes = [", ".join(run_notes(run)) for run in runs]
    rows = [_run_row(run) for run in runs]
    if any(notes):
        headings = (*headings, "NOTE")
        rows = [(*row, note) for row, note in zip(rows, notes, strict=True)]
    print_table(headings, rows, right_aligned={4})


def _run_row(run: Run) -> tuple[str, ...]:
    duration = (run.end_time or datetime.now(UTC)) - run.start_time if run.start_time else None
    times = (time_text(run.start_time or run.create_time), duration_text(duration))
    return (run.run_id, run.workflow_name, run_state(run), *times, counts_text(run.counts))


def actions(
    modules: ActionsOption = None,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    output: FormatOption = Format.TEXT,
) -> None:
    """List the actions of the server, or of a module, with the server's limits and their current use."""
    found = run_with_actions(_actions(Target(server, insecure, tuple(modules or ()))))
    if output is Format.JSON:
        print_json([action.to_dict() for action in found])
        return
    headings: tuple[str, ...] = ("ACTION", "INPUT", "FROM", "DESCRIPTION")
    rows = [_action_row(action) for action in found]
    limits = ["; ".join(map(limit_text, action.limits)) for action in found]
    if any(limits):
        headings = (*headings, "LIMITS")
        rows = [(*row, limit) for row, limit in zip(rows, limits, strict=True)]
    print_table(headings, rows)


async def _actions(target: Target) -> list[ActionInfo]:
    async with target.open() as client:
        return await client.actions()


def _action_row(action: ActionInfo) -> tuple[str, ...]:
    return (action.name, _inputs(action.input_schema), action.source, one_line(action.description))


def workflows(
    server: ServerOption = None,
    insecure: InsecureOption = False,
    output: FormatOption = Format.TEXT,
) -> None:
    """List the named workflows of the server. `stepwave run NAME` runs one.

    INPUT has the keys of the input, optional keys with a `?`. The input of a workflow without a schema is not checked.
    """
    found = asyncio.run(_workflows(Target(server, insecure)))
    if output is Format.JSON:
        print_json([workflow.to_dict() for workflow in found])
        return
    print_table(("WORKFLOW", "STEPS", "INPUT", "DIGEST"), map(_workflow_row, found), right_aligned={1})


async def _workflows(target: Target) -> list[NamedWorkflow]:
    async with target.open() as client:
        return await client.workflows()


def _workflow_row(workflow: NamedWorkflow) -> tuple[str, ...]:
    inputs, digest = _inputs(workflow.input_schema), workflow.digest[:_DIGEST_LENGTH]
    return (workflow.name, f"{workflow.step_count:,}", inputs, digest)


def _inputs(schema: Mapping[str, JSON]) -> str:
    """Return the keys of an input by its schema, optional keys with a `?`; "anything" if the schema names none."""
    keys = schema.get("properties")
    if not isinstance(keys, Mapping):
        return "anything"
    required = cast("Sequence[str]", schema.get("required", ()))
    return ", ".join(key if key in required else f"{key}?" for key in keys) or "nothing"

"""`stepwave plan`: says how a workflow would run, and runs nothing."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import cast

from stepwave._model.catalog import InputRule, Plan, PlannedBinding, PlannedFallback, PlannedStep
from stepwave._values.json import parse_pointer
from stepwave._values.payload import JSON, Blob
from stepwave.cli.connect import Target
from stepwave.cli.display.output import columns, fit, print_json, print_line
from stepwave.cli.display.text import duration_text, plural, value_text
from stepwave.cli.options import (
    ActionsOption,
    Format,
    FormatOption,
    InsecureOption,
    LocalOption,
    ServerOption,
    WorkflowArgument,
)
from stepwave.cli.process.shutdown import run_with_actions
from stepwave.cli.source import Source, find_workflow

__all__ = ["plan"]

_SOURCES = {"input": "$input", "item": "$item", "secret": "$secret", "expression": "$cel"}


def plan(
    workflow: WorkflowArgument,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    actions: ActionsOption = None,
    local: LocalOption = False,
    output: FormatOption = Format.TEXT,
) -> None:
    """Check a workflow and explain it: its waves, what each step waits for and what it gets. Nothing runs."""
    source = find_workflow(workflow)
    target = Target(server, insecure, tuple(actions or ()), local, source.without_server("plan"))
    explained = run_with_actions(_ask(target, source))
    if output is Format.JSON:
        print_json(explained.to_dict())
        return
    for line in _lines(explained):
        print_line(fit(line))


async def _ask(target: Target, source: Source) -> Plan:
    async with target.open() as client:
        with source.located():
            return await client.plan(source.definition)


def _lines(plan: Plan) -> Iterator[str]:
    dependencies = "1 dependency" if plan.edge_count == 1 else f"{plan.edge_count:,} dependencies"
    waves = f"{plural(len(plan.wave_sizes), 'wave')}, width {plan.width:,}"
    yield f"{plan.workflow_name}: {plural(plan.step_count, 'step')}, {dependencies}, {waves}"
    rows = zip(columns([(step.step_id, step.action) for step in plan.steps]), plan.steps, strict=True)
    for wave, steps in groupby(rows, key=lambda row: row[1].wave):
        yield f"\nwave {wave}"
        for name, step in steps:
            yield from (f"  {line}" for line in _step_lines(name, step))
    yield f"\noutputs: {', '.join(plan.outputs)}"


def _step_lines(name: str, step: PlannedStep) -> Iterator[str]:
    yield name
    if step.depends_on:
        yield f"    after {', '.join(step.depends_on)}"
    yield f"    gets {_what_it_gets(step)}"
    if limits := ", ".join(_limits(step)):
        yield f"    {limits}"
    if step.fallback is not None:
        yield f"    falls back on {_stand_in(step.fallback)}"


def _what_it_gets(step: PlannedStep) -> str:
    match step.input_rule:
        case InputRule.RUN:
            return "the run's input"
        case InputRule.DEPENDENCIES:
            return "their outputs by id"
    return _filled_in(step.input, step.bindings)


def _limits(step: PlannedStep) -> Iterator[str]:
    """Say how often a step is tried, and what its attempts may take."""
    retry = step.retry if step.retry is not None and step.retry.max_attempts > 1 else None
    if retry is not None:
        pauses = duration_text(retry.initial_backoff)
        if retry.max_attempts > 2 and retry.max_backoff > retry.initial_backoff:
            pauses += f" to {duration_text(retry.max_backoff)}"
        yield f"at most {retry.max_attempts:,} attempts, {pauses} apart"
    if step.timeout is not None:
        yield f"each within {duration_text(step.timeout)}" if retry else f"within {duration_text(step.timeout)}"
    if step.total_timeout is not None:
        yield f"all within {duration_text(step.total_timeout)}"


def _stand_in(fallback: PlannedFallback) -> str:
    if not fallback.action:
        return value_text(fallback.value)
    if fallback.value is None and not fallback.bindings:
        return fallback.action
    return f"{fallback.action}, which gets {_filled_in(fallback.value, fallback.bindings)}"


def _filled_in(fixed: JSON | Blob, bindings: Iterable[PlannedBinding]) -> str:
    """Write an input as a workflow file does."""
    if isinstance(fixed, Blob):
        return value_text(fixed)
    value = cast("JSON", json.loads(json.dumps(fixed)))  # a copy, to be filled in
    for binding in bindings:
        value = _filled(value, parse_pointer(binding.target), _reference(binding))
    return value_text(value)


def _reference(binding: PlannedBinding) -> dict[str, JSON]:
    """Write a binding as a workflow file does."""
    if binding.source == "step":
        return {"$from": binding.step_id + binding.path}
    return {_SOURCES.get(binding.source, f"${binding.source}"): binding.path}


def _filled(value: JSON, path: list[str], reference: Mapping[str, JSON]) -> JSON:
    """Put a reference into a value, at the parts of a JSON Pointer."""
    if not path:
        return reference
    key = path[0]
    if isinstance(value, dict):
        value[key] = _filled(value.get(key), path[1:], reference)
    elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        value[int(key)] = _filled(value[int(key)], path[1:], reference)
    return value

"""`stepwave plan`: explain how a workflow would run, without running it."""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from itertools import groupby

from stepwave._model.catalog import InputRule, Plan, PlannedBinding, PlannedFallback, PlannedList, PlannedStep
from stepwave._values.json import parse_pointer
from stepwave._values.payload import JSON, Blob
from stepwave.cli.connect import Target
from stepwave.cli.display.output import columns, fit, print_json, print_line
from stepwave.cli.display.text import duration_text, one_line, plural, value_text
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

_REFERENCE_KEYS = {"step": "$from", "input": "$input", "item": "$item", "secret": "$secret", "expression": "$cel"}


def plan(
    workflow: WorkflowArgument,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    actions: ActionsOption = None,
    local: LocalOption = False,
    output: FormatOption = Format.TEXT,
) -> None:
    """Check a workflow and explain it: its waves, and each step's dependencies and input. Nothing runs."""
    source = find_workflow(workflow)
    target = Target(server, insecure, tuple(actions or ()), local, source.local_command("plan"))
    explanation = run_with_actions(_fetch(target, source))
    if output is Format.JSON:
        print_json(explanation.to_dict())
        return
    for line in _lines(explanation):
        print_line(fit(line))


async def _fetch(target: Target, source: Source) -> Plan:
    async with target.open() as client:
        with source.locate_errors():
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
        yield f"    after {_dependencies(step)}"
    if step.when:
        yield f"    when {one_line(step.when)}"
    if step.for_each is not None:
        yield f"    for each of {_list(step.for_each)}"
    if step.workflow_name:
        yield f"    runs the workflow {step.workflow_name}: {', '.join(step.workflow_steps)}"
    yield f"    gets {_input(step)}"
    if limits := ", ".join(_limits(step)):
        yield f"    {limits}"
    if step.fallback is not None:
        yield f"    falls back on {_fallback(step.fallback)}"


def _dependencies(step: PlannedStep) -> str:
    ids = ", ".join(step.depends_on)
    match step.join:
        case "any" if len(step.depends_on) > 1:
            return f"the first that succeeds of {ids}"
        case "all_done":
            return f"{ids}, whatever became of {'it' if len(step.depends_on) == 1 else 'them'}"
    return ids


def _list(items: PlannedList) -> str:
    """Return a list in the format of workflow files, and how many of its items run at once."""
    if items.source == "items":
        text = value_text(items.items)
    else:
        text = value_text(_reference(PlannedBinding("", items.source, items.step_id, items.path)))
    return f"{text}, at most {items.max_parallelism:,} at once" if items.max_parallelism else text


def _input(step: PlannedStep) -> str:
    match step.input_rule:
        case InputRule.ITEM:
            return "the item"
        case InputRule.RUN:
            return "the run's input"
        case InputRule.DEPENDENCIES:
            return "their outputs by id"
    return _input_text(step.input, step.bindings)


def _limits(step: PlannedStep) -> Iterator[str]:
    """Yield a step's limits: its number of attempts, their backoff and its timeouts."""
    retry = step.retry if step.retry is not None and step.retry.max_attempts > 1 else None
    if retry is not None:
        backoff = duration_text(retry.initial_backoff)
        if retry.max_attempts > 2 and retry.max_backoff > retry.initial_backoff:
            backoff += f" to {duration_text(retry.max_backoff)}"
        yield f"at most {retry.max_attempts:,} attempts, {backoff} apart"
    if step.timeout is not None:
        yield f"each within {duration_text(step.timeout)}" if retry else f"within {duration_text(step.timeout)}"
    if step.total_timeout is not None:
        yield f"all within {duration_text(step.total_timeout)}"


def _fallback(fallback: PlannedFallback) -> str:
    if not fallback.action:
        return value_text(fallback.value)
    if fallback.value is None and not fallback.bindings:
        return fallback.action
    return f"{fallback.action}, which gets {_input_text(fallback.value, fallback.bindings)}"


def _input_text(fixed: JSON | Blob, bindings: Iterable[PlannedBinding]) -> str:
    """Return an input in the format of workflow files."""
    if isinstance(fixed, Blob):
        return value_text(fixed)
    value = deepcopy(fixed)  # because the bindings are set in it
    for binding in bindings:
        value = _set(value, parse_pointer(binding.target), _reference(binding))
    return value_text(value)


def _reference(binding: PlannedBinding) -> dict[str, JSON]:
    """Return a binding in the format of workflow files."""
    key = _REFERENCE_KEYS.get(binding.source, f"${binding.source}")
    default = binding.default if not isinstance(binding.default, Blob) else value_text(binding.default)
    return {key: binding.step_id + binding.path, **({"default": default} if binding.has_default else {})}


def _set(value: JSON, path: list[str], reference: Mapping[str, JSON]) -> JSON:
    """Set a reference in a value, at the path of a JSON Pointer, and return the value."""
    if not path:
        return reference
    key = path[0]
    if isinstance(value, dict):
        value[key] = _set(value.get(key), path[1:], reference)
    elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        value[int(key)] = _set(value[int(key)], path[1:], reference)
    return value

"""The ids of steps within other steps are paths: `pages[3]` is a child, `pages[3]/fetch` a step of its workflow."""

import re
from collections.abc import Iterable, Iterator

from stepwave.v1 import workflow_pb2

__all__ = ["declared_id", "in_order", "name_in", "outer", "outermost"]

_INDEX = re.compile(r"\[(\d+)\]")


def outermost(step_id: str) -> str:
    """Return the id of the step of the run's own workflow that a step is within: for `pages[3]/fetch`, `pages`."""
    return step_id.partition("/")[0].partition("[")[0]


def outer(step_id: str) -> str:
    """Return the id of the step that a step is directly within: for `pages[3]/fetch`, `pages[3]`; empty: none."""
    if step_id.endswith("]"):
        return step_id[: step_id.rindex("[")]
    return step_id.rpartition("/")[0]


def name_in(step_id: str) -> str:
    """Return the last part of an id: for `pages[3]/fetch`, `fetch`; for `sub/pages[3]`, `pages[3]`."""
    return step_id.rpartition("/")[2]


def declared_id(step_id: str) -> str:
    """Return the path of a step without the items of lists: for `pages[3]/fetch`, `pages/fetch`."""
    return _INDEX.sub("", step_id) if "[" in step_id else step_id


def in_order(
    step_ids: Iterable[str], declared: Iterable[str], workflow: workflow_pb2.Workflow | None = None
) -> list[str]:
    """Return ids in declaration order: each step, then those within it, by item and then by declaration.

    Args:
        step_ids: The ids.
        declared: The ids of the run's own workflow, in declaration order.
        workflow: The workflow, for the order of the steps of nested workflows; `None`: unknown, and they come in the
            order of `step_ids`.
    """
    ranks: dict[str, int] = {}
    for name in (*declared, *(_names(workflow, "") if workflow is not None else ())):
        ranks.setdefault(name, len(ranks))
    keyed = [(_key(step_id, ranks), step_id) for step_id in step_ids]
    return [step_id for _, step_id in sorted(keyed)]


def _names(workflow: workflow_pb2.Workflow, before: str) -> Iterator[str]:
    """Yield the ids of a workflow's steps, and of those within them, without the indexes of items."""
    for step in workflow.steps:
        yield before + step.id
        if step.HasField("workflow"):
            yield from _names(step.workflow, f"{before}{step.id}/")


def _key(step_id: str, ranks: dict[str, int]) -> tuple[tuple[int, int], ...]:
    """Return a key by which steps sort. A name that is not known gets the next rank."""
    key: list[tuple[int, int]] = []
    name = ""
    for part in step_id.split("/"):
        name += _INDEX.sub("", part)
        index = _INDEX.search(part)
        key.append((ranks.setdefault(name, len(ranks)), int(index[1]) if index else -1))
        name += "/"
    return tuple(key)

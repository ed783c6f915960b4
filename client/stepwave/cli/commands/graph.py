"""`stepwave graph`: draw the graph of a workflow, or of what ran."""

import asyncio
import json
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stepwave._reports.export import RunExport
from stepwave._reports.graph import Graph, graph_of_plan, graph_of_run, graph_of_workflow, limited
from stepwave._reports.mermaid import MAX_EDGES, MAX_NODES, mermaid
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.graph_drawing import graph_lines
from stepwave.cli.display.output import output_width, print_line, print_text
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import InsecureOption, ServerOption, choice_metavar, choice_parser
from stepwave.cli.process.standard_streams import output_stream
from stepwave.cli.source import find_workflow
from stepwave.exceptions import InvalidExport, InvalidWorkflow, NotFound

__all__ = ["graph"]

_EXPORT_KEY = '"stepwave_export"'


class GraphFormat(StrEnum):
    """The format of a graph."""

    TEXT = "text"
    MERMAID = "mermaid"


def graph(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-|RUN|NAME",
            help="A workflow file, - for standard input, or a file of `stepwave export`; or a run's id, a unique "
            "prefix of it, or @last: the newest run; or the name of a workflow of the server.",
            show_default=False,
        ),
    ],
    output: Annotated[
        GraphFormat | None,
        typer.Option(
            "--output",
            parser=choice_parser(GraphFormat),
            metavar=choice_metavar(GraphFormat),
            help="A drawing, or the text of a Mermaid flowchart. Default: text on a terminal, else mermaid.",
            show_default=False,
        ),
    ] = None,
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Draw the graph of a workflow, or of what has run: steps, dependencies and states. Nothing runs.

    The items of a list are one node, with the number of items in each state. A file needs no server. The name of a
    workflow goes before the prefix of a run's id.

    ```
    stepwave graph flow.yaml
    stepwave graph @last
    stepwave graph briefing-7k3f9q2m --output mermaid > briefing.mmd
    ```
    """
    found = _read(target) or asyncio.run(_fetch(Target(server, insecure), target))
    if (output or _default()) is GraphFormat.MERMAID:
        print_line(mermaid(limited(found, nodes=MAX_NODES, edges=MAX_EDGES)).rstrip("\n"))
        return
    for line in graph_lines(found, output_width()):
        print_text(line)


def _default() -> GraphFormat:
    return GraphFormat.TEXT if output_stream().isatty() else GraphFormat.MERMAID


def _read(path: str) -> Graph | None:
    """Return the graph of a workflow file, or of an exported run; `None`: it is the name of something on the server.

    Raises:
        CommandError: The file cannot be read, or is neither; or a step depends on an unknown step or on itself.
    """
    if path.endswith(".json") and (exported := _load_export(path)) is not None:
        return _graph_of_run(exported)
    definition = find_workflow(path).definition
    if isinstance(definition, str):
        return None
    try:
        return graph_of_workflow(definition)
    except ValueError as error:
        raise CommandError(f"{path}: {error}") from error


def _load_export(path: str) -> RunExport | None:
    """Return an exported run; `None`: the file is no export, and may be a workflow.

    Raises:
        CommandError: The file is an export that cannot be read.
    """
    try:
        data = Path(path).read_bytes()
        if _EXPORT_KEY not in data.decode(json.detect_encoding(data), errors="replace"):
            return None
        return RunExport.load(path)
    except OSError:
        return None
    except InvalidExport as error:
        raise CommandError(str(error)) from error


async def _fetch(target: Target, name: str) -> Graph:
    """Return the graph of the run with an id, else of the workflow with a name, else of the run with a prefix."""
    async with target.open() as client:
        with suppress(NotFound, InvalidWorkflow):
            return _graph_of_run(await client.export(name))
        unknown = ""
        if not name.startswith("@"):
            try:
                return graph_of_plan(*await client._planned(name))  # noqa: SLF001 - the messages have all of a step
            except NotFound as error:
                unknown = f"\n{error}"
        try:
            run = await find_run(client, name)
        except CommandError as error:
            raise CommandError(f"{error}{unknown}") from error
        return _graph_of_run(await client.export(run.run_id))


def _graph_of_run(exported: RunExport) -> Graph:
    try:
        return graph_of_run(exported.definition, exported.events)
    except InvalidExport as error:
        raise CommandError(str(error)) from error

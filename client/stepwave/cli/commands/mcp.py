"""`stepwave mcp`: offer the workflows of a folder as tools of the Model Context Protocol."""

from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepwave._files import WorkflowFileError
from stepwave._files.folder import load_folder
from stepwave.cli.connect import Target
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import ActionsOption, InsecureOption, LocalOption, ServerOption
from stepwave.cli.process.shutdown import run_with_actions
from stepwave.cli.process.standard_streams import output_stream, reserve_stdin, reserve_stdout
from stepwave.cli.process.text_stream import read_texts

if TYPE_CHECKING:
    from stepwave._mcp.tools import WorkflowTool

__all__ = ["mcp"]


def mcp(
    folder: Annotated[
        Path,
        typer.Option("--workflows", metavar="FOLDER", help="The folder with the workflow files.", show_default=False),
    ],
    actions: ActionsOption = None,
    local: LocalOption = False,
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Offer the workflows of a folder as tools of the Model Context Protocol, on standard input and output."""
    _require_mcp_extra()
    target = Target(server, insecure, tuple(actions or ()), local)
    tools = _tools(folder)
    with reserve_stdout():
        run_with_actions(_serve(target, tools))


def _require_mcp_extra() -> None:
    try:
        import_module("mcp")
    except ModuleNotFoundError as error:
        raise CommandError("this command needs the mcp extra: pip install 'stepwave[cli,mcp]'") from error


def _tools(folder: Path) -> "list[WorkflowTool]":
    from stepwave._mcp.tools import WorkflowTool

    try:
        workflows, problems = load_folder(folder)
    except ValueError as error:
        raise CommandError(f"--workflows: {error}") from error
    tools = []
    for workflow in workflows:
        try:
            tools.append(WorkflowTool.of(workflow))
        except WorkflowFileError as error:
            problems.append(str(error))
    if problems:
        raise CommandError("\n".join(problems))
    return tools


async def _serve(target: Target, tools: "Sequence[WorkflowTool]") -> None:
    from stepwave._mcp.server import serve_tools

    lines = _lines(reserve_stdin())  # before modules of actions are imported
    async with target.open() as client:
        await serve_tools(tools, client, lines, output_stream())


async def _lines(stdin: int) -> AsyncIterator[str]:
    rest = ""
    async for text in read_texts("-", stdin=stdin):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield line

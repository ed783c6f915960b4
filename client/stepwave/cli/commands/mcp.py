"""`stepwave mcp`: offer the workflows of a folder as tools of the Model Context Protocol."""

from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from stepwave._client.aio import AsyncClient
from stepwave._files import WorkflowFileError
from stepwave._files.folder import load_folder
from stepwave._model.events import StepLog
from stepwave.cli.connect import Target
from stepwave.cli.display.output import print_message, stderr_console
from stepwave.cli.display.text import log_text, plural
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import ActionsOption, InsecureOption, LocalOption, ServerOption
from stepwave.cli.process.shutdown import SIGNALLED, run_with_actions, until_signal
from stepwave.cli.process.standard_streams import reserve_stdin, reserve_stdout
from stepwave.cli.process.text_stream import read_texts, write_text
from stepwave.exceptions import InvalidWorkflow, ServerUnavailable, Unsupported

if TYPE_CHECKING:
    from stepwave._mcp.tools import WorkflowTool

__all__ = ["check_tools", "mcp", "read_tools"]

_CONNECT_TIMEOUT = 3.0  # seconds: gRPC tries a server that was gone again within 2.4 s, and this process lives long


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
    """Offer the workflows of a folder as tools to agents, by the Model Context Protocol (MCP).

    An agent's client starts this command, and speaks with it on standard input and output. Each workflow file is a tool
    with the workflow's name and input schema. Its description is the workflow's label `description`, or that of the
    schema.

    A call runs the workflow. It reports each step that ends, and what steps report themselves, as progress, and answers
    with the run's outputs. If the client cancels a call, the run is cancelled. When standard input closes, or at Ctrl-C
    or SIGTERM, all runs are cancelled, and the command ends within seconds; at a second signal it ends at once. What
    actions log or print goes to standard error. Exit codes: 0 the client has closed standard input, 2 a file or an
    option is invalid, 130 and 143 after a signal.

    ```
    stepwave mcp --workflows flows/ --server 127.0.0.1:50051
    stepwave mcp --workflows flows/ --actions tools
    ```
    """
    _require_mcp_extra()
    target = Target(server, insecure, tuple(actions or ()), local, workflows=folder, connect_timeout=_CONNECT_TIMEOUT)
    tools = read_tools(folder)
    stdin = reserve_stdin()  # before modules of actions are imported
    with reserve_stdout():
        _, signal = run_with_actions(until_signal(_serve(target, tools, stdin)))
    raise typer.Exit(SIGNALLED + signal if signal else 0)


def _require_mcp_extra() -> None:
    """Check that the package of the protocol is installed.

    Raises:
        CommandError: It is not.
    """
    try:
        import_module("stepwave._mcp.server")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stepwave"):
            raise
        raise CommandError("the Model Context Protocol needs the mcp extra: pip install 'stepwave[cli,mcp]'") from error


def read_tools(folder: Path) -> "list[WorkflowTool]":
    """Return the tools of a folder's workflow files.

    Raises:
        CommandError: A file is no workflow, or can be no tool. All problems are listed.
    """
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
        fixed = "this problem is" if len(problems) == 1 else "these problems are"
        raise CommandError("\n".join([*problems, f"actions and dependencies are checked once {fixed} fixed"]))
    if not tools:
        raise CommandError(f"--workflows: no workflow file (.yaml, .yml or .json) in {folder}")
    return tools


async def _serve(target: Target, tools: "Sequence[WorkflowTool]", stdin: int) -> None:
    from stepwave._mcp.server import serve_tools

    async with target.open() as client:
        await check_tools(client, tools)
        names = ", ".join(tool.tool.name for tool in tools)
        print_message(f"{plural(len(tools), 'tool')} for an MCP client on standard input and output: {names}")
        await serve_tools(tools, client, _lines(stdin), write_text, _show_log, print_message)


async def check_tools(client: AsyncClient, tools: "Sequence[WorkflowTool]") -> None:
    """Check that the server accepts the workflows, if it answers. Otherwise they are checked when they are called.

    Raises:
        CommandError: It does not accept all of them. All problems are listed, each with its place.
    """
    problems, hints = [], []
    try:
        for tool in tools:
            try:
                await client.plan(tool.workflow.message)
            except (InvalidWorkflow, Unsupported) as error:
                problems.append(str(tool.workflow.locate(error.violations)) if error.violations else str(error))
                hints += [error.hint] if isinstance(error, InvalidWorkflow) and error.hint else []
    except ServerUnavailable as error:
        print_message(f"{error}; calls fail until it answers")
    if problems:
        raise CommandError("\n".join([*problems, *dict.fromkeys(hints)]))


async def _lines(stdin: int) -> AsyncIterator[str]:
    """Yield the lines of standard input, each as soon as it is complete. An error ends it, and is reported."""
    parts: list[str] = []
    try:
        async for text in read_texts("-", stdin=stdin, errors="replace"):
            *lines, rest = text.split("\n")
            for line in lines:
                yield "".join([*parts, line])
                parts.clear()
            parts.append(rest)
    except CommandError as error:
        print_message(str(error))
    yield "".join(parts)


def _show_log(event: StepLog) -> None:
    stderr_console().print(Text(f"{event.run_id}  ").append_text(log_text(event)), soft_wrap=True)

"""A server of the Model Context Protocol whose tools run workflows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any, TypeAlias

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError

from stepwave._client.aio import AsyncClient
from stepwave._model.events import StepLog
from stepwave.exceptions import StepwaveError

from .answers import answer_of, error_answer, failed_answer
from .lines import LineConnection
from .progress import Progress
from .tools import WorkflowTool

__all__ = ["serve_tools"]

_Context: TypeAlias = ServerRequestContext[dict[str, Any], Any]


async def serve_tools(
    tools: Iterable[WorkflowTool],
    client: AsyncClient,
    lines: AsyncIterator[str],
    write: Callable[[str], Awaitable[None]],
    show_log: Callable[[StepLog], None],
    report: Callable[[str], None],
) -> None:
    """Serve workflows as tools until the input ends. Then, and on cancellation, the runs under way are cancelled.

    It ends some seconds later, whether the client reads its answers or not.

    Args:
        tools: The tools.
        client: The client of the server that runs the workflows.
        lines: The lines of the protocol's input.
        write: Writes a line of the protocol's output. Its cancellation must not wait for the client.
        show_log: Shows what actions log.
        report: Shows a problem of the protocol.

    Raises:
        Exception: What `write` has raised. After a `BrokenPipeError` it ends as at the end of the input.
    """
    calls = _Calls({tool.tool.name: tool for tool in tools}, client, show_log)
    server = Server(
        "stepwave", version=version("stepwave"), on_list_tools=calls.list_tools, on_call_tool=calls.call_tool
    )
    try:
        await LineConnection(lines, write, report, at_end=calls.cancel).serve(server)
    except BrokenPipeError:  # the client is gone
        pass
    finally:
        await calls.close()


class _Calls:
    """The calls of tools. Each has a run, in a task of its own.

    The protocol's library cancels the task of a call again and again until it ends. The run's task is cancelled once,
    so that it can await the cancellation of the run.
    """

    def __init__(
        self, tools: Mapping[str, WorkflowTool], client: AsyncClient, show_log: Callable[[StepLog], None]
    ) -> None:
        self._tools = tools
        self._client = client
        self._show_log = show_log
        self._runs: set[asyncio.Task[types.CallToolResult]] = set()
        self._ended = False

    async def list_tools(self, _context: _Context, _params: object) -> types.ListToolsResult:
        """Return all tools."""
        return types.ListToolsResult(tools=[tool.tool for tool in self._tools.values()])

    async def call_tool(self, context: _Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        """Run a workflow, and return its outputs. If the call is cancelled, so is the run."""
        tool = self._tools.get(params.name)
        if tool is None:
            raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {params.name}")
        if self._ended:
            raise _closed()
        run = asyncio.create_task(self._run(tool, params.arguments or {}, context))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)
        try:
            return await asyncio.shield(run)
        except asyncio.CancelledError:
            if run.cancelled():
                raise _closed() from None
            raise
        finally:
            run.cancel()

    async def _run(self, tool: WorkflowTool, arguments: dict[str, Any], context: _Context) -> types.CallToolResult:
        message = tool.workflow.message
        progress = Progress(message)
        try:
            async with self._client.run(message, arguments, check=False) as run:
                async for event in run:
                    if isinstance(event, StepLog):
                        self._show_log(event)
                    elif text := progress.count(event):
                        await context.session.report_progress(progress.value, progress.known, text)
            return answer_of(run.result, tool.only_output)
        except StepwaveError as error:
            return error_answer(error, tool.workflow)
        except ValueError as error:  # JSON cannot hold the arguments
            return failed_answer(str(error))

    def cancel(self) -> None:
        """Cancel the runs under way, and those of calls that have not begun."""
        self._ended = True
        for run in self._runs:
            if not run.cancelling():
                run.cancel()

    async def close(self) -> None:
        """Cancel the runs under way, and wait for that."""
        self.cancel()
        if self._runs:
            await asyncio.wait(self._runs)


def _closed() -> MCPError:
    return MCPError(code=types.CONNECTION_CLOSED, message="Connection closed")

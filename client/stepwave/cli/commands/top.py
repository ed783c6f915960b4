"""`stepwave top`: show what a server does now, live or once."""

import asyncio
from typing import Annotated

import typer

from stepwave._client.aio import AsyncClient
from stepwave._model.catalog import ServerInfo, ServerStats
from stepwave._transport.channel import resolve_address
from stepwave.cli.connect import Target
from stepwave.cli.display.drawing import Drawing
from stepwave.cli.display.output import has_live_terminal, output_width, print_json, print_text, stderr_console
from stepwave.cli.display.server_frames import server_frame
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import Format, FormatOption, InsecureOption, ServerOption, parse_seconds
from stepwave.cli.process.shutdown import until_interrupted
from stepwave.cli.process.standard_streams import output_stream
from stepwave.exceptions import ServerUnavailable

__all__ = ["top"]

_DEFAULT_INTERVAL = "1s"


def top(
    once: Annotated[bool, typer.Option("--once", help="Show one picture, and exit.")] = False,
    interval: Annotated[
        str, typer.Option(metavar="DURATION", help="The time between two pictures.")
    ] = _DEFAULT_INTERVAL,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    output: FormatOption = Format.TEXT,
) -> None:
    """Show what a server does now: runs, attempts by action, queues, limits, commits and streams. Ctrl-C ends it.

    Without a terminal, or with --once, it is one picture on standard output. With `--output json`, it is a line of JSON
    for each picture, or one object with --once. On Temporal, it is what this server does, not the cluster.

    ```
    stepwave top
    stepwave top --once --output json
    ```
    """
    seconds = parse_seconds("--interval", interval)
    if not seconds:
        raise CommandError("--interval must be longer than 0s")
    target = Target(server, insecure)
    if output is Format.JSON:
        asyncio.run(_print_stats(target, None if once else seconds))
    elif once or not has_live_terminal():
        asyncio.run(_print_picture(target))
    else:
        asyncio.run(_show(target, seconds))


async def _print_stats(target: Target, seconds: float | None) -> None:
    """Print stats as lines of JSON, every `seconds`; `None`: once, indented."""
    async with target.open() as client:
        if seconds is None:
            print_json((await client.server_stats()).to_dict())
        else:
            await until_interrupted(_repeat_stats(client, seconds), output_stream().flush)


async def _repeat_stats(client: AsyncClient, seconds: float) -> None:
    while True:
        print_json((await client.server_stats()).to_dict(), pretty=False)
        await asyncio.sleep(seconds)


async def _print_picture(target: Target) -> None:
    async with target.open() as client:
        info, stats = await client.server_info(), await client.server_stats()
    for line in server_frame(info, stats, None, address=_address(target), width=output_width()):
        print_text(line)


async def _show(target: Target, seconds: float) -> None:
    """Show the server live on standard error, until an interrupt."""
    async with target.open() as client:
        live = _Live(client, _address(target))
        try:
            await until_interrupted(live.repeat(seconds), live.close)
        finally:
            live.close()


def _address(target: Target) -> str:
    return resolve_address(target.server)


class _Live:
    """Draws a server in place. While it is gone, the last picture stays, with a line that says so."""

    def __init__(self, client: AsyncClient, address: str) -> None:
        self._client = client
        self._address = address
        self._console = stderr_console()
        self._drawing = Drawing(self._console)
        self._info: ServerInfo | None = None
        self._stats: ServerStats | None = None

    async def repeat(self, seconds: float) -> None:
        """Draw every `seconds`."""
        while True:
            await self._draw()
            await asyncio.sleep(seconds)

    async def _draw(self) -> None:
        try:
            info, stats = await self._client.server_info(), await self._client.server_stats()
        except ServerUnavailable as error:
            if self._info is None:
                raise
            self._console.print(f"the server is gone: {error}", style="yellow", soft_wrap=True)
            return
        before, self._info, self._stats = self._stats, info, stats
        width, height = self._console.size
        self._drawing.start()
        self._drawing.draw(server_frame(info, stats, before, address=self._address, width=width, height=height - 1))

    def close(self) -> None:
        """Leave the last picture on the screen."""
        if self._drawing.is_started:
            self._drawing.stop()

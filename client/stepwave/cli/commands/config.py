"""`stepwave config`: show every setting of a server, its value, and where the value is from."""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.cells import cell_len

from stepwave._values.payload import JSON
from stepwave.cli.display.output import output_width, print_json, print_line, print_message
from stepwave.cli.display.text import one_line
from stepwave.cli.options import Format, FormatOption
from stepwave.cli.process.standard_streams import output_stream
from stepwave.cli.server import ConfigOption, require_server_extra
from stepwave.cli.settings import find_serve_settings, require_valid, unused_settings

from .serve_options import with_serve_options

if TYPE_CHECKING:
    from stepwave_server.config_report import SettingReport

__all__ = ["config"]

_MAX_VALUE_WIDTH = 24  # of the column of values; a longer value takes the place of the next column


@with_serve_options
def config(options: Mapping[str, object], config: ConfigOption = None, output: FormatOption = Format.TEXT) -> None:
    """Show every setting that `stepwave serve` would have with the same options, and where its value is from.

    Options win over environment variables, and those over the file (--config). No file is read unless it is named.
    Settings that are not at their default are marked with *. Secrets and the passwords of URLs are masked.

    ```
    stepwave config --config stepwave.toml
    stepwave config --config stepwave.toml --max-runs 50 --output json
    ```
    """
    require_server_extra()
    from stepwave_server.config_report import report_settings

    loaded = require_valid(*find_serve_settings(options, config))
    for warning in loaded.warnings:
        print_message(f"warning: {warning}")
    unused = unused_settings(loaded.settings)
    reports = report_settings(loaded)
    if output is Format.JSON:
        print_json({report.name: _to_json(report, unused) for report in reports})
        return
    for line in _lines(reports, unused):
        print_line(line)


def _to_json(report: "SettingReport", unused: Mapping[str, str]) -> Mapping[str, JSON]:
    origin = report.origin
    return {
        "value": report.value,
        "source": "default" if origin is None else str(origin.source),
        "from": None if origin is None else origin.name,
        "used": report.name not in unused,
    }


def _lines(reports: Sequence["SettingReport"], unused: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of all groups, with the name of the table that each may be in, in a file."""
    for group, members in groupby(reports, key=lambda report: report.group):
        if group:
            yield ""
            yield f"[{group}]"
        yield from _rows([_cells(report, unused) for report in members])


def _cells(report: "SettingReport", unused: Mapping[str, str]) -> tuple[str, str, str]:
    mark = "  " if report.origin is None else "* "
    origin = "default" if report.origin is None else report.origin.name
    note = ", not used" if report.name in unused else ""
    return f"{mark}{report.name}", one_line(report.text), f"{one_line(origin)}{note}"


def _rows(rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yield aligned rows. In a terminal or `COLUMNS`, an origin that does not fit is on a line of its own."""
    width = output_width() if output_stream().isatty() or os.environ.get("COLUMNS") else None
    name_width = max(cell_len(name) for name, _, _ in rows)
    value_width = min(max(cell_len(value) for _, value, _ in rows), _MAX_VALUE_WIDTH)
    for name, value, origin in rows:
        start = f"{_padded(name, name_width)}  {value}"
        line = f"{_padded(start, name_width + 2 + value_width)}  {origin}"
        if width is None or cell_len(line) <= width:
            yield line
        else:
            yield start
            yield f"      {origin}"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))

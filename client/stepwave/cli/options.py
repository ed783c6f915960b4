"""Options that several commands share, and how their words become values."""

import json
import re
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar, cast

import typer

from stepwave._files._contract import parse_duration
from stepwave._values.json import parse_json_text
from stepwave._values.payload import JSON

from .display.displays import OutputMode
from .exit_codes import CommandError

__all__ = [
    "ActionsOption",
    "Format",
    "FormatOption",
    "InsecureOption",
    "LocalOption",
    "OutputOption",
    "RunArgument",
    "ServerOption",
    "VerboseOption",
    "WorkflowArgument",
    "choices_of",
    "parse_input",
    "parse_labels",
    "parse_moment",
    "parse_seconds",
    "parser_of",
]

Choice = TypeVar("Choice", bound=StrEnum)


_DAYS = re.compile(r"([0-9]{1,7}(?:\.[0-9]+)?)d", re.ASCII)


class Format(StrEnum):
    """How an answer is written."""

    TEXT = "text"
    JSON = "json"


def choices_of(kind: type[StrEnum]) -> str:
    """Return how a choice is shown in the help."""
    return f"<{'|'.join(kind)}>"


def parser_of(kind: type[Choice]) -> Callable[[str], Choice]:
    """Return what reads a choice; Typer's own parser says of a wrong one how it was found out."""

    def parse(word: str) -> Choice:
        try:
            return kind(word)
        except ValueError:
            known = ", ".join(map(repr, map(str, kind)))
            raise typer.BadParameter(f"{word!r} is not one of {known}.") from None

    return parse


WorkflowArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME", help="A workflow file, or the name of a workflow that the server has.", show_default=False
    ),
]
ServerOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="ADDR",
        help="The server, as HOST:PORT or unix:PATH. Default: $STEPWAVE_SERVER, else 127.0.0.1:50051.",
        show_default=False,
    ),
]
InsecureOption: TypeAlias = Annotated[
    bool, typer.Option("--insecure", help="Send plain text to another machine.", show_default=False)
]
ActionsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--actions",
        metavar="MODULE",
        help="Need no server: run in this process, with the actions of this module. Repeatable.",
        show_default=False,
    ),
]
LocalOption: TypeAlias = Annotated[
    bool,
    typer.Option("--local", help="Need no server: run in this process, with built-in and installed actions alone."),
]
RunArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, or a beginning that only it has.", show_default=False)
]
FormatOption: TypeAlias = Annotated[
    Format,
    typer.Option(
        "--output", parser=parser_of(Format), metavar=choices_of(Format), help="For people, or JSON for programs."
    ),
]
OutputOption: TypeAlias = Annotated[
    OutputMode | None,
    typer.Option(
        "--output",
        parser=parser_of(OutputMode),
        metavar=choices_of(OutputMode),
        help="A live view, a line for each event, events as JSON lines, or the outputs alone. "
        "Default: live on a terminal, else text.",
        show_default=False,
    ),
]
VerboseOption: TypeAlias = Annotated[bool, typer.Option("--verbose", "-v", help="Show the tracebacks of failures.")]


def parse_input(text: str | None) -> JSON:
    """Read the run's input: JSON, `@FILE`, or `@-` for standard input; nothing is `null`.

    Raises:
        CommandError: It is not JSON, or the file cannot be read.
    """
    if text is None:
        return None
    try:
        return cast("JSON", parse_json_text(_contents(text[1:]) if text.startswith("@") else text))
    except OSError as error:
        raise CommandError(f"--input: cannot read {text[1:]}: {error.strerror}") from error
    except ValueError as error:
        remedy = f"; for the file's contents write @{text}" if _is_file(text) else ""
        raise CommandError(f"--input: {error}{remedy}") from error


def _contents(file: str) -> str:
    """Return the text of a file, or of standard input: UTF-8, or UTF-16 and UTF-32 as a byte order mark says."""
    if file != "-":
        data = Path(file).read_bytes()
    elif (binary := getattr(sys.stdin, "buffer", None)) is not None:
        data = binary.read()
    else:
        return sys.stdin.read()
    return data.decode(json.detect_encoding(data))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # no path at all, as long JSON is
        return False


def parse_labels(option: str, texts: list[str] | None) -> dict[str, str]:
    """Read labels such as `team=weather`.

    Raises:
        CommandError: One is not such a pair.
    """
    labels = {}
    for text in texts or ():
        key, sign, value = text.partition("=")
        if not (key and sign):
            raise CommandError(f'{option}: "{text}" is not a label such as team=weather')
        labels[key] = value
    return labels


def parse_moment(option: str, text: str | None, now: datetime) -> datetime | None:
    """Read a point in time: a duration such as `2h` or `7d` before now, or an ISO time, local if it names no zone.

    Raises:
        CommandError: It is neither.
    """
    if text is None:
        return None
    try:
        return now - timedelta(seconds=_seconds(text))
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        wanted = "a duration such as 2h or 7d, nor a time such as 2026-01-31T09:00"
        raise CommandError(f'{option}: "{text}" is neither {wanted}') from error


def parse_seconds(option: str, text: str | None) -> float | None:
    """Read a duration such as `90s`, `2m` or `7d`; a bare number is seconds.

    Raises:
        CommandError: It is not one.
    """
    if text is None:
        return None
    try:
        return _seconds(f"{text}s" if text.replace(".", "", 1).isdecimal() else text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from error


def _seconds(text: str) -> float:
    """Read a duration as workflow files have them, or days, which are too long for a workflow and not for a list."""
    if days := _DAYS.fullmatch(text):
        return float(days[1]) * 24 * 3600
    duration = parse_duration(text)
    return duration.seconds + duration.nanos / 1e9

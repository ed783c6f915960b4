"""Options that several commands share, and the parsing of their values."""

import json
import re
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
from .process.log_formats import LogFormat
from .process.standard_streams import read_stdin

__all__ = [
    "ActionsOption",
    "FollowOption",
    "Format",
    "FormatOption",
    "InsecureOption",
    "LocalOption",
    "LogFormatOption",
    "OutputOption",
    "RawOption",
    "RunArgument",
    "ServerOption",
    "VerboseOption",
    "WorkflowArgument",
    "choice_metavar",
    "choice_parser",
    "parse_input",
    "parse_labels",
    "parse_seconds",
    "parse_time",
]

Choice = TypeVar("Choice", bound=StrEnum)


_DAYS = re.compile(r"([0-9]{1,7}(?:\.[0-9]+)?)d", re.ASCII)


class Format(StrEnum):
    """The format of a command's output."""

    TEXT = "text"
    JSON = "json"


def choice_metavar(kind: type[StrEnum]) -> str:
    """Return the choices as the help shows them."""
    return f"<{'|'.join(kind)}>"


def choice_parser(kind: type[Choice]) -> Callable[[str], Choice]:
    """Return a parser of a choice. Its error lists the choices; that of Typer would name the parser too."""

    def parse(text: str) -> Choice:
        try:
            return kind(text)
        except ValueError:
            choices = ", ".join(map(repr, map(str, kind)))
            raise typer.BadParameter(f"{text!r} is not one of {choices}.") from None

    return parse


LogFormatOption: TypeAlias = Annotated[
    LogFormat | None,
    typer.Option(
        parser=choice_parser(LogFormat),
        metavar=choice_metavar(LogFormat),
        help="How log messages are written: as text, or as a line of JSON each. Default: console.",
        show_default=False,
    ),
]
WorkflowArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="FILE|-|NAME",
        help="A workflow file, - for standard input, or the name of a workflow of the server.",
        show_default=False,
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
    bool, typer.Option("--insecure", help="Allow an unencrypted connection to another machine.", show_default=False)
]
ActionsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--actions",
        metavar="MODULE",
        help="Run in this process, without a server, with the actions of this module. Repeatable.",
        show_default=False,
    ),
]
LocalOption: TypeAlias = Annotated[
    bool,
    typer.Option("--local", help="Run in this process, without a server, with built-in and installed actions only."),
]
RunArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="The run's id, a unique prefix of it, or @last: the newest run.", show_default=False
    ),
]
FormatOption: TypeAlias = Annotated[
    Format,
    typer.Option(
        "--output",
        parser=choice_parser(Format),
        metavar=choice_metavar(Format),
        help="Text for people, or JSON for programs.",
    ),
]
OutputOption: TypeAlias = Annotated[
    OutputMode | None,
    typer.Option(
        "--output",
        parser=choice_parser(OutputMode),
        metavar=choice_metavar(OutputMode),
        help="A live view, a line for each event, events as JSON lines, or only the outputs. "
        "Default: live on a terminal, else text.",
        show_default=False,
    ),
]
FollowOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--follow",
        metavar="STEP",
        help="Write the text of this step to standard output as it comes, and nothing else. If another attempt begins "
        "the text anew, it begins on a new line, and a message says so. The outputs are not printed.",
        show_default=False,
    ),
]
RawOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Print each output as text, in the order of the steps and without its step's id: a string as it is, "
        "anything else as JSON, each with a line break at its end (as jq -r).",
    ),
]
VerboseOption: TypeAlias = Annotated[bool, typer.Option("--verbose", "-v", help="Show the tracebacks of failures.")]


def parse_input(text: str | None) -> JSON:
    """Parse the run's input: JSON, `@FILE`, or `@-` for standard input; `None`: null.

    Raises:
        CommandError: The input is not JSON, or the file cannot be read.
    """
    if text is None:
        return None
    try:
        return cast("JSON", parse_json_text(_read_text(text[1:]) if text.startswith("@") else text))
    except OSError as error:
        raise CommandError(f"--input: cannot read {text[1:]}: {error.strerror}") from error
    except ValueError as error:
        hint = f"; for the file's contents write @{text}" if _is_file(text) else ""
        raise CommandError(f"--input: {error}{hint}") from error


def _read_text(file: str) -> str:
    """Read a file, or standard input for `-`, as UTF-8, or as UTF-16 or UTF-32 if a byte order mark says so."""
    data = read_stdin() if file == "-" else Path(file).read_bytes()
    return data.decode(json.detect_encoding(data))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # not a valid path: long JSON, for example
        return False


def parse_labels(option: str, texts: list[str] | None) -> dict[str, str]:
    """Parse labels such as `team=weather`.

    Raises:
        CommandError: A label has no key or no `=`.
    """
    labels = {}
    for text in texts or ():
        key, separator, value = text.partition("=")
        if not (key and separator):
            raise CommandError(f'{option}: "{text}" is not a label such as team=weather')
        labels[key] = value
    return labels


def parse_time(option: str, text: str | None, now: datetime) -> datetime | None:
    """Parse a time: a duration before now, such as `2h` or `7d`, or an ISO time. Without a zone it is local time.

    Raises:
        CommandError: The text is neither.
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
        expected = "a duration such as 2h or 7d, nor a time such as 2026-01-31T09:00"
        raise CommandError(f'{option}: "{text}" is neither {expected}') from error


def parse_seconds(option: str, text: str | None) -> float | None:
    """Parse a duration such as `90s`, `2m` or `7d`, and return seconds. A number without a unit is seconds.

    Raises:
        CommandError: The text is not a duration.
    """
    if text is None:
        return None
    try:
        return _seconds(f"{text}s" if text.replace(".", "", 1).isdecimal() else text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from error


def _seconds(text: str) -> float:
    """Parse a duration in the format of workflow files, or in days, which workflow files do not allow."""
    if days := _DAYS.fullmatch(text):
        return float(days[1]) * 24 * 3600
    duration = parse_duration(text)
    return duration.seconds + duration.nanos / 1e9

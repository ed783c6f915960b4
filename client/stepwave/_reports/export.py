"""All that is kept of a run, and the file that holds it: one JSON document, for people, tools and replays.

It has the contract's own messages in the JSON form that protobuf defines for them, with the field names of the
contract: payloads stay the JSON text they were, times keep their nanoseconds, and 64-bit numbers are strings. Every
event has a line of its own.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from stepwave._model.report import RunReport
from stepwave._values.json import json_problem
from stepwave._values.message_json import InvalidMessage, read_message
from stepwave.exceptions import InvalidExport, Unsupported
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb

from .critical_path import report_of

__all__ = ["RunExport"]

_VERSION_KEY = "stepwave_export"
_VERSION = 1

AnyMessage = TypeVar("AnyMessage", bound=Message)


@dataclass(frozen=True, slots=True)
class RunExport:
    """All that is kept of a run: with it, `stepwave.testing.replay` makes its decisions again.

    Attributes:
        definition: What the run was given, as a message of the contract.
        events: Its numbered events in order, as far as it had come; transient ones are not kept.
    """

    definition: pb.RunDefinition
    events: tuple[event_pb2.RunEvent, ...]

    @property
    def run_id(self) -> str:
        """The run."""
        return self.definition.run_id

    def report(self, until: datetime | None = None) -> RunReport:
        """Return where the run's time went: its critical path, what it was spent on, and what could be saved.

        Args:
            until: Up to when a run is reported that has not ended, with its zone; `None`: up to its newest event.

        Raises:
            InvalidExport: Its events name a step that it does not have.
        """
        return report_of(self.definition, self.events, until)

    def to_json(self) -> str:
        """Return it as the text of a file.

        Raises:
            Unsupported: A newer server said more than this version of the SDK knows, which would be lost.
        """
        return "".join(self._lines())

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write it to a file, in the place of what is there.

        Raises:
            OSError: The file cannot be written.
            Unsupported: As for `to_json`.
        """
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read it from the text of a file.

        Raises:
            InvalidExport: The text is no export, or is one that this version cannot read. The error names the place:
                the line and column where the text is no JSON, else the path of the value that does not fit.
        """
        document = _document(text)
        events = document.get("events")
        if not isinstance(events, list):
            raise InvalidExport("not an export of a run: it has no list of events")
        export = cls(
            _read(pb.RunDefinition(), document.get("definition"), "definition"),
            tuple(_read(event_pb2.RunEvent(), event, f"events[{place}]") for place, event in enumerate(events)),
        )
        export._check_numbers()
        return export

    @classmethod
    def load(cls, path: "str | os.PathLike[str]") -> Self:
        """Read it from a file, in UTF-8, or in UTF-16 with a byte order mark, as some shells redirect to files.

        Raises:
            OSError: The file cannot be read.
            InvalidExport: It is no export, or one that this version cannot read.
        """
        try:
            data = Path(path).read_bytes()
            return cls.from_json(data.decode(json.detect_encoding(data)))
        except InvalidExport as error:
            raise InvalidExport(f"{os.fspath(path)}: {error}") from error
        except UnicodeDecodeError as error:
            message = f"not an export of a run: byte {error.start + 1:,} belongs to no text in {error.encoding.upper()}"
            raise InvalidExport(f"{os.fspath(path)}: {message}") from error

    def _lines(self) -> Iterator[str]:
        yield f'{{\n"{_VERSION_KEY}": {_VERSION},\n"definition": {_text(self.definition, indent=2)},\n"events": ['
        for place, event in enumerate(self.events):
            yield f"{',' if place else ''}\n{_text(event)}"
        yield "\n]\n}\n"

    def _check_numbers(self) -> None:
        for place, event in enumerate(self.events):
            if event.sequence != place + 1:
                message = f"expected the sequence {place + 1}, got {event.sequence}"
                raise InvalidExport(f"events[{place}].sequence: {message}")


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno:,}, column {error.colno:,}"
        raise InvalidExport(f"not an export of a run: {place}: no JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits, or lists within lists without end
        raise InvalidExport(f"not an export of a run: {json_problem(text) or 'nested too deeply'}") from error
    if not isinstance(document, dict) or _VERSION_KEY not in document:
        raise InvalidExport(f'not an export of a run: it has no "{_VERSION_KEY}"')
    if document[_VERSION_KEY] != _VERSION:
        version = json.dumps(document[_VERSION_KEY])
        raise InvalidExport(f"{_VERSION_KEY}: version {version} of the format; this one reads version {_VERSION}")
    return document


def _read(message: AnyMessage, value: object, place: str) -> AnyMessage:
    try:
        return read_message(message, value, place)
    except InvalidMessage as error:
        raise InvalidExport(str(error)) from error


def _text(message: Message, *, indent: int | None = None) -> str:
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        raise Unsupported("a newer server said more of the run than this version knows: export it with that version")
    return json.dumps(MessageToDict(message, preserving_proto_field_name=True), ensure_ascii=False, indent=indent)

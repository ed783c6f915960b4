"""Exported runs, and their file: one JSON document, for people, tools and replays.

It has the contract's messages in protobuf's JSON form, with the contract's field names: payloads keep their JSON text,
times their nanoseconds, and 64-bit numbers are strings. Each event is on a line of its own.
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
from stepwave.v1 import event_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb

from .critical_path import report_of

__all__ = ["RunExport"]

_VERSION_KEY = "stepwave_export"
_VERSION = 1

AnyMessage = TypeVar("AnyMessage", bound=Message)


@dataclass(frozen=True, slots=True)
class RunExport:
    """The definition and events of a run, which `stepwave.testing.replay` can replay.

    Attributes:
        definition: The run's definition, as a message of the contract.
        events: The run's numbered events so far, in order; without transient ones.
    """

    definition: pb.RunDefinition
    events: tuple[event_pb2.RunEvent, ...]

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.definition.run_id

    def report(self, until: datetime | None = None) -> RunReport:
        """Return where the run's time went: its critical path, what the time was spent on, and what could be saved.

        Args:
            until: The end of the report on a run under way, with a time zone; `None`: its newest event.

        Raises:
            InvalidExport: The events name a step that the run does not have.
        """
        return report_of(self.definition, self.events, until)

    @property
    def workflow(self) -> workflow_pb2.Workflow:
        """The workflow, with the steps that were added while the run was open."""
        workflow = workflow_pb2.Workflow()
        workflow.CopyFrom(self.definition.workflow)
        for event in self.events:
            workflow.steps.extend(event.steps_added.steps)
        return workflow

    def to_json(self) -> str:
        """Return the text of an export file.

        Raises:
            Unsupported: A newer server sent fields that this version of the SDK does not know and would lose.
        """
        return "".join(self._lines())

    def save(self, path: "str | os.PathLike[str]") -> None:
        """Write an export file, and overwrite an existing one.

        Raises:
            OSError: The file cannot be written.
            Unsupported: As for `to_json`.
        """
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text of an export file.

        Raises:
            InvalidExport: The text is not an export, or this version cannot read it. The error names the place: the
                line and column if the text is not JSON, else the path of the invalid value.
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
        """Read an export file, in UTF-8, or in UTF-16 with a byte order mark, which some shells write.

        Raises:
            OSError: The file cannot be read.
            InvalidExport: The file is not an export, or this version cannot read it.
        """
        try:
            data = Path(path).read_bytes()
            return cls.from_json(data.decode(json.detect_encoding(data)))
        except InvalidExport as error:
            raise InvalidExport(f"{os.fspath(path)}: {error}") from error
        except UnicodeDecodeError as error:
            message = f"not an export of a run: byte {error.start + 1:,} is not valid {error.encoding.upper()}"
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
        raise InvalidExport(f"not an export of a run: {place}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # too many digits in a number, or too many nested lists
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
        raise Unsupported(
            "a newer server sent fields that this version does not know: export the run with that version"
        )
    return json.dumps(MessageToDict(message, preserving_proto_field_name=True), ensure_ascii=False, indent=indent)

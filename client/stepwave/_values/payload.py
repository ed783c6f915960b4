"""Converts between Python values and payloads of the contract."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from stepwave.v1 import payload_pb2

from .json import written_problem
from .numbers import kept_text, read_json, read_kept, refuse_constant, write_json

__all__ = ["JSON", "Blob", "Output", "dump_json", "from_payload", "keep_digits", "load_json", "to_payload"]

if TYPE_CHECKING:
    JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
else:
    JSON = Any  # as a type hint of an action: pydantic cannot read an alias that refers to itself

Output: TypeAlias = Any
"""An output of a run: JSON as Python values, or a `Blob`. `Any` as with `json.loads`: the workflow knows its type."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that are not JSON, and their media type."""

    data: bytes
    content_type: str = "application/octet-stream"


_keeps_digits = False


def keep_digits() -> None:
    """Let the numbers of `load_json` keep their digits for `dump_json`, in this process. For the command line.

    Otherwise they become Python's floats.
    """
    global _keeps_digits
    _keeps_digits = True


def dump_json(value: object) -> str:
    """Write a value as one JSON text, without spaces.

    Raises:
        ValueError: JSON cannot hold the value: its type, `NaN`, infinity, a cycle; or its depth or a number is beyond
            the bounds.
    """
    try:
        text = _write(value, _ENCODER)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"JSON cannot hold the value: {error}") from error
    if problem := written_problem(text):
        raise ValueError(f"JSON cannot hold the value: {problem}")
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate: UTF-8 cannot hold it, an escape can
        return _write(value, _ASCII_ENCODER)
    return text


def load_json(text: str) -> JSON:
    """Read one JSON text from a server, which has checked it.

    Raises:
        ValueError: The text is not JSON (`NaN` and `Infinity` are refused), or nested beyond the interpreter's limit.
    """
    try:
        value: JSON = read_json(text, read_kept) if _keeps_digits else _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def _write(value: object, encoder: json.JSONEncoder) -> str:
    return write_json(value, encoder, kept_text) if _keeps_digits else encoder.encode(value)


# Made once: with options, `json.dumps` and `json.loads` make one for every call, which costs more than the value.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ASCII_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=refuse_constant)


def to_payload(value: object) -> payload_pb2.Payload:
    """Convert a value to a payload: a `Blob` to a blob, anything else to JSON.

    Raises:
        ValueError: JSON cannot hold the value.
    """
    if isinstance(value, Blob):
        return payload_pb2.Payload(blob=payload_pb2.Blob(content_type=value.content_type, data=value.data))
    return payload_pb2.Payload(json=dump_json(value))


def from_payload(payload: payload_pb2.Payload) -> JSON | Blob:
    """Return the value of a payload; `None` if it is empty."""
    if text := payload.json:  # first: nearly every payload of a large run is JSON
        return None if text == "null" else load_json(text)
    match payload.WhichOneof("body"):
        case "json":
            return load_json("")
        case "blob":
            return Blob(payload.blob.data, payload.blob.content_type or "application/octet-stream")
        case _:
            return None

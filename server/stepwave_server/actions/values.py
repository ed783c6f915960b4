"""Conversion between payloads and Python values."""

import json
import re
from contextvars import ContextVar
from dataclasses import dataclass

import pydantic_core

from stepwave._values.json import written_problem
from stepwave._values.numbers import ReadNumber, read_json, write_json
from stepwave._values.payload import Blob as SdkBlob
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Blob, Payload, Reason, payload_size

__all__ = ["Unread", "bounded", "dump", "keep_numbers", "load"]

CONTENT_TYPE = re.compile(r"[ -~]{0,255}")

# Made once: with options, `json.dumps` makes one for every call, which costs more than a small value.
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=pydantic_core.to_jsonable_python
)
_ASCII_ENCODER = json.JSONEncoder(allow_nan=False, default=pydantic_core.to_jsonable_python)

_kept: ContextVar[dict[int, tuple[float, str]] | None] = ContextVar("kept_numbers", default=None)


@dataclass(frozen=True, slots=True)
class Unread:
    """An input that is not converted to a Python value, and as an answer the same payload."""

    payload: Payload


def keep_numbers() -> None:
    """Keep the texts of numbers that `load` reads in the current context, for `dump` in it and in copies of it.

    An action often answers with numbers of its input, unchanged. These are then the same objects, plain floats, by
    whose identity `dump` finds their texts. They are kept alive meanwhile, so no other object has the identity.
    """
    _kept.set({})


def load(payload: Payload) -> object:
    """Return the Python value of a payload."""
    if isinstance(payload, Blob):
        return SdkBlob(payload.data, payload.content_type)
    if payload == "null":
        return None
    kept = _kept.get()
    return read_json(payload, float if kept is None else _keeping(kept))


def dump(value: object, max_bytes: int) -> Payload:
    """Return the payload of a Python value: JSON's types, dataclasses, pydantic models, dates and similar types.

    Raises:
        ActionFailed: JSON cannot hold the value, or the payload is larger than `max_bytes`.
    """
    if value is None:
        return "null"
    if isinstance(value, SdkBlob):
        return bounded(_blob(value, max_bytes), max_bytes)
    if isinstance(value, Unread):
        return bounded(value.payload, max_bytes)
    try:
        text = _write(value, _ENCODER)
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can hold
        text = _write(value, _ASCII_ENCODER)
        size = len(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ActionFailed(Reason.ACTION_ERROR, f"it answered what JSON cannot hold: {error}") from error
    if size > max_bytes:
        raise _too_large(size, max_bytes)
    if problem := written_problem(text):
        raise ActionFailed(Reason.ACTION_ERROR, f"it answered what JSON cannot hold: {problem}")
    return text


def bounded(payload: Payload, max_bytes: int) -> Payload:
    """Return a payload if it has at most `max_bytes` bytes.

    Raises:
        ActionFailed: The payload is larger.
    """
    size = payload_size(payload)
    if size > max_bytes:
        raise _too_large(size, max_bytes)
    return payload


def _keeping(kept: dict[int, tuple[float, str]]) -> ReadNumber:
    """Return a function that reads numbers, and keeps the texts of those that Python would write in another way."""

    def read(text: str) -> float:
        number = float(text)
        if repr(number) != text:
            kept[id(number)] = number, text
        return number

    return read


def _write(value: object, encoder: json.JSONEncoder) -> str:
    kept = _kept.get()
    if not kept:
        return encoder.encode(value)

    def text_of(number: float) -> str:
        return kept[id(number)][1] if id(number) in kept else ""

    return write_json(value, encoder, text_of)


def _too_large(size: int, max_bytes: int) -> ActionFailed:
    return ActionFailed(Reason.RESOURCE_EXHAUSTED, f"it answered {size:,} bytes, more than the {max_bytes:,} allowed")


def _blob(value: SdkBlob, max_bytes: int) -> Blob:
    kind, data = value.content_type, value.data
    if type(kind) is not str or not CONTENT_TYPE.fullmatch(kind):
        raise ActionFailed(Reason.ACTION_ERROR, "it answered a blob whose content type is malformed")
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ActionFailed(Reason.ACTION_ERROR, f"it answered a blob whose data is {type(data).__name__}, not bytes")
    size = memoryview(data).nbytes
    if size > max_bytes:  # check before the copy
        raise _too_large(size, max_bytes)
    return Blob(kind, bytes(data))

"""Conversion between payloads and Python values."""

import json
import re

import pydantic_core

from stepwave._values.json import written_problem
from stepwave._values.payload import Blob as SdkBlob
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Blob, Payload, Reason, payload_size

__all__ = ["bounded", "dump", "load"]

CONTENT_TYPE = re.compile(r"[ -~]{0,255}")


def load(payload: Payload) -> object:
    """Return the Python value of a payload."""
    if isinstance(payload, Blob):
        return SdkBlob(payload.data, payload.content_type)
    return None if payload == "null" else json.loads(payload)


def dump(value: object, max_bytes: int) -> Payload:
    """Return the payload of a Python value: JSON's types, dataclasses, pydantic models, dates and similar types.

    Raises:
        ActionFailed: JSON cannot hold the value, or the payload is larger than `max_bytes`.
    """
    if value is None:
        return "null"
    if isinstance(value, SdkBlob):
        return bounded(_blob(value, max_bytes), max_bytes)
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=pydantic_core.to_jsonable_python
        )
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can hold
        text = json.dumps(value, allow_nan=False, default=pydantic_core.to_jsonable_python)
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

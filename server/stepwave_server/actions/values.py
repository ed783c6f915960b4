"""Payloads to Python values and back, and the answers of streams."""

import json
import re
from dataclasses import dataclass, field

import pydantic_core

from stepwave import Answer
from stepwave import Blob as SdkBlob
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Blob, Payload, Reason

__all__ = ["Chunks", "dump", "load"]

CONTENT_TYPE = re.compile(r"[ -~]{0,255}")


def load(payload: Payload) -> object:
    """Return the value that an action gets for a payload."""
    if isinstance(payload, Blob):
        return SdkBlob(payload.data, payload.content_type)
    return None if payload == "null" else json.loads(payload)


def dump(value: object, most_bytes: int) -> Payload:
    """Return the payload for an action's value: JSON's own types, dataclasses, pydantic models, dates and the like.

    Raises:
        ActionFailed: JSON cannot hold it, or it is larger than `most_bytes`.
    """
    if value is None:
        return "null"
    if isinstance(value, SdkBlob):
        if not CONTENT_TYPE.fullmatch(value.content_type):
            raise ActionFailed(Reason.ACTION_ERROR, "it answered a blob whose content type is malformed")
        return _bounded(Blob(value.content_type, bytes(value.data)), len(value.data), most_bytes)
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=pydantic_core.to_jsonable_python
        )
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate: UTF-8 cannot hold it, an escape can
        text = json.dumps(value, allow_nan=False, default=pydantic_core.to_jsonable_python)
        size = len(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ActionFailed(Reason.ACTION_ERROR, f"it answered what JSON cannot hold: {error}") from error
    return _bounded(text, size, most_bytes)


def _bounded(payload: Payload, size: int, most_bytes: int) -> Payload:
    if size > most_bytes:
        message = f"it answered {size:,} bytes, more than the {most_bytes:,} allowed"
        raise ActionFailed(Reason.RESOURCE_EXHAUSTED, message)
    return payload


@dataclass(slots=True)
class Chunks:
    """What a stream said so far; it comes to its explicit answer, else its chunks, joined if all are strings."""

    most_bytes: int
    said: list[object] = field(default_factory=list)
    size: int = 0
    answer: Answer | None = None

    def add(self, item: object) -> Payload | None:
        """Take what a stream yielded, and return the chunk to show; `None` if it was the answer.

        Raises:
            ActionFailed: It is no JSON, too much in all, or came after the answer.
        """
        if self.answer is not None:
            raise ActionFailed(Reason.ACTION_ERROR, "it went on after its answer")
        if isinstance(item, Answer):
            self.answer = item
            return None
        chunk = dump(item, self.most_bytes)
        self.size += len(chunk) if isinstance(chunk, str) else len(chunk.data)
        if self.size > self.most_bytes:
            raise ActionFailed(Reason.RESOURCE_EXHAUSTED, f"its chunks pass the {self.most_bytes:,} bytes allowed")
        self.said.append(item)
        return chunk

    def result(self) -> object:
        """Return what the stream came to."""
        if self.answer is not None:
            return self.answer.value
        if self.said and all(isinstance(chunk, str) for chunk in self.said):
            return "".join(map(str, self.said))
        return self.said

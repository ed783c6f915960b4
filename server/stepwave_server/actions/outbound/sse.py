"""Server-sent events: the texts in a stream of bytes that comes in any parts (WHATWG HTML, section 9.2).

Own code rather than a library: no library that reads them bounds the length of an event.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterable

from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Reason

__all__ = ["Events", "events_in"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class Events:
    """Reads the events of a stream.

    Args:
        max_bytes: Bound on one event.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()  # the line that has no end yet
        self._held = b""  # a CR at the end, which an LF may follow
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False

    def feed(self, part: bytes) -> list[str]:
        """Add the next part of the stream, and return the texts of the events that are complete now.

        Raises:
            ActionFailed: An event is too long.
        """
        part = self._held + part
        self._held = b"\r" if part.endswith(b"\r") else b""
        first, *others = _LINE_END.split(part.removesuffix(self._held))
        self._rest += first
        texts: list[str] = []
        for begun in others:
            text = self._line(bytes(self._rest))
            if text is not None:
                texts.append(text)
            self._rest = bytearray(begun)
        if self._size + len(self._rest) > self._max_bytes:
            message = f"an event of the stream has more than the {self._max_bytes:,} bytes allowed"
            raise ActionFailed(Reason.RESOURCE_EXHAUSTED, message)
        return texts

    def _line(self, line: bytes) -> str | None:
        """Add a line, and return the text of the event that it ends; `None`: it ends none."""
        if not self._begun:
            self._begun, line = True, line.removeprefix(_BOM)
        if line:
            name, _, value = line.partition(b":")  # a comment has no name
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
                self._size += len(line)
            return None
        data, self._data, self._size = self._data, [], 0
        return b"\n".join(data).decode(errors="replace") if data else None


async def events_in(parts: AsyncIterable[bytes], max_bytes: int) -> AsyncGenerator[str, None]:
    """Return the texts of the events in a stream. An event that the end of the stream cuts off is none.

    Raises:
        ActionFailed: An event is too long.
    """
    events = Events(max_bytes)
    async for part in parts:
        for text in events.feed(part):
            yield text

"""Values and durations as short texts for people."""

import json
from datetime import timedelta

from .payload import Blob

__all__ = ["duration_text", "value_text"]

_NARROWEST = 20


def value_text(value: object, width: int) -> str:
    """Return a value on one line, cut to a width: a string as it is, a blob by its size, anything else as JSON.

    Args:
        value: An output or a message.
        width: The largest number of characters; at least 20 are kept.
    """
    match value:
        case str():
            text = value
        case Blob():
            text = f"<{len(value.data):,} bytes of {value.content_type}>"
        case _:
            text = json.dumps(value, ensure_ascii=False)
    width = max(width, _NARROWEST)
    # Four times the width: spaces that become one must not shorten the line. The rest of a long text is not read.
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * width]).split())
    return line if len(line) <= width and len(text) <= 4 * width else f"{line[: width - 1]}…"


def duration_text(duration: timedelta) -> str:
    """Return a duration such as `804 ms`, `12.5 s` or `1:02:03`."""
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))

"""Values, counts and durations as short texts for people."""

import json
from datetime import timedelta

from .payload import Blob

__all__ = ["duration_text", "one_line", "plural", "value_text"]

_NARROWEST = 20
_MAX_LENGTH = 2_000  # characters


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


def one_line(text: str) -> str:
    """Return a text on one line, with single spaces and without control and invisible characters."""
    truncated = text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + "…"
    return " ".join("".join(character if character.isprintable() else " " for character in truncated).split())


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 step`, `2 steps`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def duration_text(duration: timedelta | None) -> str:
    """Return a duration in at most seven characters: `5 ms`, `1.25 s`, `2m 05s`, `3h 07m`; `None`: an empty text."""
    if duration is None:
        return ""
    seconds = max(duration.total_seconds(), 0.0)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours < 100 else f"{hours // 24}d {hours % 24:02}h"

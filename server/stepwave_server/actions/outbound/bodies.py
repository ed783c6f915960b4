"""Bodies of responses to values: JSON, text or bytes, as the content type says."""

import re

from stepwave._values.payload import Blob
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.values import load
from stepwave_server.core.model import Reason

__all__ = ["is_json", "read_json", "value_of"]

_CHARSET = re.compile(r"""charset\s*=\s*"?([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_CHARSETS = {
    "iso-8859-1": "cp1252",  # as browsers read it
    "latin-1": "cp1252",
    "us-ascii": "utf-8",
    "windows-1252": "cp1252",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "shift_jis": "shift_jis",
    "euc-jp": "euc_jp",
    "euc-kr": "euc_kr",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5",
}
"""Character sets that are read, beside UTF-8. Some of Python's codecs take very long, and some are none of texts."""

_TEXT_TYPES = frozenset(
    {
        "application/ecmascript",
        "application/graphql",
        "application/javascript",
        "application/jsonl",
        "application/ndjson",
        "application/sql",
        "application/toml",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "application/x-yaml",
        "application/xml",
        "application/yaml",
    }
)


def is_json(content_type: str) -> bool:
    """Return whether a content type is JSON."""
    kind = _media_type(content_type)
    return kind in {"application/json", "text/json"} or kind.endswith("+json")


def value_of(data: bytes, content_type: str, origin: str) -> object:
    """Return the value of a body: `None` if it is empty, a JSON value, a string, or a `Blob`.

    Raises:
        ActionFailed: It is not the JSON that the content type promises.
    """
    if not data:
        return None
    if is_json(content_type):
        return read_json(data, origin)
    kind = _media_type(content_type)
    if not kind or kind.startswith("text/") or kind.endswith("+xml") or kind in _TEXT_TYPES:
        text = _text(data, content_type)
        if text is not None:
            return text
    return Blob(data, _printable(content_type) or "application/octet-stream")


def read_json(data: bytes, origin: str) -> object:
    """Return the value of a JSON text.

    Raises:
        ActionFailed: It is not JSON.
    """
    try:
        return load(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ActionFailed(Reason.ACTION_ERROR, f"{origin} answered malformed JSON", retryable=True) from None


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _text(data: bytes, content_type: str) -> str | None:
    """Return the text of a body; `None`: it is none."""
    match = _CHARSET.search(content_type)
    charset = _CHARSETS.get(match[1].lower(), "utf-8-sig") if match else "utf-8-sig"
    try:
        text = data.decode(charset)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _printable(content_type: str) -> str:
    """Return a content type as a blob may have it; empty: it may not."""
    return content_type if len(content_type) <= 255 and content_type.isascii() and content_type.isprintable() else ""

"""A request of a built-in action, and the check of its header fields."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from stepwave_server.actions.failures import ActionFailed, cut
from stepwave_server.core.model import Reason

__all__ = ["OF_CONNECTION", "Outgoing", "Value", "checked_headers"]

Plain: TypeAlias = str | int | float | bool | None
Value: TypeAlias = Plain | list[Plain]
"""The value of a parameter of a query; of a list, each item is a value."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
OF_CONNECTION = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
"""Header fields that belong to the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A request.

    Attributes:
        namespace: The namespace of the run. No other one uses its connections.
        method: The method.
        url: The URL, with `http` or `https`.
        headers: The header fields.
        query: Parameters to add to the URL's query.
        content: The body; `None`: there is none.
        max_redirects: Redirects that are followed; 0: a redirect is the response.
    """

    namespace: str
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Value] = field(default_factory=dict)
    content: bytes | None = None
    max_redirects: int = 0


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return header fields with names in lower case.

    Raises:
        ActionFailed: One is malformed. The message has no value, which may be a secret.
    """
    checked: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if not _NAME.fullmatch(name) or lower in checked:
            raise ActionFailed(Reason.INVALID_INPUT, f"headers: malformed or given twice: {cut(name, 100)!r}")
        if lower in OF_CONNECTION:
            raise ActionFailed(Reason.INVALID_INPUT, f"headers: {lower} cannot be set")
        if not _VALUE.fullmatch(value):
            message = f"headers: the value of {lower} has line breaks, or characters beyond Latin-1"
            raise ActionFailed(Reason.INVALID_INPUT, message)
        checked[lower] = value.strip()
    return checked

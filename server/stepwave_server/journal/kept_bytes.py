"""The bytes that the runs of each namespace keep in a journal."""

from collections import Counter
from collections.abc import Mapping

from stepwave_server.core.model import Payload
from stepwave_server.wire.values import encode_payload

__all__ = ["KeptBytes", "definition_size"]


class KeptBytes:
    """Counts bytes of definitions and events, by namespace, of runs under way and of runs that have ended.

    They are counted as they come and go, so that a query costs nothing. Any thread may ask.
    """

    def __init__(self) -> None:
        self._namespaces: Counter[str] = Counter()

    def add(self, namespace: str, size: int) -> None:
        """Add bytes. A negative number removes them."""
        self._namespaces[namespace] += size

    def of(self, namespace: str) -> int:
        """Return the bytes of a namespace."""
        return self._namespaces[namespace]

    def by_namespace(self) -> Mapping[str, int]:
        """Return the bytes of every namespace that has had runs."""
        return dict(self._namespaces)


def definition_size(workflow: bytes, run_input: Payload) -> int:
    """Return the bytes of a run's encoded workflow and of its input, as a journal on disk has it."""
    return len(workflow) + len(encode_payload(run_input))

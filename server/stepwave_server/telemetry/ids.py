"""Ids of a run's trace and spans, derived from the run, so that every process gives a span the same id."""

from hashlib import blake2b

__all__ = ["SpanIds"]


class SpanIds:
    """Derives ids by hash. They are the same in every process, also after a crash and on another replica.

    A span id is the BLAKE2b hash of the run's identity and of the span's path in the run. The identity includes the
    run's time of acceptance, because a run id may be used again, after a deletion or on another server, and the traces
    must stay apart.

    Args:
        namespace: The run's namespace.
        run_id: The run.
        create_time: When it was accepted, in nanoseconds since the epoch.

    Attributes:
        trace: The id of a trace that begins with the run.
        run: The id of the run's span.
    """

    __slots__ = ("_identity", "run", "trace")

    def __init__(self, namespace: str, run_id: str, create_time: int) -> None:
        identity = repr((namespace, run_id, create_time)).encode()
        self._identity = blake2b(identity, digest_size=8, usedforsecurity=False)
        self.trace = _number(blake2b(identity, digest_size=16, usedforsecurity=False).digest())
        self.run = self._derive("run")

    def wave(self, wave: int) -> int:
        """Return the id of a wave's span."""
        return self._derive(f"wave/{wave}")

    def step(self, wave: int, step_id: str) -> int:
        """Return the id of a step's span."""
        return self._derive(f"step/{wave}/{step_id}")

    def attempt(self, wave: int, step_id: str, attempt: int) -> int:
        """Return the id of an attempt's span."""
        return self._derive(f"attempt/{wave}/{attempt}/{step_id}")

    def _derive(self, path: str) -> int:
        digest = self._identity.copy()  # a copy is cheaper than a new hash of the identity
        digest.update(path.encode())
        return _number(digest.digest())


def _number(digest: bytes) -> int:
    return int.from_bytes(digest) or 1  # an id of zeros is invalid

"""The holds of a run: which servers have streams that keep it attached, and when it is cancelled without them.

They are derived from the run's history, so that every server knows them, and none is needed to keep them. A server
tells the run when its first stream attaches, and when its last one has left. It tells nothing of the run that it starts
for a stream that stays to the end.

It makes no difference how a stream has left. After the last one the reconnect window begins; with none, the run is
cancelled at once. A server that stops in order is no loss: its callers find another server, and a window of zero does
not begin. A server that crashed is a loss.
"""

from typing import Literal, TypeAlias

from stepwave_server.core.model import immutable

__all__ = ["HOLDERS_MEMO", "HoldChange", "HoldKind", "Holds"]

HoldKind: TypeAlias = Literal["attach", "release", "leave", "lose", "detach"]

HOLDERS_MEMO = "stepwave.holders"
"""The memo of a run with the servers that hold it."""

AT_ONCE = "the caller went away"
LATER = "the caller did not come back"


@immutable
class HoldChange:
    """A change of the holds of a run.

    Attributes:
        kind: `attach`: the first stream of a server has attached. `release`: its last one has left. `leave`: the server
            stopped. `lose`: it crashed. `detach`: a caller wants the run without its streams.
        holder: The server; empty: none.
    """

    kind: HoldKind
    holder: str = ""


class Holds:
    """The servers that hold one run.

    Attributes:
        holders: Their ids.
        window: The seconds for which the run goes on without them; `None`: it is detached, for ever.

    Args:
        window: The reconnect window; `None`: the run is detached.
        holder: The server that starts it.
    """

    def __init__(self, window: float | None, holder: str) -> None:
        self.window = window
        self.holders: set[str] = set() if window is None else {holder}
        self._timers = 0
        self._waits = False

    @property
    def timer(self) -> str:
        """The name of the timer of the window."""
        return f"reconnect window {self._timers}"

    def change(self, given: HoldChange) -> str:
        """Take a change. Return why the run is to be cancelled now; empty: it is not."""
        if self.window is None:
            return ""
        if given.kind == "detach":
            self.window = None
            self.holders.clear()
        elif given.kind == "attach":
            self.holders.add(given.holder)
        elif given.holder in self.holders:
            self.holders.discard(given.holder)
            if not self.holders and self.window <= 0:
                return {"release": AT_ONCE, "lose": LATER}.get(given.kind, "")  # otherwise it goes on
        return ""

    def begins(self) -> bool:
        """Return whether the window begins now. Its timer has a new name then."""
        if self._waits or self.holders or not self.window:
            return False
        self._timers += 1
        self._waits = True
        return True

    def ends(self) -> bool:
        """Return whether the window ends now, because a server holds the run, or it is detached."""
        if not self._waits or not (self.holders or self.window is None):
            return False
        self._waits = False
        return True

    def passed(self, timer: str) -> str:
        """Return why the run is to be cancelled when a timer is due; empty: it is not."""
        if not self._waits or timer != self.timer:
            return ""
        self._waits, self.window = False, None
        return LATER

"""An adaptive bound on attempts in flight: it follows the refusals of the service behind an action. Pure.

It is AIMD (Chiu and Jain, 1989) with the memory of CUBIC (RFC 9438). A refusal cuts the bound at once, and the bound
before the cut is remembered as the ceiling. Below the ceiling the bound climbs by one in every round of successes.
Just below it, the bound stays for a while and then tries it. When the ceiling has gone, the bound climbs faster in
every round, so a service that grows is soon used. A round is as many successes as the bound; there is no clock.
"""

from stepwave_server.engine.admission.limits import Adaptive

__all__ = ["AdaptiveBound"]

HOLD = 40
"""Successes before the ceiling is tried again, so about one call in so many is refused."""


class AdaptiveBound:
    """A bound on attempts in flight that follows successes and refusals.

    Attributes:
        limit: The bound now.
        refused: Refusals so far.
    """

    __slots__ = ("_ceiling", "_config", "_cuts", "_peak", "_proved", "_step", "_successes", "limit", "refused")

    def __init__(self, config: Adaptive) -> None:
        self._config = config
        self.limit = min(max(config.initial, config.least), config.most)
        self.refused = 0
        self._ceiling: int | None = None
        self._cuts = self._peak = self._successes = 0
        self._proved = True
        self._step = 1

    def start(self, in_flight: int) -> int:
        """Count the start of an attempt, one of `in_flight`; return the mark to end it with."""
        self._peak = max(self._peak, in_flight)
        return self._cuts

    def succeed(self, mark: int, in_flight: int) -> None:
        """Count the success of an attempt, one of `in_flight`. One from before the last cut proves nothing."""
        if mark != self._cuts:
            return
        self._proved = True
        self._successes += 1
        if self._successes < self._needed():
            return
        if self._peak >= self.limit:  # else the bound was not reached, and proved nothing
            self._climb()
        self._successes, self._peak = 0, in_flight

    def refuse(self, mark: int, in_flight: int) -> None:
        """Count the refusal of an attempt, one of `in_flight`. The first one since the last cut cuts again.

        The cut is a fifth if something succeeded since the cut before, else a half: the bound is far too high then.
        """
        self.refused += 1
        if mark != self._cuts:
            return
        self._ceiling = min(self.limit, in_flight)
        cut = self._ceiling * 4 // 5 if self._proved else self._ceiling // 2
        self.limit = max(self._config.least, min(cut, self._ceiling - 1))
        self._cuts += 1
        self._step, self._successes, self._peak = 1, 0, in_flight - 1
        self._proved = False

    def _needed(self) -> int:
        """Return how many successes the next climb needs."""
        waits = self._ceiling is not None and self.limit + 1 >= self._ceiling > self.limit
        return max(HOLD, self.limit) if waits else self.limit

    def _climb(self) -> None:
        if self._ceiling is not None and self.limit >= self._ceiling:  # a whole round at the ceiling: it has gone
            self._ceiling = None
        self.limit = min(self._config.most, self.limit + self._step)
        if self._ceiling is None:
            self._step = max(1, min(self._step * 2, self.limit // 4))

"""A bound on attempts in flight that finds itself by the refusals of the service behind an action. Pure.

It is AIMD (Chiu and Jain, 1989) with the memory of CUBIC (RFC 9438). A refusal cuts it at once, and its place is
remembered as the ceiling. Below that it climbs by one in every round of successes; beneath the ceiling it stays for a
while, then tries it; and when the ceiling turns out to have gone, it climbs faster round by round, so that a service
that grows is soon used. A round is as many successes as the bound allows attempts at once: it knows no clock.
"""

from stepwave_server.engine.admission.limits import Adaptive

__all__ = ["AdaptiveBound"]

HOLD = 40
"""Successes before the ceiling is tried again: about so many calls are made for each one refused."""


class AdaptiveBound:
    """How many attempts may be in flight, as successes and refusals tell.

    Attributes:
        limit: How many, now.
        refused: How many refusals there have been.
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
        """Note that an attempt starts as one of so many; return the mark that it ends with."""
        self._peak = max(self._peak, in_flight)
        return self._cuts

    def succeed(self, mark: int, in_flight: int) -> None:
        """Take a success of one of so many attempts: what began before the last cut says nothing of the bound now."""
        if mark != self._cuts:
            return
        self._proved = True
        self._successes += 1
        if self._successes < self._needed():
            return
        if self._peak >= self.limit:  # else nobody knows whether it bears what it allows
            self._climb()
        self._successes, self._peak = 0, in_flight

    def refuse(self, mark: int, in_flight: int) -> None:
        """Take a refusal of one of so many attempts: the first since the last cut makes another one.

        The cut is a fifth where something succeeded since the one before, else a half: then it is far too high.
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
        """Return how many successes there must be before it climbs."""
        waits = self._ceiling is not None and self.limit + 1 >= self._ceiling > self.limit
        return max(HOLD, self.limit) if waits else self.limit

    def _climb(self) -> None:
        if self._ceiling is not None and self.limit >= self._ceiling:  # a round at the ceiling: it has gone
            self._ceiling = None
        self.limit = min(self._config.most, self.limit + self._step)
        if self._ceiling is None:
            self._step = max(1, min(self._step * 2, self.limit // 4))

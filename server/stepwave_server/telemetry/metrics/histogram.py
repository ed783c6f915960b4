"""Histograms that cost little to record: samples wait in a list, and are counted together later."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from functools import partial

from stepwave_server.core.model import SECOND

__all__ = ["COMMIT_SIZES", "DURATIONS", "LAGS", "Histogram", "Samples"]

DURATIONS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 14_400
)  # fmt: skip
"""Upper bounds for work that takes 1 ms to hours, in seconds."""

LAGS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds of the event loop's lag and of commits, in seconds."""

COMMIT_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""Upper bounds of the number of events in a commit."""


class Histogram:
    """Counts of values by bucket.

    Attributes:
        bounds: The upper bounds of the buckets, inclusive; a last bucket has the values above all of them.
        counts: Values in each bucket.
        total: The sum of all values.
        least: The smallest value.
        most: The largest value.

    Args:
        bounds: The upper bounds, as they are exported.
        scale: Recorded units in one exported unit: `SECOND` for nanoseconds that are exported as seconds.
    """

    __slots__ = ("_bucket", "bounds", "counts", "least", "most", "scale", "total")

    def __init__(self, bounds: Sequence[float] = DURATIONS, scale: int = SECOND) -> None:
        self.bounds = bounds
        self.scale = scale
        self.counts = [0] * (len(bounds) + 1)
        self.total = self.least = self.most = 0
        self._bucket = partial(bisect_left, [round(bound * scale) for bound in bounds])

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(self.counts)

    def add(self, *values: int) -> None:
        """Add values."""
        self.add_counted(values, Counter(map(self._bucket, values)))

    def add_counted(self, values: Sequence[int], buckets: "Counter[int]") -> None:
        """Add values whose buckets are counted already, by a histogram of the same bounds."""
        least, most = min(values), max(values)
        self.least = min(self.least, least) if any(self.counts) else least
        self.most = max(self.most, most)
        self.total += sum(values)
        for bucket, count in buckets.items():
            self.counts[bucket] += count

    def counted(self, values: Sequence[int]) -> "Counter[int]":
        """Return how many of the values belong in each bucket."""
        return Counter(map(self._bucket, values))


class Samples:
    """Values that wait to be counted. `append` is the method of a list, so it costs no more than that.

    Attributes:
        append: Adds a value. Called on one thread.

    Args:
        histograms: The histograms that get every value, all of the same bounds.
    """

    __slots__ = ("_histograms", "_values", "append")

    def __init__(self, *histograms: Histogram) -> None:
        self._values: list[int] = []
        self._histograms = histograms
        self.append = self._values.append

    def fold(self) -> int:
        """Count the values that wait, and return their number. It may be called on another thread than `append`."""
        values = self._values[:]
        if not values:
            return 0
        del self._values[: len(values)]  # those that another thread added meanwhile stay
        buckets = self._histograms[0].counted(values)
        for histogram in self._histograms:
            histogram.add_counted(values, buckets)
        return len(values)

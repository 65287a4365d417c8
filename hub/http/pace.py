"""How often somebody may ask: token buckets in memory, each process by itself (rule H4)."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from hub.domain.rates import Bucket

_MOST: Final = 20_000
"""Askers that are remembered; the one that was silent for longest is forgotten first."""


@dataclass(slots=True)
class _Allowance(Bucket):
    """A bucket that says itself how much it holds."""

    burst: float = 1.0

    @property
    def most(self) -> float:
        """What it holds when it is full."""
        return self.burst


class Pace:
    """So many requests a second from each, and `burst` of them at once, about one second's worth unless it is said;
    times are monotonic seconds.
    """

    def __init__(self, rate: float, *, burst: float | None = None, most: int = _MOST) -> None:
        self.rate = rate
        self._burst = max(1.0, rate if burst is None else burst)
        self._most = most
        self._buckets: OrderedDict[Hashable, _Allowance] = OrderedDict()

    def take(self, asker: Hashable, now: float) -> bool:
        """Whether one more may be answered now; then it counts."""
        bucket = self._buckets.setdefault(asker, _Allowance(self.rate, self._burst, now, self._burst))
        self._buckets.move_to_end(asker)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        if not bucket.is_ready(now):
            return False
        bucket.tokens = max(0.0, bucket.tokens - 1)
        return True

    def wait_of(self, asker: Hashable, now: float) -> float:
        """Seconds until one more of this asker would be answered, without counting one; 0: now."""
        bucket = self._buckets.get(asker)
        return 0.0 if bucket is None or bucket.is_ready(now) else (1 - bucket.tokens) / self.rate

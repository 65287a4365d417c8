"""How often somebody who has no key may ask: token buckets in memory, each process by itself."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from hub.domain.rates import Bucket

_MOST: Final = 20_000
"""Askers that are remembered; the one that was silent for longest is forgotten first."""


class Pace:
    """So many requests a second from each, and about as many at once; times are monotonic seconds."""

    def __init__(self, rate: float, *, most: int = _MOST) -> None:
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def take(self, asker: Hashable, now: float) -> bool:
        """Whether one more may be answered now."""
        bucket = self._buckets.setdefault(asker, Bucket(self._rate, max(1.0, self._rate), now))
        self._buckets.move_to_end(asker)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        if not bucket.is_ready(now):
            return False
        bucket.tokens = max(0.0, bucket.tokens - 1)
        return True

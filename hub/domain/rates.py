"""How fast each sender may send (rule E9), by token buckets over a clock that is passed in; and how much at once."""

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import Final

LONGEST_PAUSE: Final = 60.0
"""Seconds a throttled sender stands still at most, whatever the provider asks for."""
_NEARLY: Final = 1 - 1e-9
"""A token, but for what is lost in adding fractions up."""


@dataclass(slots=True)
class Bucket:
    """One sender's allowance: `rate` messages a second, about one second's worth at once, never less than one."""

    rate: float
    tokens: float
    at: float
    paused_until: float = -inf

    @property
    def most(self) -> float:
        """What it holds when it is full."""
        return max(1.0, self.rate)

    def refill(self, now: float) -> None:
        """Add what has come in since; a clock that stands still adds nothing."""
        self.tokens = min(self.most, self.tokens + max(0.0, now - self.at) * self.rate)
        self.at = max(self.at, now)

    def is_ready(self, now: float) -> bool:
        """Whether a message may go now."""
        self.refill(now)
        return self.tokens >= _NEARLY and now >= self.paused_until


class Rates:
    """The buckets of all senders that have sent since this process owns the queue; times are monotonic seconds."""

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}

    def take(self, sender: int, rate: float, now: float) -> bool:
        """Take a token; False where the sender must wait. A sender that is new, or has been idle, has a full bucket."""
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = self._buckets[sender] = Bucket(rate, max(1.0, rate), now)
        bucket.refill(now)
        bucket.rate = rate
        if not bucket.is_ready(now):
            return False
        bucket.tokens = max(0.0, bucket.tokens - 1)
        return True

    def put_back(self, sender: int) -> None:
        """What was taken for a message that did not go after all."""
        bucket = self._buckets[sender]
        bucket.tokens = min(bucket.most, bucket.tokens + 1)

    def pause(self, sender: int, seconds: float, now: float) -> None:
        """The provider wants no more of this sender for so long (60 s at most)."""
        bucket = self._buckets[sender]
        bucket.paused_until = max(bucket.paused_until, now + min(seconds, LONGEST_PAUSE))

    def waiting(self, now: float) -> list[int]:
        """Senders that may not send now: their queues need not be looked at."""
        return [sender for sender, bucket in self._buckets.items() if not bucket.is_ready(now)]


@dataclass(slots=True)
class Slots:
    """How many messages may be with providers at once, of all senders together.

    A sender gets at most three quarters of what the others leave, so that one whose provider has fallen silent never
    keeps the rest waiting, and busy ones come to share alike.
    """

    total: int
    _taken: Counter[int] = field(default_factory=Counter)

    def _most(self, sender: int) -> int:
        left = self.total - self._taken.total() + self._taken[sender]
        return max(1, left * 3 // 4) if left else 0

    def take(self, sender: int) -> bool:
        """Take a slot; False where the sender has its share."""
        if self._taken[sender] >= self._most(sender):
            return False
        self._taken[sender] += 1
        return True

    def put_back(self, sender: int) -> None:
        """A message came back from its provider."""
        self._taken[sender] -= 1

    def full(self) -> list[int]:
        """Senders that have their share just now."""
        return [sender for sender, taken in self._taken.items() if taken and taken >= self._most(sender)]

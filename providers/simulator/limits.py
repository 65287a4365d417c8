"""How fast the simulated providers let a business send."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

from providers.simulator.ledger import Attempt


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` messages within any `seconds`; `retry_after` goes into the header of a refusal, if it is set."""

    count: int
    seconds: float
    retry_after: int | None = None


class Limits:
    """What is allowed: of one `sender`, and of a `pair` of sender and customer (Meta). None: anything."""

    def __init__(self) -> None:
        self.sender: Limit | None = None
        self.pair: Limit | None = None
        self.refused: list[Attempt] = []
        self._taken: dict[tuple[str, ...], deque[float]] = {}

    def exceeded(self, attempt: Attempt) -> tuple[Literal["sender", "pair"], Limit] | None:
        """Which limit this request goes beyond; counts it, where it goes beyond none."""
        pair = (attempt.provider, attempt.sender, attempt.to or "")
        if self.sender is not None and self._is_full(pair[:2], self.sender, attempt.at):
            self.refused.append(attempt)
            return "sender", self.sender
        if self.pair is not None and attempt.provider == "meta" and self._is_full(pair, self.pair, attempt.at):
            self.refused.append(attempt)
            return "pair", self.pair
        if self.sender is not None or self.pair is not None:
            for key in (pair[:2], pair):
                self._taken.setdefault(key, deque()).append(attempt.at)
        return None

    def _is_full(self, key: tuple[str, ...], limit: Limit, now: float) -> bool:
        taken = self._taken.setdefault(key, deque())
        while taken and taken[0] <= now - limit.seconds:
            taken.popleft()
        return len(taken) >= limit.count

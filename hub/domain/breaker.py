"""What an endpoint's answers say about it and about the conversation, and when to leave it alone (rules G2, G3).

Connection, TLS, time-out, 5xx, 429 and 3xx are evidence against the endpoint; other 4xx against the conversation,
unless many conversations get the same one.
"""

import math
import random
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from uuid import UUID

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds an open breaker waits before it lets one delivery through: doubled with every one that fails."""
LONGEST_RETRY_AFTER: Final = 3600.0
"""Seconds an endpoint may ask for at most."""
UNREACHABLE: Final = 2
"""Deliveries in a row that reached nobody, after which the breaker opens."""
FAILING_LANES: Final = 3
"""Different conversations in a row that failed, after which it opens: one alone may be to blame itself."""
SAME_REFUSALS: Final = 10
REFUSAL_WINDOW: Final = 60.0
"""So many conversations refused with the same status within so many seconds speak against the endpoint."""


class Verdict(Enum):
    """What one answer says."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """The endpoint is well and does not take this event."""
    FAILING = "failing"
    """The endpoint may be ill."""
    UNREACHABLE = "unreachable"
    """There is no endpoint to speak to."""
    LIMITED = "limited"
    """The endpoint asks to be left alone for a while."""
    GONE = "gone"
    """The endpoint wants nothing more, ever (410)."""

    @property
    def blames_endpoint(self) -> bool:
        """Whether it says nothing about the event itself."""
        return self in {Verdict.FAILING, Verdict.UNREACHABLE, Verdict.LIMITED}

    @property
    def outcome(self) -> str:
        """The class it is counted under."""
        return "failed" if self.blames_endpoint else self.value


def judge(status: int | None, retry_after: float | None, *, is_unreachable: bool) -> Verdict:
    """Read an answer; `status` is None where there was none."""
    if status is None:
        return Verdict.UNREACHABLE if is_unreachable else Verdict.FAILING
    if 200 <= status < 300:
        return Verdict.DELIVERED
    if status == 410:
        return Verdict.GONE
    if status == 429 or (status == 503 and retry_after is not None):
        return Verdict.LIMITED
    is_refused = 400 <= status < 500 and status not in {408, 425}
    return Verdict.REFUSED if is_refused else Verdict.FAILING


@dataclass(slots=True)
class Breaker:
    """Of one endpoint. Times are seconds of one monotonic clock."""

    random: random.Random
    state: str = "closed"
    until: float = 0.0
    last_success: float = -math.inf
    _pause: float = FIRST_PAUSE
    _unreachable: int = 0
    _failing: set[UUID] = field(default_factory=set)
    _refused: dict[UUID, tuple[int, float]] = field(default_factory=dict)
    _storm: int | None = None
    _asked_until: float = -math.inf

    def may_try(self, now: float) -> bool:
        """Whether a delivery may start; while half open, only the one that is under way."""
        return self.state == "closed" or (self.state == "open" and now >= self.until)

    def started(self) -> None:
        """A delivery starts: with an open breaker, the one that decides."""
        if self.state == "open":
            self.state = "half_open"

    def given_up(self, now: float) -> None:
        """The delivery that was to decide was abandoned."""
        if self.state == "half_open":
            self.state, self.until = "open", now

    def succeeded(self, now: float) -> None:
        """The endpoint took a delivery."""
        self.last_success = now
        if self.state != "closed" and now >= self._asked_until:
            self.state, self._pause, self._storm = "closed", FIRST_PAUSE, None
        if self._unreachable or self._failing or self._refused:
            self._unreachable = 0
            self._failing.clear()
            self._refused.clear()

    def failed(self, lane: UUID, verdict: Verdict, now: float, retry_after: float | None) -> bool:
        """The endpoint did not take one, for reasons of its own; gives whether the breaker is open now."""
        if verdict is Verdict.UNREACHABLE:
            self._unreachable += 1
        self._failing.add(lane)
        is_enough = (
            self.state != "closed"
            or verdict is Verdict.LIMITED
            or self._unreachable >= UNREACHABLE
            or len(self._failing) >= FAILING_LANES
        )
        if is_enough:
            self._open(now, retry_after)
        return is_enough

    def refused(self, lane: UUID, status: int, now: float) -> bool:
        """A conversation was refused; gives whether so many were, in the same way and with none taken in between, that
        the breaker is open now.
        """
        self._unreachable = 0
        self._failing.clear()
        self._refused[lane] = (status, now)
        self._refused = {k: (s, at) for k, (s, at) in self._refused.items() if now - at < REFUSAL_WINDOW}
        is_storm = sum(s == status for s, _ in self._refused.values()) >= SAME_REFUSALS
        if self.state == "half_open" and status != self._storm:
            self.state, self._pause, self._storm = "closed", FIRST_PAUSE, None  # it answers: that was another illness
        elif self.state == "half_open" or is_storm:
            self._storm = status
            self._open(now, None)
            return True
        return False

    def _open(self, now: float, retry_after: float | None) -> None:
        if self.state == "half_open":
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        wait = self._pause * self.random.uniform(0.8, 1.2)
        if retry_after is not None:
            wait = max(wait, min(retry_after, LONGEST_RETRY_AFTER))
            self._asked_until = max(self._asked_until, now + wait)
        elif self.state == "open":
            return  # one that was in flight when it opened does not lengthen the pause
        self.state, self.until = "open", max(self.until, now + wait)

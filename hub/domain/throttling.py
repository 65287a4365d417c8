"""What a provider's word that it wants no more for now does (rule E9), over a clock that is passed in.

What is limited stands still, for as long as the provider asks or twice as long each time; after that one message at a
time goes, until the provider lets one through.
"""

from dataclasses import dataclass
from math import inf
from typing import Final, Literal

Scope = Literal["pair", "sender", "account"]
"""What a provider's limit is of: a sender and one customer, a sender, or its whole account."""

FIRST_PAUSE: Final = 1.0
"""Seconds that a throttled sender, or account, stands still the first time, where the provider asks for none."""
PAIR_PAUSE: Final = 6.0
"""The same for a pair."""
SPAM_PAUSE: Final = 60.0
"""The same for a sender whose messages are taken for spam: insisting makes that worse."""
LONGEST_BACKOFF: Final = 60.0
"""Seconds of the longest pause that comes of doubling; of `SPAM_PAUSE`, ten times that."""
LONGEST_PAUSE: Final = 300.0
"""Seconds of the longest pause that a provider may ask for."""
SPAM: Final = frozenset({("meta", "131048")})
"""Codes by which a provider says that too many customers have reported or blocked the sender."""


@dataclass(slots=True)
class Brake:
    """What throttled answers do: a pause, and after it one message at a time until the provider lets one through.

    What was with the provider together is throttled together, and counts once: a message carries the `round` in which
    it was handed over, and each throttled answer that counts begins another.
    """

    paused_until: float = -inf
    round: int = 0
    strikes: int = 0
    is_probing: bool = False

    def is_ready(self, now: float) -> bool:
        """Whether a message may go now."""
        return now >= self.paused_until and not self.is_probing

    def start(self) -> int:
        """A message goes; gives the round."""
        self.is_probing = self.strikes > 0
        return self.round

    def went_through(self, round_: int) -> None:
        """The provider did not throttle it."""
        if round_ == self.round:
            self.strikes, self.is_probing = 0, False

    def came_back(self, round_: int) -> None:
        """It did not go, or nobody knows: the next one tells."""
        if round_ == self.round:
            self.is_probing = False

    def throttled(self, round_: int, asked: float, now: float, first: float, longest: float) -> bool:
        """Stand still, for the seconds `asked`, or else for the `first` ones; from the second time in a row on at least
        for these, doubled each time up to `longest`. False: this was with the provider before the last pause, and tells
        nothing new but what it asks for.
        """
        is_new = round_ == self.round
        if is_new:
            self.round, self.strikes, self.is_probing = self.round + 1, self.strikes + 1, False
        doubled = min(first * 2 ** min(self.strikes - 1, 16), longest)
        is_doubled = is_new and (self.strikes > 1 or not asked)
        pause = max(min(asked, LONGEST_PAUSE), doubled if is_doubled else 0.0)
        self.paused_until = max(self.paused_until, now + pause)
        return is_new


def pauses_of(scope: Scope, *, is_spam: bool) -> tuple[float, float]:
    """The first pause and the longest one that doubling makes of it, in seconds."""
    if is_spam:
        return SPAM_PAUSE, LONGEST_BACKOFF * 10
    return (PAIR_PAUSE if scope == "pair" else FIRST_PAUSE), LONGEST_BACKOFF

"""How fast each sender may send (rule E9), by token buckets over a clock that is passed in.

A provider that throttles is heeded where its limit lies (`hub.domain.throttling`): with a sender, with its whole
account, or with the pair of a sender and one customer, which stops nobody else. A throttled sender is slower from then
on, and comes back to its rate little by little.
"""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from hub.domain.throttling import Brake, Scope, pauses_of

Pair = tuple[int, UUID]
"""A sender and a contact it writes to, whichever channel it is for."""

PAIR_RATE: Final = 1 / 6
"""Messages a second that WhatsApp takes from one number for one customer:
https://developers.facebook.com/documentation/business-messaging/whatsapp/throughput
"""
PAIR_BURST: Final = 45.0
"""How many of them may go at once; they count against those to come."""
_LEAST_SHARE: Final = 1 / 32
_RECOVERY: Final = 1 / 60
"""What comes back of a lowered rate each second, as a share of the whole: half of it in half a minute."""
_REMEMBERED: Final = 10_000
_NEARLY: Final = 1 - 1e-9
"""A token, but for what is lost in adding fractions up."""


@dataclass(frozen=True, slots=True)
class Place:
    """Whose limits a message counts against: its sender, with `rate` messages a second, of an account at a provider,
    and the sender's pair with a customer. `is_paired`: the medium has a rate for each pair.
    """

    sender: int
    rate: float
    provider: str
    contact: UUID | None = None
    is_paired: bool = False

    @property
    def pair(self) -> Pair | None:
        """The sender and the customer, where that is known."""
        return (self.sender, self.contact) if self.contact else None


@dataclass(slots=True)
class Bucket:
    """One allowance: `rate` messages a second, about one second's worth at once, never less than one."""

    rate: float
    tokens: float
    at: float

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
        return self.tokens >= _NEARLY


@dataclass(slots=True)
class Limit(Bucket):
    """An allowance that a provider may narrow: `burst` messages at once; a `share` of rate and burst is left of it, the
    rest comes back with time.
    """

    burst: float = 1.0
    provider: str = ""
    share: float = 1.0
    brake: Brake = field(default_factory=Brake)

    @property
    def most(self) -> float:
        """What it holds when it is full."""
        return max(1.0, self.burst * self.share)

    def refill(self, now: float) -> None:
        """Add what has come in since; a pause adds nothing."""
        passed = max(0.0, now - max(self.at, min(self.brake.paused_until, now)))
        share = min(1.0, self.share + passed * _RECOVERY)
        gained = passed * self.rate * (self.share + share) / 2
        self.share = share
        self.tokens = min(self.most, self.tokens + gained)
        self.at = max(self.at, now)

    def is_ready(self, now: float) -> bool:
        """Whether a message may go now."""
        self.refill(now)
        return self.tokens >= _NEARLY and self.brake.is_ready(now)

    def take(self) -> int:
        """Take a token; gives the brake's round."""
        self.tokens = max(0.0, self.tokens - 1)  # what was a hair less than one
        return self.brake.start()

    def narrow(self, factor: float) -> None:
        """That part of the rate from now on, and one message to begin with."""
        self.share = max(_LEAST_SHARE, self.share * factor)
        self.tokens = 1.0


@dataclass(slots=True)
class Ticket:
    """What one message has taken; it is settled once."""

    place: Place
    taken: tuple[tuple[Brake, int], ...]
    is_settled: bool = False


class Rates:
    """The limits of all senders that have sent since this process owns the queue, and of their accounts and pairs;
    times are monotonic seconds. `pair_rate` messages a second go to one customer, `pair_burst` at once.
    """

    def __init__(self, pair_rate: float = PAIR_RATE, pair_burst: float = PAIR_BURST) -> None:
        self._pair_rate = pair_rate
        self._pair_burst = pair_burst
        self._senders: dict[int, Limit] = {}
        self._accounts: dict[str, Brake] = {}
        self._pairs: dict[Pair, Limit] = {}
        self._held: set[Pair] = set()

    def take(self, place: Place, now: float) -> Ticket | None:
        """Let a message go; None where it must wait. A sender that is new, or has been idle, has a full bucket."""
        account, sender = self._accounts.setdefault(place.provider, Brake()), self._sender(place, now)
        pair = self._pair(place, now)
        if pair and place.pair and not pair.is_ready(now):
            self._held.add(place.pair)
            return None
        if not account.is_ready(now) or not sender.is_ready(now):
            return None
        buckets = [sender, pair] if pair else [sender]
        rounds = [(bucket.brake, bucket.take()) for bucket in buckets]
        return Ticket(place, ((account, account.start()), *rounds))

    def _sender(self, place: Place, now: float) -> Limit:
        bucket = self._senders.get(place.sender)
        if bucket is None:
            burst = max(1.0, place.rate)
            bucket = self._senders[place.sender] = Limit(place.rate, burst, now, burst)
        bucket.refill(now)
        bucket.rate, bucket.burst, bucket.provider = place.rate, place.rate, place.provider
        return bucket

    def _pair(self, place: Place, now: float, *, is_throttled: bool = False) -> Limit | None:
        if place.pair is None:
            return None
        bucket = self._pairs.get(place.pair)
        if bucket is None and (place.is_paired or is_throttled):
            self._forget_idle(now)
            bucket = self._pairs[place.pair] = Limit(self._pair_rate, self._pair_burst, now, self._pair_burst)
        return bucket

    def _forget_idle(self, now: float) -> None:
        """Drop pairs as good as new, now and then."""
        if len(self._pairs) % _REMEMBERED != _REMEMBERED - 1:
            return
        for pair, bucket in list(self._pairs.items()):
            if bucket.is_ready(now) and not bucket.brake.strikes and bucket.tokens >= bucket.burst:
                del self._pairs[pair]

    def put_back(self, ticket: Ticket) -> None:
        """What was taken for a message that did not go after all."""
        if ticket.is_settled:
            return
        self.let_go(ticket)
        pair = ticket.place.pair
        for bucket in (self._senders.get(ticket.place.sender), self._pairs.get(pair) if pair else None):
            if bucket:
                bucket.tokens = min(bucket.most, bucket.tokens + 1)

    def spend(self, ticket: Ticket, more: int) -> None:
        """The message took so many more requests than one."""
        self._senders[ticket.place.sender].tokens -= more

    def let_go(self, ticket: Ticket) -> None:
        """Nothing is known of what the provider made of it."""
        if not ticket.is_settled:
            ticket.is_settled = True
            for brake, round_ in ticket.taken:
                brake.came_back(round_)

    def went_through(self, ticket: Ticket) -> None:
        """The provider took the message, or refused it for what it is: no limit stands against the next."""
        if not ticket.is_settled:
            ticket.is_settled = True
            for brake, round_ in ticket.taken:
                brake.went_through(round_)

    def throttled(self, ticket: Ticket, scope: Scope, asked: float, now: float, *, is_spam: bool = False) -> None:
        """The provider wants no more for now, of what `scope` says; the other limits of the message were not met."""
        if ticket.is_settled:
            return
        ticket.is_settled = True
        bucket = self._limited(ticket.place, scope, now)
        braked = bucket.brake if bucket else self._accounts[ticket.place.provider]
        for brake, round_ in ticket.taken:
            if brake is not braked:
                brake.came_back(round_)
        round_ = next((round_ for brake, round_ in ticket.taken if brake is braked), braked.round)
        is_new = braked.throttled(round_, asked, now, *pauses_of(scope, is_spam=is_spam))
        if is_new and bucket:
            bucket.refill(now)
            is_too_fast = scope != "pair" and braked.strikes == 1  # one that only tries is not
            bucket.narrow(0.5 if is_too_fast else 1.0)

    def _limited(self, place: Place, scope: Scope, now: float) -> Limit | None:
        """What stands still; None: the account. Without a known customer it is the sender."""
        if scope == "account":
            return None
        pair = self._pair(place, now, is_throttled=True) if scope == "pair" else None
        return pair or self._senders[place.sender]

    def waiting(self, now: float) -> list[int]:
        """Senders that may not send now: their queues need not be looked at."""
        return [
            sender
            for sender, bucket in self._senders.items()
            if not (bucket.is_ready(now) and self._accounts[bucket.provider].is_ready(now))
        ]

    def waiting_pairs(self, now: float) -> list[Pair]:
        """Pairs whose next message was kept waiting and that may still not go: their queues are passed over."""
        self._held = {pair for pair in self._held if pair in self._pairs and not self._pairs[pair].is_ready(now)}
        return list(self._held)

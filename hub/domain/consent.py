"""What a customer wants to be sent: the ledger of one customer and medium, folded (rule E5).

The ledger is only ever added to. What holds on a number follows from everything in it, in the order it was written.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from hub.domain.tracking import ConsentMode

Kind = Literal["granted", "revoked", "stop", "start", "marketing_stop", "marketing_resume", "pending", "replaced"]
"""`replaced`: the customer gave another number, and nobody knows who has this one now (I3)."""
Source = Literal["customer", "service", "operator", "provider", "site", "browser"]

CONSENT_MEDIA: Final = ("whatsapp", "sms", "email", "tracking")
"""What consent is given for: to be written to, and that links and visits are tracked. STOP on one says nothing of the
others."""
MESSAGE_MEDIA: Final = ("whatsapp", "sms")
"""Those that the hub writes over: consent may be of one number."""

TOLD_BY_PROVIDER: Final[dict[tuple[str, str], Kind]] = {
    ("twilio", "21610"): "stop",
    ("meta", "131050"): "marketing_stop",
}
"""The only errors, by provider and its own code, that say what a customer wants."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What holds for one customer, medium and number.

    `is_revoked`: they said stop, or somebody noted it for them; `is_granted`: campaigns are welcome;
    `is_marketing_stopped`: WhatsApp's own switch for marketing templates; `is_pending`: the customer is asked, and has
    not said anything else; `is_replaced`: it is revoked only because the number was given up, so anybody's grant counts
    again. `since`: when it became what it is; None where nobody ever said anything.
    """

    is_revoked: bool = False
    is_granted: bool = False
    is_marketing_stopped: bool = False
    since: datetime | None = None
    is_pending: bool = False
    is_replaced: bool = False

    @property
    def status(self) -> str:
        """In one word, as the API shows it."""
        if self.is_revoked:
            return "revoked"
        if self.is_granted:
            return "granted"
        return "pending" if self.is_pending else "unknown"


NOTHING_SAID: Final = Consent()


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One entry of the ledger.

    `number_id` None: it was said of all numbers. A `stop` counts on all numbers, wherever it was said. `is_over`: the
    number that was given up was written from since; whoever has it now has agreed to nothing and refused nothing.
    """

    kind: Kind
    number_id: int | None
    source: Source
    at: datetime
    has_evidence: bool = False
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class _Standing:
    """Stopped by the customer's STOP; withdrawn by somebody's note; replaced by another number; granted: each is lifted
    differently.
    """

    is_stopped: bool = False
    is_withdrawn: bool = False
    is_granted: bool = False
    is_marketing_stopped: bool = False
    is_pending: bool = False
    is_replaced: bool = False

    @property
    def is_refused(self) -> bool:
        return self.is_stopped or self.is_withdrawn

    @property
    def is_revoked(self) -> bool:
        return self.is_refused or self.is_replaced

    def consent(self, since: datetime | None) -> Consent:
        is_granted = self.is_granted and not self.is_revoked
        is_replaced = self.is_replaced and not self.is_refused
        return Consent(self.is_revoked, is_granted, self.is_marketing_stopped, since, self.is_pending, is_replaced)


def fold(events: Sequence[ConsentEvent], number_id: int | None) -> Consent:
    """What holds on a number by these events, oldest first; None: on numbers nothing was said of in particular."""
    standing, since, status = _Standing(), None, NOTHING_SAID.status
    for event in events:
        standing = _after(standing, event, number_id)
        if (now := standing.consent(None).status) != status:
            since, status = event.at, now
    return standing.consent(since)


def fold_addresses(events: Sequence[tuple[Hashable, ConsentEvent]], number_id: int | None) -> Consent:
    """What holds for somebody with several addresses by these events, oldest first, each of which is about one of them.
    A number that was given up stays so, whatever was said of another.
    """
    ledgers: dict[Hashable, list[ConsentEvent]] = {}
    for name, event in events:
        ledgers.setdefault(name, []).append(event)
    if given_up := next((held for each in ledgers.values() if (held := fold(each, number_id)).is_replaced), None):
        return given_up
    return fold([event for _, event in events], number_id)


def is_overtaken(events: Iterable[ConsentEvent], new: ConsentEvent) -> bool:
    """Whether it would lift what was refused after it was said: news of a customer may come late. A refusal that comes
    late counts all the same.
    """
    return any(event.kind == _LIFTS.get(new.kind) and event.at > new.at for event in events)


_LIFTS: Final[dict[Kind, Kind]] = {"start": "stop", "marketing_resume": "marketing_stop"}
"""What lifts a refusal, and the refusal."""


def changes_anything(events: Sequence[ConsentEvent], new: ConsentEvent) -> bool:
    """Whether one more event makes any difference, on whichever number."""
    numbers = {None, new.number_id, *(event.number_id for event in events)}
    return any(_stand([*events, new], number) != _stand(events, number) for number in numbers)


def refusals(events: Sequence[ConsentEvent]) -> list[ConsentEvent]:
    """What still refuses, of all that was said of one address: it holds for another address of the same customer, too,
    while nothing that was granted does. What lifts a refusal on one number, but not on others, goes along.
    """
    numbers = {None, *(event.number_id for event in events)}
    kept: list[ConsentEvent] = []
    for kind, lift, name in _REFUSALS:
        held = {number for number in numbers if getattr(_stand(events, number), name)}
        if held:
            said = {e.number_id: e for e in events if e.kind == kind and (kind == "stop" or e.number_id in held)}
            lifted = {e.number_id: e for e in events if e.kind == lift and e.number_id not in held}
            kept += [*said.values(), *lifted.values()]
    return kept


_REFUSALS: Final = (
    ("stop", "start", "is_stopped"),
    ("revoked", "", "is_withdrawn"),
    ("marketing_stop", "marketing_resume", "is_marketing_stopped"),
)
"""What refuses, what lifts it, and how it stands."""


def _stand(events: Sequence[ConsentEvent], number_id: int | None) -> _Standing:
    standing = _Standing()
    for event in events:
        standing = _after(standing, event, number_id)
    return standing


def _after(now: _Standing, event: ConsentEvent, number_id: int | None) -> _Standing:
    if event.kind == "stop":
        return replace(now, is_stopped=True, is_pending=False)
    if event.number_id is not None and event.number_id != number_id:
        return now
    match event.kind:
        case "start":
            return replace(now, is_stopped=False, is_replaced=False)
        case "revoked":
            return replace(now, is_withdrawn=True, is_granted=False, is_pending=False)
        case "replaced":
            return replace(now, is_replaced=not event.is_over, is_granted=False, is_pending=False)
        case "granted":
            return _granted(now, event)
        case "marketing_stop":
            return replace(now, is_marketing_stopped=True)
        case "marketing_resume":
            return replace(now, is_marketing_stopped=False)
        case "pending":
            return now if now.is_revoked or now.is_granted else replace(now, is_pending=True)


def _granted(now: _Standing, event: ConsentEvent) -> _Standing:
    """The operator's evidence lifts everything; anybody else's word counts only where nothing is revoked."""
    if event.source == "operator" and event.has_evidence:
        now = replace(now, is_stopped=False, is_withdrawn=False)
    return now if now.is_refused else replace(now, is_granted=True, is_pending=False, is_replaced=False)


def refuses_tracking(people: Iterable[Sequence[ConsentEvent]], mode: ConsentMode) -> bool:
    """Whether a customer has said no to being tracked: what they do is nobody's then, even where it is known whose
    browser it is.
    """
    return mode != "off" and any(fold(events, None).is_revoked for events in people)


def may_be_tracked(people: Iterable[Sequence[ConsentEvent]], mode: ConsentMode) -> bool:
    """Whether a customer's links and visits are tracked, by what was said of `tracking`: a ledger for each contact that
    is part of the profile. A refusal of any counts for all, so that no merge takes it away.
    """
    ledgers = list(people)
    if mode == "off" or refuses_tracking(ledgers, mode):
        return mode == "off"
    return mode == "implied" or any(fold(events, None).is_granted for events in ledgers)

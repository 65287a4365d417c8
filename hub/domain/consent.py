"""What a customer wants to be sent: the ledger of one customer and medium, folded (rule E5).

The ledger is only ever added to. What holds on a number follows from everything in it, in the order it was written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

Kind = Literal["granted", "revoked", "stop", "start", "marketing_stop", "marketing_resume"]
Source = Literal["customer", "service", "operator", "provider"]

TOLD_BY_PROVIDER: Final[dict[tuple[str, str], Kind]] = {
    ("twilio", "21610"): "stop",
    ("meta", "131050"): "marketing_stop",
}
"""The only errors, by provider and its own code, that say what a customer wants."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What holds for one customer, medium and number.

    `is_revoked`: they said stop, or somebody noted it for them; `is_granted`: campaigns are welcome;
    `is_marketing_stopped`: WhatsApp's own switch for marketing templates. `since`: when it became what it is; None
    where nobody ever said anything.
    """

    is_revoked: bool = False
    is_granted: bool = False
    is_marketing_stopped: bool = False
    since: datetime | None = None

    @property
    def status(self) -> str:
        """In one word, as the API shows it."""
        if self.is_revoked:
            return "revoked"
        return "granted" if self.is_granted else "unknown"


NOTHING_SAID: Final = Consent()


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """One entry of the ledger.

    `number_id` None: it was said of all numbers. A `stop` counts on all numbers, wherever it was said.
    """

    kind: Kind
    number_id: int | None
    source: Source
    at: datetime
    has_evidence: bool = False


@dataclass(frozen=True, slots=True)
class _Standing:
    """Stopped by the customer's STOP; withdrawn by somebody's note; granted by one: each is lifted differently."""

    is_stopped: bool = False
    is_withdrawn: bool = False
    is_granted: bool = False
    is_marketing_stopped: bool = False

    @property
    def is_revoked(self) -> bool:
        return self.is_stopped or self.is_withdrawn

    def consent(self, since: datetime | None) -> Consent:
        return Consent(self.is_revoked, self.is_granted and not self.is_revoked, self.is_marketing_stopped, since)


def fold(events: Sequence[ConsentEvent], number_id: int | None) -> Consent:
    """What holds on a number by these events, oldest first; None: on numbers nothing was said of in particular."""
    standing, since, status = _Standing(), None, NOTHING_SAID.status
    for event in events:
        standing = _after(standing, event, number_id)
        if (now := standing.consent(None).status) != status:
            since, status = event.at, now
    return standing.consent(since)


def changes_anything(events: Sequence[ConsentEvent], new: ConsentEvent) -> bool:
    """Whether one more event makes any difference, on whichever number."""
    numbers = {None, new.number_id, *(event.number_id for event in events)}
    return any(_stand([*events, new], number) != _stand(events, number) for number in numbers)


def _stand(events: Sequence[ConsentEvent], number_id: int | None) -> _Standing:
    standing = _Standing()
    for event in events:
        standing = _after(standing, event, number_id)
    return standing


def _after(now: _Standing, event: ConsentEvent, number_id: int | None) -> _Standing:
    if event.kind == "stop":
        return replace(now, is_stopped=True)
    if event.number_id is not None and event.number_id != number_id:
        return now
    match event.kind:
        case "start":
            return replace(now, is_stopped=False)
        case "revoked":
            return replace(now, is_withdrawn=True, is_granted=False)
        case "granted":
            return _granted(now, event)
        case "marketing_stop":
            return replace(now, is_marketing_stopped=True)
        case "marketing_resume":
            return replace(now, is_marketing_stopped=False)


def _granted(now: _Standing, event: ConsentEvent) -> _Standing:
    """The operator's evidence lifts everything; anybody else's word counts only where nothing is revoked."""
    if event.source == "operator" and event.has_evidence:
        return replace(now, is_stopped=False, is_withdrawn=False, is_granted=True)
    return now if now.is_revoked else replace(now, is_granted=True)

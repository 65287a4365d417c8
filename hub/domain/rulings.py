"""What the rules said of a message when it was accepted: noted then, told in words when somebody asks.

A ruling holds no content and nothing of the customer's: numbers, times, codes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from hub.domain import window
from hub.domain.policy import AUTOMATION, SendFacts


@dataclass(frozen=True, slots=True)
class Ruling:
    """One rule that was judged, how it came out, and by what."""

    rule: str
    outcome: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def view(self) -> dict[str, Any]:
        """As it is kept."""
        return {"rule": self.rule, "outcome": self.outcome, "facts": dict(self.facts)}


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What else there was to judge when a message was accepted. `is_keyed`: whether the request carried an
    Idempotency-Key, None where nobody said; `links`: how many were replaced by tracked ones.
    """

    is_keyed: bool | None
    warnings: Sequence[str]
    send_at: datetime | None = None
    must_wait: bool = False
    links: int = 0
    is_personal: bool = False


def rulings(facts: SendFacts, accepted: Acceptance) -> list[Ruling]:
    """Every rule that a message passed, in the order in which they are judged."""
    found = [_right(facts), _consent(facts), _window(facts)]
    if accepted.is_keyed is not None:
        found.insert(0, Ruling("E6", "keyed" if accepted.is_keyed else "not_keyed"))
    found += [
        Ruling("D3" if code == "newer_messages" else "D2", "warned", {"code": code}) for code in accepted.warnings
    ]
    if accepted.links:
        found.append(Ruling("K1", "tracked", {"links": accepted.links, "is_personal": accepted.is_personal}))
    if accepted.send_at:
        found.append(Ruling("E11", "scheduled", {"send_at": accepted.send_at.astimezone(UTC).isoformat()}))
    if accepted.must_wait:
        found.append(Ruling("E2", "held"))
    return found


def _right(facts: SendFacts) -> Ruling:
    """Whose it is to send such a message (E2, E3, A3)."""
    if facts.origin not in AUTOMATION:
        return Ruling("E3", "agent")
    if facts.channel_kind == "standalone":
        return Ruling("A3", "allowed")
    return Ruling("E2", "parent", {"parent_epoch": facts.parent_epoch, "claimed_epoch": facts.claimed_epoch})


def _consent(facts: SendFacts) -> Ruling:
    return Ruling("E5", facts.consent.status, {"medium": facts.medium, "origin": facts.origin})


def _window(facts: SendFacts) -> Ruling:
    if facts.medium != "whatsapp":
        return Ruling("E4", "no_window")
    if not facts.is_free_form:
        return Ruling("E4", "template")
    closes = window.expires_at(facts.medium, facts.last_customer_at)
    return Ruling("E4", "open", {"closes_at": closes.astimezone(UTC).isoformat() if closes else None})


# In words -----------------------------------------------------------------------------------------------------------

_Tell = Callable[[Mapping[str, Any]], str]


def _told(text: str) -> _Tell:
    return lambda facts: text


def _parent(facts: Mapping[str, Any]) -> str:
    claimed = facts.get("claimed_epoch")
    said = "which the request named" if claimed is not None else "the request named none"
    return f"automation, of the channel's parent at epoch {facts.get('parent_epoch')}, {said}"


def _warned(facts: Mapping[str, Any]) -> str:
    return f"sent all the same, the answer warned: {facts.get('code')}"


def _tracked(facts: Mapping[str, Any]) -> str:
    count = facts.get("links")
    whose = "telling who clicked" if facts.get("is_personal") else "not telling who clicked: no consent to tracking"
    return f"{count} {'links go' if count != 1 else 'link goes'} through the link host, {whose}"


def _time(facts: Mapping[str, Any], name: str) -> str:
    text = facts.get(name)
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC" if text else "an unknown time"


_TEXTS: Final[Mapping[tuple[str, str], _Tell]] = {
    ("E6", "keyed"): _told("the request carried an Idempotency-Key: repeated within 24 hours it gets the first answer"),
    ("E6", "not_keyed"): _told("the request carried no Idempotency-Key: repeated, it is another message"),
    ("E3", "agent"): _told("an agent's message, which any service of the channel may send, within the limits"),
    ("A3", "allowed"): _told("automation of a standalone channel, which the operator allows on this number"),
    ("E2", "parent"): _parent,
    ("E5", "granted"): _told("the customer agreed to be written to on this medium"),
    ("E5", "pending"): _told("the customer is asked for consent and has not answered; this message does not need it"),
    ("E5", "unknown"): _told("the customer has said nothing for or against; this message does not need consent"),
    ("E5", "revoked"): _told("the customer wants no automation on this medium; an agent may answer them"),
    ("E4", "no_window"): _told("SMS has no reply window"),
    ("E4", "template"): _told("a template, which needs no open reply window"),
    ("E4", "open"): lambda facts: f"the reply window was open, until {_time(facts, 'closes_at')}",
    ("D2", "warned"): _warned,
    ("D3", "warned"): _warned,
    ("K1", "tracked"): _tracked,
    ("E11", "scheduled"): lambda facts: f"waits until {_time(facts, 'send_at')}, and is judged again then",
    ("E2", "held"): _told("waits until Meta's own agent gives the conversation back"),
}


def tell(ruling: Mapping[str, Any]) -> dict[str, Any]:
    """A ruling as it was kept, in words; one that another version noted by its codes."""
    rule, outcome, facts = ruling["rule"], ruling["outcome"], ruling.get("facts") or {}
    told = _TEXTS.get((rule, outcome))
    return {"rule": rule, "outcome": outcome, "text": told(facts) if told else f"{rule}: {outcome}"}

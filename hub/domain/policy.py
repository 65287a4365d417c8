"""May this service send this message now? (rules E1, E2, E4, A3)"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.domain import window
from hub.domain.errors import Conflict, Refusal
from hub.domain.ids import public_id

AUTOMATION: Final = frozenset({"chatbot", "auto_reply", "workflow", "notification", "scheduled", "campaign"})

PRIORITY_AGENT: Final = 0
PRIORITY_AUTOMATION: Final = 1
PRIORITY_BULK: Final = 2


@dataclass(frozen=True, slots=True)
class Parent:
    """Who may automate on a channel, since when, at which epoch."""

    service_id: UUID
    name: str
    since: datetime
    epoch: int

    def view(self) -> dict[str, Any]:
        """As the API and the events show it."""
        return {
            "service_id": public_id("svc", self.service_id),
            "name": self.name,
            "since": self.since,
            "epoch": self.epoch,
        }


@dataclass(frozen=True, slots=True)
class SendFacts:
    """All that the decision depends on, read in the transaction that acts on it."""

    origin: str
    service_id: UUID
    medium: str
    channel_kind: str
    parent: Parent | None
    parent_epoch: int
    claimed_epoch: int | None
    last_customer_at: datetime | None
    is_free_form: bool


def priority(origin: str) -> int:
    """The lane of a message within its sender's rate: agents first, campaigns last (rule E9)."""
    if origin == "agent":
        return PRIORITY_AGENT
    return PRIORITY_BULK if origin == "campaign" else PRIORITY_AUTOMATION


def may_automate(channel_kind: str, service_id: UUID, parent: Parent | None) -> bool:
    """Whether a service may send automation on a channel (A3, E2)."""
    return channel_kind == "shared" and parent is not None and parent.service_id == service_id


def check_send(facts: SendFacts, now: datetime) -> Refusal | None:
    """The refusal that stands against this message, or None. Asked when it is accepted and again when it is claimed."""
    if facts.origin in AUTOMATION:
        refusal = _check_automation(facts)
        if refusal:
            return refusal
    if facts.is_free_form and not window.is_open(facts.medium, facts.last_customer_at, now):
        closed = window.expires_at(facts.medium, facts.last_customer_at)
        return Conflict(
            "The reply window of this conversation is closed: a template is needed (rule E4).",
            code="reply_window_closed",
            closed_at=closed,
        )
    return None


def _check_automation(facts: SendFacts) -> Refusal | None:
    if facts.channel_kind == "standalone":
        return Conflict(
            "The number is shared: only the parent of its shared channel may automate (rule A3).",
            code="number_shared",
        )
    parent = facts.parent
    if parent is None or parent.service_id != facts.service_id:
        held = f"{parent.name} is" if parent else "nobody is"
        return Conflict(
            f"Only the parent of the channel may send automation; {held} the parent (rule E2).",
            code="not_parent",
            parent=parent.view() if parent else None,
        )
    if facts.claimed_epoch is not None and facts.claimed_epoch != facts.parent_epoch:
        return Conflict(
            "Parenthood changed since this message was decided on (rule E2).",
            code="not_parent",
            parent=parent.view(),
        )
    if facts.origin == "campaign":
        return Conflict(
            "The customer has not granted consent to campaigns on this medium (rule E5).", code="no_consent"
        )
    return None

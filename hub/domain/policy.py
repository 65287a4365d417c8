"""May this service send this message now? (rules E1, E2, E4, E5, A3)"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from hub.domain import window
from hub.domain.consent import NOTHING_SAID, Consent
from hub.domain.errors import Conflict, Fault, Invalid, Refusal
from hub.domain.ids import public_id

AUTOMATION: Final = frozenset({"chatbot", "auto_reply", "workflow", "notification", "scheduled", "campaign"})

SCHEDULED_AHEAD: Final = timedelta(days=366)
"""How far ahead a message may be scheduled (rule E11)."""
SCHEDULED_PAST: Final = timedelta(minutes=5)
"""How late a `send_at` may come in and still mean at once."""

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
    consent: Consent = NOTHING_SAID
    is_marketing: bool = False
    """A template of the provider's category marketing."""
    standalone_may_automate: bool = False


def priority(origin: str) -> int:
    """The lane of a message within its sender's rate: agents first, campaigns last (rule E9)."""
    if origin == "agent":
        return PRIORITY_AGENT
    return PRIORITY_BULK if origin == "campaign" else PRIORITY_AUTOMATION


def must_wait(origin: str, held_by: str | None) -> bool:
    """Whether a message waits until its conversation is given back: automation does while Meta's own agent holds it,
    lest two of them talk; a person's reply goes out.
    """
    return held_by is not None and origin in AUTOMATION


def takes_control(origin: str, kind: str) -> bool:
    """Whether a message, once the provider has taken it, makes a conversation ours that Meta's agent holds: an agent's
    does, unless it is a template, which leaves the hands at Meta as they are.
    """
    return origin not in AUTOMATION and kind != "template"


def check_send_at(send_at: datetime | None, now: datetime) -> Refusal | None:
    """Whether a message may be sent at that time; that it is automation is for the schema to say (E1, E11)."""
    if send_at is None or now - SCHEDULED_PAST <= send_at <= now + SCHEDULED_AHEAD:
        return None
    sentence = "is over a year ahead: schedule it later" if send_at > now else "is past: leave it out to send at once"
    return Invalid("send_at cannot be kept (rule E11)", errors=[Fault("/send_at", "out_of_range", sentence)])


def may_automate(
    channel_kind: str, service_id: UUID, parent: Parent | None, *, standalone_may_automate: bool = False
) -> bool:
    """Whether a service may send automation on a channel (A3, E2)."""
    if channel_kind == "standalone":
        return standalone_may_automate
    return parent is not None and parent.service_id == service_id


def check_send(facts: SendFacts, now: datetime) -> Refusal | None:
    """The refusal that stands against this message, or None. Asked when it is accepted and again when it is claimed."""
    if facts.origin in AUTOMATION:
        refusal = _check_automation(facts)
        if refusal:
            return refusal
    return _check_consent(facts) or _check_window(facts, now)


def _check_consent(facts: SendFacts) -> Refusal | None:
    """A revocation stops everything on SMS, and automation on WhatsApp; campaigns need more than none (E5)."""
    consent, is_automation = facts.consent, facts.origin in AUTOMATION
    if consent.is_revoked and (facts.medium == "sms" or is_automation):
        return _no_consent(
            "The customer has asked not to be written to on this medium; only they can take that back, by START or"
            " through the operator"
        )
    if facts.origin == "campaign" and not consent.is_granted:
        return _no_consent(
            "A campaign needs the customer's consent on this medium: record it with PUT /v1/consents, once they gave it"
        )
    if facts.is_marketing and consent.is_marketing_stopped:
        return _no_consent("The customer has stopped marketing messages in WhatsApp; send no marketing template")
    return None


def _no_consent(sentence: str) -> Refusal:
    return Conflict(f"{sentence} (rule E5).", code="no_consent")


def _check_window(facts: SendFacts, now: datetime) -> Refusal | None:
    if not facts.is_free_form or window.is_open(facts.medium, facts.last_customer_at, now):
        return None
    return Conflict(
        "The reply window of this conversation is closed: a template is needed, or a message of the customer's that"
        " opens it again (rule E4).",
        code="reply_window_closed",
        closed_at=window.expires_at(facts.medium, facts.last_customer_at),
    )


def _check_automation(facts: SendFacts) -> Refusal | None:
    if facts.channel_kind == "standalone":
        if facts.standalone_may_automate:
            return None
        return Conflict(
            "The number is shared: only the parent of its shared channel may automate (rule A3). Let an agent write, or"
            " ask the operator to allow this service's automation.",
            code="number_shared",
        )
    parent = facts.parent
    if parent is None or parent.service_id != facts.service_id:
        held = f"{parent.name} is" if parent else "nobody is"
        return Conflict(
            f"Only the parent of the channel may send automation; {held} the parent (rule E2). Leave it to the parent,"
            " or let an agent write.",
            code="not_parent",
            parent=parent.view() if parent else None,
        )
    if facts.claimed_epoch is not None and facts.claimed_epoch != facts.parent_epoch:
        return Conflict(
            "Parenthood changed since this message was decided on (rule E2). Decide again, by an event of the present"
            " epoch.",
            code="not_parent",
            parent=parent.view(),
        )
    return None

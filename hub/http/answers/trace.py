"""The life of one message, from the provider's webhook or the service's request to the last delivery."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hub.http.answers.admin_messages import PlacedMasked, PlacedMessage
from hub.http.answers.base import MAYBE, EventId, MessageId, Phone, Strict, Time, id_of
from hub.http.answers.click_reports import LinkReport
from hub.http.answers.messages import Conversation, Message, Status
from hub.http.answers.people import Contact, Named


class TracedQuarantine(Strict):
    """An entry of the quarantine."""

    id: int
    reason: str
    state: Literal["open", "noted", "replayed"]
    times: int
    received_at: Time
    last_received_at: Time
    replayed_at: Time | None


class Ingress(Strict):
    """How a message was taken in."""

    taken_in_at: Time
    provider: str | None
    provider_id: str | None
    provider_time: Time | None
    key: str | None = Field(description="What repeats of it are recognised by (rule B4).")
    key_seen_at: Time | None = Field(description="Since when repeats are dropped; null: not any more.")
    reconciled: bool = Field(description="From the provider's list; its webhook never came.")
    history: bool
    unrouted: bool
    quarantine: list[TracedQuarantine]


class Ruling(Strict):
    """What a rule said of the message."""

    rule: str
    outcome: str
    text: str


class ProviderCall(Strict):
    """A call of the provider."""

    attempt: int
    at: Time
    took_ms: int | None
    requests: int = Field(description="HTTP requests of the call.")
    outcome: Literal["taken", "refused", "not_taken", "unknown"]
    code: str | None
    provider_code: str | None


class TracedStatus(Strict):
    """A status that was reported; `status` is null where it changed nothing."""

    status: Status | None
    reported: str
    at: Time
    provider_time: Time | None
    code: str | None


class TracedAttempt(Strict):
    """An attempt to deliver an event."""

    at: Time
    outcome: Literal["delivered", "refused", "failed", "gone"]
    http_status: int | None
    duration_ms: int | None
    detail: str | None


class TracedParked(Strict):
    """The conversation's deliveries wait."""

    since: Time
    attempts: int
    next_attempt_at: Time | None
    held: bool
    last_error: str | None
    behind_event_id: EventId | None = Field(description="The event that fails, where it is another one.")


class TracedDead(Strict):
    """It was given up."""

    at: Time
    attempts: int
    last_error: str | None


class TracedDelivery(Strict):
    """What became of an event for one service."""

    service: Named
    subscription_id: Annotated[str, id_of("sub")]
    number: Phone
    outcome: Literal[
        "delivered", "dead", "filtered", "expired", "parked", "disconnected", "pull", "settled", "paused", "waiting"
    ]
    attempts: list[TracedAttempt]
    parked: TracedParked | None
    dead: TracedDead | None
    masked: bool = Field(description="Whether that service gets it masked.")


class TracedEvent(Strict):
    """An event, and where it went; a service sees its own deliveries only."""

    event_id: EventId
    type: str
    at: Time
    sequence: int | None
    deliveries: list[TracedDelivery]


class Gone(Strict):
    """A part that is kept no longer, and why."""

    part: str
    text: str


class Step(Strict):
    """Something that happened, in a sentence."""

    at: Time
    what: str
    text: str


class ShownEvent(Strict):
    """An event as a webhook would carry it."""

    type: str
    timestamp: Time
    data: dict[str, Any]


class Trace(Strict):
    """All that is known of what happened; what it is about, `kind` says."""

    kind: Literal["message", "event", "conversation", "provider_id"]
    id: str
    message: PlacedMasked | PlacedMessage | None
    conversation: Conversation | None
    contact: Contact | None
    ingress: Ingress | None = Field(description="Of a message that came in.")
    rules: list[Ruling]
    provider_calls: list[ProviderCall] = Field(description="Of a message that went out.")
    statuses: list[TracedStatus]
    events: list[TracedEvent]
    links: list[LinkReport]
    gone: list[Gone]
    also: list[MessageId] = Field(description="Other messages with this provider's id.")
    steps: list[Step] = Field(description="All of it in the order of time.")
    event: Annotated[ShownEvent, Field(description="Of an event.")] = MAYBE
    messages: Annotated[list[Message], Field(description="Of a conversation: its latest.")] = MAYBE
    quarantine: Annotated[list[TracedQuarantine], Field(description="Of a provider's id.")] = MAYBE

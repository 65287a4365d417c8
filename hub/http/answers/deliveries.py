"""Deliveries, dead letters and replays, as answers show them (rule G3)."""

from typing import Any, Literal

from hub.http.answers.base import MAYBE, ConversationId, EventId, Page, Phone, ServiceId, Strict, Time


class Attempt(Strict):
    """One attempt to deliver an event."""

    event_id: EventId
    type: str | None
    at: Time
    outcome: Literal["delivered", "refused", "failed", "gone"]
    http_status: int | None
    duration_ms: int | None
    detail: str | None


class Attempts(Page[Attempt]):
    """Attempts, newest first; a page may be short, or empty, and yet have a next one."""


class Parked(Strict):
    """A conversation (null: the channel's own events) whose deliveries wait."""

    number: Phone
    conversation_id: ConversationId | None
    first_event_id: EventId
    attempts: int
    next_attempt_at: Time | None
    held: bool
    last_error: str | None
    parked_at: Time


class ParkedPage(Page[Parked]):
    """What waits, by age."""


class DeadLetter(Strict):
    """An event that was given up; one that the log has dropped has no type."""

    event_id: EventId
    type: str | None
    timestamp: Time | None
    number: Phone
    conversation_id: ConversationId | None
    attempts: int
    last_error: str | None
    at: Time
    holds_conversation: bool


class DeadLetters(Page[DeadLetter]):
    """Dead letters by age."""


class Dropped(Strict):
    """How many dead letters were given up for good."""

    dropped: int


class Selected(Strict):
    """Which events a replay is of."""

    event_ids: list[EventId] = MAYBE
    from_event_id: EventId = MAYBE
    to_event_id: EventId = MAYBE
    since: Time = MAYBE
    until: Time = MAYBE
    failed: Literal[True] = MAYBE
    conversation_id: ConversationId = MAYBE
    expired_events: int = MAYBE


class Progress(Strict):
    """How far a replay is."""

    events_delivered: int
    failed: int
    shards_left: int


class Replay(Strict):
    """Events delivered once more."""

    id: str
    service_id: ServiceId
    number: Phone
    state: Literal["running", "finished", "cancelled"]
    selection: Selected
    progress: Progress
    asked_by: str
    created_at: Time
    finished_at: Time | None


class Replays(Page[Replay]):
    """Replays, newest first."""


Anything = dict[str, Any]

"""Events: what the log holds and every subscriber hears."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from hub.domain.ids import shard_of

EVENT_TYPES: Final = (
    "message.received",
    "message.queued",
    "message.status",
    "message.edited",
    "message.deleted",
    "reaction.changed",
    "conversation.picked_up",
    "conversation.released",
    "conversation.passed",
    "conversation.collision",
    "conversation.handover",
    "service.connected",
    "service.disconnected",
    "service.paused",
    "service.resumed",
    "subscription.expired",
    "channel.parent_changed",
    "channel.unrouted",
    "profile.erased",
    "consent.changed",
    "link.clicked",
    "visitor.identified",
    "profile.updated",
    "profile.merge_suggested",
    "profile.merged",
    "profile.unmerged",
    "template.changed",
    "sender.health_changed",
)
"""Every type this version emits; docs/events.md has an example of each."""

ROSTER_EVENTS: Final = frozenset(
    {"service.connected", "service.disconnected", "service.paused", "service.resumed", "channel.parent_changed"}
)
"""Those after which the list of who hears a channel is different."""

OPERATOR_ONLY: Final[tuple[UUID, ...]] = ()
"""The audience of events that no service hears."""


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event before it has a place in the log.

    `data` is the whole truth, unmasked, but for what `whole` adds from the event's own fields. `audience` names the
    only services that hear it (None: all of the channel).
    `lane` is the conversation's id, or the channel's where the event has no conversation. `written_at`: when the
    message was written that it is about, where that was not just now (C2). `picked_up_by`: who holds the conversation,
    as `ConversationState` has it.
    """

    type: str
    lane: UUID
    at: datetime
    data: dict[str, Any]
    number_id: int | None = None
    channel_id: UUID | None = None
    conversation_id: UUID | None = None
    sequence: int | None = None
    reply_window_expires_at: datetime | None = None
    message_id: UUID | None = None
    author_service_id: UUID | None = None
    audience: Sequence[UUID] | None = None
    written_at: datetime | None = None
    picked_up_by: str | None = None

    @property
    def shard(self) -> int:
        """Which of the 64 shards of the log it belongs to."""
        return shard_of(self.lane)


@dataclass(slots=True)
class Event:
    """An event in the log: `prev_id` is its predecessor's id in the same shard (0 for the first).

    `data` is the JSON of the draft's; `views` keeps what was rendered of it, one body for all who see the same.
    """

    id: int
    shard: int
    prev_id: int
    type: str
    at: datetime
    channel_id: UUID | None
    conversation_id: UUID | None
    sequence: int | None
    reply_window_expires_at: datetime | None
    author_service_id: UUID | None
    audience: Sequence[UUID] | None
    data: str
    written_at: datetime | None = None
    picked_up_by: str | None = None
    views: dict[Hashable, bytes] = field(default_factory=dict)
    differs: bool | None = None
    """Whether it may hold what each service sees otherwise; None until somebody has looked."""

    @property
    def lane(self) -> UUID:
        """What keeps order: the conversation, or else the channel."""
        lane = self.conversation_id or self.channel_id
        assert lane is not None
        return lane


def _holder(event: Event) -> dict[str, Any] | None:
    """Who held the conversation when the event was logged; a lease that was over by then counts no more."""
    holder: dict[str, Any] | None = orjson.loads(event.picked_up_by) if event.picked_up_by else None
    return holder if holder and datetime.fromisoformat(holder["expires_at"]) > event.at else None


def whole(event: Event) -> dict[str, Any]:
    """An event's data, complete: its number in the conversation and the reply window are known when it is logged. That
    Meta's agent holds the conversation is said in the data; where nothing is, it is ours.
    """
    data: dict[str, Any] = orjson.loads(event.data)
    if "conversation" in data:
        data["conversation"] |= {
            "sequence": event.sequence,
            "reply_window_expires_at": event.reply_window_expires_at,
            "picked_up_by": _holder(event),
            "held_by": data["conversation"].get("held_by"),
        }
    if event.type == "message.received":
        data["message"].setdefault("sequence", event.sequence)
    return data

"""What one transaction knows of its items, holds locked, and is going to write."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hub.actions.arrivals import Entry
from hub.actions.inbound_media import InboundMedia
from hub.actions.resolve import Directory, Thread, ThreadKey, identity
from hub.domain.events import EventDraft
from hub.domain.ids import new_id
from hub.store.conversations import ConversationState
from hub.store.messages import MessageDraft
from hub.store.pool import Connection
from hub.store.routes import ChannelRoute, Route
from providers.base import MessageReceived

Placed = tuple[Entry, Route, str]
"""An entry of the timeline to be, where it goes, and the provider it came from."""


@dataclass(slots=True)
class Batch:
    """The working state of one transaction over fresh items.

    `found` are threads that were not in memory, `learned` those of them that may be. `targets` are messages by
    conversation and provider id: what is in the timeline, or will be. `moved` are conversations that have to be written
    back, `given_back` those that Meta's agent had until now.
    """

    conn: Connection
    directory: Directory
    now: datetime
    threads: dict[ThreadKey, Thread] = field(default_factory=dict)
    found: frozenset[ThreadKey] = frozenset()
    learned: dict[ThreadKey, Thread] = field(default_factory=dict)
    states: dict[UUID, ConversationState] = field(default_factory=dict)
    numbered: dict[UUID, int] = field(default_factory=dict)
    moved: set[UUID] = field(default_factory=set)
    given_back: set[UUID] = field(default_factory=set)
    targets: dict[tuple[UUID, str], Mapping[str, Any]] = field(default_factory=dict)
    media: InboundMedia = field(default_factory=InboundMedia)
    stored: list[MessageDraft] = field(default_factory=list)
    drafts: list[EventDraft] = field(default_factory=list)

    def thread(self, item: Entry, route: Route, channel: ChannelRoute) -> Thread:
        """The customer's conversation in a channel."""
        return self.threads[channel.id, route.medium, identity(item.customer)]

    def write(
        self, item: MessageReceived, route: Route, channel: ChannelRoute, provider: str, state: ConversationState,
        sequence: int,
    ) -> MessageDraft:  # fmt: skip
        """Put what a provider told into the timeline, at this place."""
        is_sent = is_ours(item)
        draft = MessageDraft(
            id=new_id(),
            number_id=state.number_id,
            channel_id=state.channel_id,
            conversation_id=state.id,
            sequence=sequence,
            direction="outbound" if is_sent else "inbound",
            medium=state.medium,
            type=item.type,
            origin=item.origin,
            content=told_content(self.media.name(item, route.sender_id, self.now)),
            provider=provider,
            created_at=self.now,
            provider_id=item.provider_id,
            provider_time=provider_time(item.at),
            status=(item.status or "sent") if is_sent else None,
            unrouted=channel.is_unrouted,
            raw=item.raw,
            reconciled=item.is_reconciled,
            history=item.is_history,
        )
        self.media.note(item, draft.id)
        self.store(draft)
        return draft

    def store(self, draft: MessageDraft) -> None:
        """Put a message into the timeline; what comes after it in this batch may be about it."""
        self.stored.append(draft)
        if draft.provider_id:
            self.targets[draft.conversation_id, draft.provider_id] = {
                "id": draft.id,
                "type": draft.type,
                "sequence": draft.sequence,
                "direction": draft.direction,
                "author_service_id": None,
                "created_at": draft.created_at,
                "history": draft.history,
            }

    def changed_states(self) -> list[ConversationState]:
        """The locked conversations that are not in the database as they are here."""
        return [s for s in self.states.values() if s.id in self.moved or s.last_sequence != self.numbered[s.id]]


def provider_time(at: float | None) -> datetime | None:
    """A provider's unix time."""
    return None if at is None else datetime.fromtimestamp(at, UTC)


def is_ours(item: MessageReceived) -> bool:
    """Whether the business said this, past the hub: from its phone app, or through Meta's own agent."""
    return item.origin == "echo" or item.content.get("sent_by") == "business"


def is_history(item: Entry) -> bool:
    """Whether it is from before the number was connected."""
    return isinstance(item, MessageReceived) and item.is_history


def told_content(content: Mapping[str, Any]) -> dict[str, Any]:
    """A message's content as it is kept: whose it is stands beside it."""
    return {name: part for name, part in content.items() if name != "sent_by"}

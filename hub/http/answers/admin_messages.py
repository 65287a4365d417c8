"""Messages and events of all channels, as the operator sees them: masked, or in full for a reason (rule C2)."""

from typing import Any

from pydantic import Field

from hub.http.answers.base import ChannelId, ConversationId, EventId, Page, Strict, Time
from hub.http.answers.messages import FullMessage, MaskedMessage


class PlacedMasked(MaskedMessage):
    """A masked message, and where it stands."""

    conversation_id: ConversationId
    channel_id: ChannelId


class PlacedMessage(FullMessage):
    """A message, and where it stands."""

    conversation_id: ConversationId
    channel_id: ChannelId


class LoggedEvent(Strict):
    """An event of the log."""

    event_id: EventId
    type: str
    timestamp: Time
    data: dict[str, Any] = Field(description="As services are told it; masked, as one that nobody shares with.")


class LoggedEvents(Page[LoggedEvent]):
    """Part of the event log, the oldest first."""

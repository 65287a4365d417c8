"""What news of who holds a conversation do: an entry in its timeline, an event, and what waited goes on.

For all of these the conversation is locked. `note_control`, then, where it says so, `handover_drafts` and, once it is
ours again, `release`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions import describe
from hub.domain import policy
from hub.domain.control import Control, Holder, heard
from hub.domain.events import EventDraft
from hub.domain.ids import new_id, public_id
from hub.store import conversations, messages, schedule
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.messages import MessageDraft
from hub.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Handover:
    """A change of hands: the timeline's entry, to be stored, and the event that tells of it, to be appended."""

    entry: MessageDraft
    event: EventDraft


async def catch_up(conn: Connection, states: Collection[ConversationState]) -> None:
    """Before news that Meta's agent has these conversations: what the customer wrote to us is news, too, and is noted
    in the timeline only.
    """
    written = await conversations.list_last_ordinary_at(conn, [state.id for state in states])
    for state in states:
        if state.held_by is None and (at := written.get(state.id)) and (state.control_at or at) <= at:
            state.control_at = at


def note_control(
    state: ConversationState, holder: Holder, at: datetime | None, now: datetime, *, is_inferred: bool = False
) -> bool:
    """Note in a locked conversation who holds it, by news of the provider's time `at`, or by what somebody wrote
    (`is_inferred`); True where the hands changed. The state has to be saved: that raises its generation.
    """
    before = Control(state.held_by, state.held_since, state.control_at)
    after = heard(before, holder, at, now, is_inferred=is_inferred)
    state.held_by, state.held_since, state.control_at = after.held_by, after.since, after.at
    return after.held_by != before.held_by


def handover_drafts(
    state: ConversationState, of: Contact, now: datetime, *, provider: str, at: datetime | None = None,
    content: Mapping[str, Any] | None = None, reason: str | None = None, provider_id: str | None = None,
    unrouted: bool = False,
) -> Handover:  # fmt: skip
    """The entry and the event of hands that have just changed (`note_control`); they take the next number.

    `content` is what a provider said of it (`handover`); `reason` what it was seen by otherwise: a `standby` message of
    the customer to Meta's agent, a `message` of theirs to us, or a `reply` of ours.
    """
    holder = "external" if state.held_by else "hub"
    words = {**((content or {}).get("handover") or {}), "holder": holder}
    if reason:
        words["reason"] = reason
    entry = MessageDraft(
        id=new_id(),
        number_id=state.number_id,
        channel_id=state.channel_id,
        conversation_id=state.id,
        sequence=state.next_sequence(),
        direction="inbound",
        medium=state.medium,
        type="handover",
        origin="external",
        content={"handover": words},
        provider=provider,
        created_at=now,
        provider_id=provider_id,
        provider_time=at,
        unrouted=unrouted,
    )
    event = describe.conversation_event(
        "conversation.handover", state, of, now, sequence=entry.sequence, message_id=entry.id,
        message=describe.received_message(entry),
        handover={"holder": holder, "since": state.held_since or state.control_at},
    )  # fmt: skip
    return Handover(entry, event)


def taken_back(
    state: ConversationState, of: Contact, sent: Mapping[str, Any], at: datetime, now: datetime
) -> Handover | None:
    """The provider has taken the message `sent`, which was handed to it at this time: by an agent's, a conversation
    that Meta's agent held is ours. The entry is to be stored, then what waited is to be released.
    """
    is_taken = state.held_by is not None and policy.takes_control(sent["origin"], sent["type"])
    if not is_taken or not note_control(state, "hub", at, now):
        return None
    by = describe.author(sent["author_service_id"], sent["author_name"])
    content = {"handover": {"by": by, "message_id": public_id("msg", sent["id"])}}
    return handover_drafts(state, of, now, provider=sent["provider"], content=content, reason="reply")


async def take_control(
    conn: Connection, state: ConversationState, of: Contact, sent: Mapping[str, Any], at: datetime, now: datetime
) -> list[EventDraft]:
    """The same, and all of it is done; gives the event."""
    done = taken_back(state, of, sent, at, now)
    if done is None:
        return []
    await messages.add_messages(conn, [done.entry])
    await release(conn, [state.id])
    return [done.event]


async def release(conn: Connection, conversation_ids: Collection[UUID]) -> None:
    """Conversations are ours again: what waited is queued, in the order it was accepted, and is judged again when it is
    claimed.
    """
    if conversation_ids:
        await schedule.release(conn, conversation_ids)

"""What a provider's refusal of a message says of its customer, brought into the ledger of consent (rule E5)."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.actions.consent_book import ConsentBook, Said, Wish, subject_of, wish_in
from hub.domain.consent import TOLD_BY_PROVIDER
from hub.domain.events import EventDraft
from hub.store import consents, conversations, messages
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection

_TELLING: Final = frozenset(code for _, code in TOLD_BY_PROVIDER)


async def find_wish(conn: Connection, message_id: UUID, errors: Collection[Mapping[str, Any] | None]) -> Wish | None:
    """What these errors of a message say of whom it was for: that they want no more; nearly always nothing."""
    if not any(error and str(error.get("provider_code")) in _TELLING for error in errors):
        return None
    row = (await messages.find_outbound(conn, [message_id]))[message_id]
    return wish_in(row["provider"], errors)


async def lock_concerned(conn: Connection, conversation_id: UUID, wish: Wish | None) -> dict[UUID, ConversationState]:
    """The message's conversation; with a wish all others with the customer over its medium too: they hear of it."""
    spoken = {conversation_id}
    if wish:
        await consents.lock(conn, (), spoken)
        spoken |= await consents.list_siblings(conn, spoken)
    return await conversations.lock(conn, spoken)


async def note_wish(
    conn: Connection, wish: Wish, message_id: UUID, states: Mapping[UUID, ConversationState], state: ConversationState,
    contact: Contact, now: datetime,
) -> list[EventDraft]:  # fmt: skip
    """Write it down as said in `state`, the message's own conversation; gives the events for all of `states`."""
    subject = subject_of(state.medium, [state.reply_to, *contact.addresses], contact)
    ledger = await ConsentBook.open(conn, [subject])
    said = Said(wish, state.number_id, state.e164, now, message_id=message_id)
    drafts = ledger.take(subject, said, states.values())
    await ledger.save(conn)
    return drafts

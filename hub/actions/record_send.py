"""Verb: write down how a provider answered a send (rules E7, E8)."""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.actions.consent_book import ConsentBook, Said, Wish, subject_of, wish_in
from hub.actions.report_status import Report, StatusBook, unparked
from hub.domain.backoff import SEND_SCHEDULE, delay
from hub.domain.consent import TOLD_BY_PROVIDER
from hub.domain.events import Event, EventDraft
from hub.store import consents, contacts, conversations, event_log, inbound, messages, outbox
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection
from providers.base import NotTaken, OutcomeUnknown, SendError, Sent

UNKNOWN_HOLDS: Final = 30.0
"""Seconds an unknown outcome keeps what follows in its conversation waiting (E8)."""
LONGEST_RETRY_AFTER: Final = 300.0
"""The longest wait, in seconds, that a provider may ask for: it stops the whole conversation."""
_RANDOM: Final = random.Random()  # noqa: S311  jitter, no secret

_TELLING: Final = frozenset(code for _, code in TOLD_BY_PROVIDER)

Outcome = Sent | SendError


async def record_send(
    conn: Connection, message_id: UUID, conversation_id: UUID, outcome: Outcome, attempts: int, now: datetime, *,
    is_repeat: bool = False,
) -> list[Event]:  # fmt: skip
    """Record the outcome of one send and settle its place in the queue; statuses that came early are applied.

    With `is_repeat` an earlier call with the same outcome may have been committed.
    """
    early: list[Report] = []
    if isinstance(outcome, Sent):
        await inbound.lock_provider_ids(conn, [outcome.provider_id])
        early = [unparked(row, now) for row in await inbound.take_orphans_of(conn, message_id, outcome.provider_id)]
    wish = await _find_wish(conn, message_id, outcome, early)
    states = await _lock(conn, conversation_id, wish)
    state = states[conversation_id]
    book = await StatusBook.open(conn, [message_id])
    contact = (await contacts.list_contacts(conn, [state.contact_id]))[state.contact_id]
    report = await _settle(conn, message_id, outcome, attempts, now, is_repeat=is_repeat)
    reports = [report, *early] if report else early
    taken = [book.take(message_id, report, state, contact) for report in reports]
    drafts = [draft for draft in taken if draft]
    await book.save(conn)
    if wish:
        drafts += await _note(conn, wish, message_id, states, state, contact, now)
    await conversations.save(conn, list(states.values()))
    return await event_log.append(conn, drafts)


async def _find_wish(conn: Connection, message_id: UUID, outcome: Outcome, early: Sequence[Report]) -> Wish | None:
    """What the provider says of the customer by refusing the message (E5), now or in a status that came early."""
    errors = [_error(outcome)] if isinstance(outcome, SendError) else [r.error for r in early if r.error]
    if not any(error["provider_code"] in _TELLING for error in errors):
        return None
    row = (await messages.find_outbound(conn, [message_id]))[message_id]
    return wish_in(row["provider"], errors)


async def _lock(conn: Connection, conversation_id: UUID, wish: Wish | None) -> dict[UUID, ConversationState]:
    """The conversation; and all others with the customer over its medium where they have to hear of something."""
    spoken = {conversation_id}
    if wish:
        await consents.lock(conn, (), spoken)
        spoken |= await consents.list_siblings(conn, spoken)
    return await conversations.lock(conn, spoken)


async def _note(
    conn: Connection, wish: Wish, message_id: UUID, states: Mapping[UUID, ConversationState], state: ConversationState,
    contact: Contact, now: datetime,
) -> list[EventDraft]:  # fmt: skip
    subject = subject_of(state.medium, [state.reply_to, *contact.addresses], contact)
    ledger = await ConsentBook.open(conn, [subject])
    said = Said(wish, state.number_id, state.e164, now, message_id=message_id)
    drafts = ledger.take(subject, said, states.values())
    await ledger.save(conn)
    return drafts


async def _settle(
    conn: Connection, message_id: UUID, outcome: Outcome, attempts: int, now: datetime, *, is_repeat: bool
) -> Report | None:
    """What to report, and what becomes of the queue's row. A retry to come is no report.

    Another process may have taken the sender for dead and have held the message as unknown; what was sent, refused or
    not taken all the same counts. Where that hold is over, the conversation went on: it is too late for a retry.
    """
    if isinstance(outcome, Sent):
        await outbox.finish(conn, message_id)
        return Report(outcome.status, outcome.status, now, provider_id=outcome.provider_id)
    if isinstance(outcome, OutcomeUnknown):
        is_held = await outbox.hold(conn, message_id, attempts, UNKNOWN_HOLDS)
        return Report("unknown", "unknown", now, error=_error(outcome)) if is_held else None
    if isinstance(outcome, NotTaken):
        wait = delay(SEND_SCHEDULE, attempts, _RANDOM)
        if wait is not None:
            wait = max(wait, min(outcome.retry_after or 0, LONGEST_RETRY_AFTER))
            if await outbox.postpone(conn, message_id, attempts, wait) or is_repeat:
                return None
    await outbox.finish(conn, message_id)
    return Report("failed", "failed", now, error=_error(outcome))


def _error(error: SendError) -> dict[str, str | None]:
    return {"code": error.code, "title": None, "detail": error.detail or None, "provider_code": error.provider_code}


async def abandon(
    conn: Connection, message_id: UUID, conversation_id: UUID, attempts: int, now: datetime
) -> list[Event]:
    """A sender ended between the provider call and its record: the outcome is unknown (E8)."""
    lost = OutcomeUnknown("sender_lost", "the process that was sending this ended before it knew")
    return await record_send(conn, message_id, conversation_id, lost, attempts, now)

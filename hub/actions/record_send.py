"""Verb: write down how a provider answered a send (rules E7, E8)."""

import random
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.actions.report_status import Report, StatusBook, unparked
from hub.actions.told_by_refusal import find_wish, lock_concerned, note_wish
from hub.domain.backoff import SEND_SCHEDULE, delay
from hub.domain.events import Event
from hub.store import contacts, conversations, event_log, inbound, outbox
from hub.store.pool import Connection
from providers.base import NotTaken, OutcomeUnknown, SendError, Sent

UNKNOWN_HOLDS: Final = 30.0
"""Seconds an unknown outcome keeps what follows in its conversation waiting (E8)."""
LONGEST_RETRY_AFTER: Final = 300.0
"""The longest wait, in seconds, that a provider may ask for: it stops the whole conversation."""
_RANDOM: Final = random.Random()  # noqa: S311  jitter, no secret

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
    errors = [_error(outcome)] if isinstance(outcome, SendError) else [report.error for report in early]
    wish = await find_wish(conn, message_id, errors)
    states = await lock_concerned(conn, conversation_id, wish)
    state = states[conversation_id]
    book = await StatusBook.open(conn, [message_id])
    contact = (await contacts.list_contacts(conn, [state.contact_id]))[state.contact_id]
    report = await _settle(conn, message_id, outcome, attempts, now, is_repeat=is_repeat)
    reports = [report, *early] if report else early
    taken = [book.take(message_id, report, state, contact) for report in reports]
    drafts = [draft for draft in taken if draft]
    await book.save(conn)
    if wish:
        drafts += await note_wish(conn, wish, message_id, states, state, contact, now)
    await conversations.save(conn, list(states.values()))
    return await event_log.append(conn, drafts)


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

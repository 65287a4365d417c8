"""Verbs: cancel what waits to be sent (rules A5, E7, E11)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.actions.report_status import Report, StatusBook
from hub.domain.errors import Conflict, Forbidden, NotFound
from hub.domain.events import Event, EventDraft
from hub.domain.ids import public_id
from hub.store import audit, contacts, conversations, event_log, messages, outbox, schedule
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection, Record

_NO_MESSAGE: Final = (
    "There is no such message on a channel this service is connected to (rule A4): take an id of a timeline."
)


async def find_to_cancel(conn: Connection, message_id: UUID, service_id: UUID) -> Record:
    """A message that a service wants to cancel: its own, on a channel it is connected to.

    Raises `NotFound`, `Forbidden` (`not_author`).
    """
    row = await messages.find_message(conn, message_id)
    if row is None or not await conversations.find_in_reach(conn, row["conversation_id"], service_id):
        raise NotFound(_NO_MESSAGE)
    if row["author_service_id"] != service_id:
        raise Forbidden(
            "Only the service that wrote a message may cancel it (rule E11); ask that service, or the operator.",
            code="not_author",
        )
    return row


async def cancel_for_operator(conn: Connection, message_id: UUID, actor: str, now: datetime) -> list[Event]:
    """Cancel anybody's message, with an audit row. Raises `NotFound`, `Conflict` (`not_cancellable`)."""
    row = await messages.find_message(conn, message_id)
    if row is None:
        raise NotFound("there is no such message")
    events = await cancel_message(conn, row, now)
    await audit.add_audit(
        conn,
        actor,
        "message.cancelled",
        number_id=row["number_id"],
        channel_id=row["channel_id"],
        subject=public_id("msg", message_id),
    )
    return events


async def cancel_message(conn: Connection, row: Record, now: datetime) -> list[Event]:
    """Take a message back that waits, for its time or for its turn (E11). Raises `Conflict` (`not_cancellable`).

    Claims lock the conversation as we do. What is moved into the outbox just now is waited for, and is there then.
    """
    message_id = row["id"]
    state = (await conversations.lock(conn, [row["conversation_id"]]))[row["conversation_id"]]
    is_taken = await schedule.take(conn, message_id) or await outbox.take(conn, message_id)
    book = await StatusBook.open(conn, [message_id])
    status = book.row(message_id)["status"]
    if not is_taken or status != "queued":
        raise Conflict(
            f"This message is {status or 'from the customer'}: only what is still queued can be cancelled (rule E11)."
            " Write another message to correct it.",
            code="not_cancellable",
            message_status=status,
        )
    people = await contacts.list_contacts(conn, [state.contact_id])
    draft = book.take(message_id, Report("cancelled", "cancelled", now), state, people[state.contact_id])
    await book.save(conn)
    await conversations.save(conn, [state])
    return await event_log.append(conn, [draft] if draft else [])


async def cancel_automation(
    conn: Connection,
    channel_id: UUID,
    service_id: UUID,
    states: Mapping[UUID, ConversationState],
    people: Mapping[UUID, Contact],
    now: datetime,
    *,
    code: str = "not_parent",
    detail: str = "Parenthood changed while it waited (rule A5).",
) -> list[EventDraft]:
    """Cancel what a service that may no longer automate has waiting or scheduled (A5). The caller holds the channel
    FOR UPDATE, has locked the conversations of `outbox.list_automation_conversations`, and saves them afterwards.
    """
    taken = await schedule.take_automation(conn, channel_id, service_id)  # first: what comes due moves to the outbox
    taken += await outbox.take_automation(conn, channel_id, service_id)
    book = await StatusBook.open(conn, [row["id"] for row in taken])
    error = {"code": code, "title": None, "detail": detail, "provider_code": None}
    drafts = []
    for row in taken:
        state = states[row["conversation_id"]]
        # What was tried, and was not taken, has failed: only what is still queued can be cancelled (E7).
        status = "cancelled" if book.row(row["id"])["status"] == "queued" else "failed"
        drafts.append(book.take(row["id"], Report(status, status, now, error=error), state, people[state.contact_id]))
    await book.save(conn)
    return [draft for draft in drafts if draft]

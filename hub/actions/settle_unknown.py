"""Verb: settle a send of unknown outcome by what the provider lists when it is asked (rule E8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.actions.claim import outbound
from hub.actions.report_status import Report, StatusBook, unparked
from hub.domain.events import Event
from hub.store import contacts, conversations, event_log, inbound, messages, numbers, outbox
from hub.store.pool import Connection
from providers.base import FoundSend, OutboundMessage


@dataclass(frozen=True, slots=True)
class Unknown:
    """What to ask the provider about: a message as it was handed over, and between which times."""

    message: OutboundMessage
    provider: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of it: `settled`, now or before, or `none` or `several`: nothing that counts."""

    outcome: str
    events: Sequence[Event] = ()


async def read_unknown(conn: Connection, message_id: UUID, conversation_id: UUID) -> Unknown | None:
    """A message whose outcome is still unknown; None where it is known by now, or its sender is another one."""
    state = (await conversations.lock(conn, [conversation_id]))[conversation_id]
    row = await messages.find_message(conn, message_id)
    if row is None or row["status"] != "unknown":
        return None
    sender = await numbers.find_sender(conn, state.number_id, state.medium)
    if sender is None or sender["provider"] != row["provider"]:
        return None
    at = {entry["reported"]: entry["at"] for entry in (await messages.list_statuses(conn, [message_id]))[message_id]}
    # Whatever was handed over before its last claim was certainly not taken: the first will do for the last.
    return Unknown(outbound(row, state, sender["external_id"]), row["provider"], at["sending"], at["unknown"])


async def settle_unknown(
    conn: Connection, message_id: UUID, conversation_id: UUID, found: Sequence[FoundSend], now: datetime
) -> Settled:
    """Take what the provider lists for the message's own, where nothing else can be meant: there is exactly one, it is
    no other message's, and no other that is like it waits for its own. It is then as if the provider had reported it.
    """
    if len(found) != 1:
        return Settled("several" if found else "none")
    (one,) = found
    await inbound.lock_provider_ids(conn, [one.provider_id])
    state = (await conversations.lock(conn, [conversation_id]))[conversation_id]
    book = await StatusBook.open(conn, [message_id])
    row = book.row(message_id)
    if row["status"] != "unknown":
        return Settled("settled")
    known = await messages.find_sent_as(conn, {(row["provider"], one.provider_id)})
    if any(other != message_id for targets in known.values() for other, _ in targets):
        return Settled("none")
    if row["provider_id"] not in {None, one.provider_id} or await outbox.has_alike(conn, message_id, conversation_id):
        return Settled("several")
    contact = (await contacts.list_contacts(conn, [state.contact_id]))[state.contact_id]
    error = one.errors[0] if one.errors else None
    reports = [Report(one.status, one.reported, now, error=error, provider_id=one.provider_id)]
    reports += [unparked(parked, now) for parked in await inbound.take_orphans_of(conn, message_id, one.provider_id)]
    drafts = [book.take(message_id, report, state, contact) for report in reports]
    await book.save(conn)
    await outbox.finish(conn, message_id)  # it was taken, so what follows in its conversation may go
    await conversations.save(conn, [state])
    return Settled("settled", await event_log.append(conn, [draft for draft in drafts if draft]))

"""Verb: settle a send of unknown outcome by what the provider lists when it is asked (rule E8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.actions.claim import outbound
from hub.actions.control import take_control
from hub.actions.report_status import Report, StatusBook, unparked
from hub.actions.told_by_refusal import find_wish, lock_concerned, note_wish
from hub.domain.events import Event
from hub.store import contacts, conversations, event_log, inbound, messages, numbers, outbox, sent_forms
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
    message = outbound(row, await sent_forms.find(conn, message_id), state, sender["external_id"])
    return Unknown(message, row["provider"], at["sending"], at["unknown"])


async def settle_unknown(
    conn: Connection, message_id: UUID, conversation_id: UUID, found: Sequence[FoundSend], now: datetime
) -> Settled:
    """Take what the provider lists for the message's own, where nothing else can be meant: there is exactly one, it is
    no other message's, and no other that is like it waits for its own. It is then as if the provider had reported it.
    """
    if len(found) != 1:
        return Settled("several" if found else "none")
    (one,) = found
    await inbound.lock_provider_ids(conn, [one.provider_id])  # nor can its callback come in meanwhile
    if outcome := await _why_not(conn, message_id, conversation_id, one):
        return Settled(outcome)
    reports = [Report(one.status, one.reported, now, error=next(iter(one.errors), None), provider_id=one.provider_id)]
    reports += [unparked(parked, now) for parked in await inbound.take_orphans_of(conn, message_id, one.provider_id)]
    return Settled("settled", await _take(conn, message_id, conversation_id, reports, now))


async def _why_not(conn: Connection, message_id: UUID, conversation_id: UUID, one: FoundSend) -> str | None:
    """What stands against taking this for the message's own; None: nothing else can be meant."""
    row = await messages.find_message(conn, message_id)
    if row is None or row["status"] != "unknown":
        return "settled"
    known = await messages.find_sent_as(conn, {(row["provider"], one.provider_id)})
    if any(other != message_id for targets in known.values() for other, _ in targets):
        return "none"
    is_other = row["provider_id"] not in {None, one.provider_id}
    return "several" if is_other or await outbox.has_alike(conn, message_id, conversation_id) else None


async def _take(
    conn: Connection, message_id: UUID, conversation_id: UUID, reports: Sequence[Report], now: datetime
) -> list[Event]:
    wish = await find_wish(conn, message_id, [report.error for report in reports])
    states = await lock_concerned(conn, conversation_id, wish)
    state = states[conversation_id]
    book = await StatusBook.open(conn, [message_id])
    contact = (await contacts.list_contacts(conn, [state.contact_id]))[state.contact_id]
    taken = [book.take(message_id, report, state, contact) for report in reports]
    drafts = [draft for draft in taken if draft]
    await book.save(conn)
    if wish:
        drafts += await note_wish(conn, wish, message_id, states, state, contact, now)
    if at := book.handed_over_at(message_id):
        drafts += await take_control(conn, state, contact, book.row(message_id), at, now)
    await outbox.finish(conn, message_id)  # it was taken, so what follows in its conversation may go
    await conversations.save(conn, list(states.values()))
    return await event_log.append(conn, drafts)

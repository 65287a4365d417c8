"""Verb: write down how a provider answered a send (rules E7, E8)."""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.actions.control import take_control
from hub.actions.report_status import Report, StatusBook, unparked
from hub.actions.sender_health import note_outcome
from hub.actions.told_by_refusal import find_wish, lock_concerned, note_wish
from hub.domain.addresses import phone_key
from hub.domain.backoff import SEND_SCHEDULE, delay
from hub.domain.events import Event
from hub.store import contacts, conversations, event_log, inbound, lives, outbox
from hub.store.conversations import ConversationState
from hub.store.lives import ProviderCall
from hub.store.pool import Connection
from providers.base import NotTaken, OutcomeUnknown, Refused, SendError, Sent

UNKNOWN_HOLDS: Final = 30.0
"""Seconds an unknown outcome keeps what follows in its conversation waiting (E8)."""
LONGEST_RETRY_AFTER: Final = 300.0
"""The longest wait, in seconds, that a provider may ask for: it stops the whole conversation."""
_AHEAD: Final = 0.9
"""What part of the wait that a provider asks for is kept with the message, for whoever takes the queue over. The owner
keeps all of it, for the sender: then the message is ready and has the place it had.
"""
_LONGEST_CODE: Final = 100
_RANDOM: Final = random.Random()  # noqa: S311  jitter, no secret

Outcome = Sent | SendError


@dataclass(frozen=True, slots=True)
class From:
    """The sender of a message, and whether something was known to be wrong with it when the message was handed out."""

    id: int
    is_unwell: bool


@dataclass(frozen=True, slots=True)
class Call:
    """How a message was handed to its provider: when that began, how long the answer took (None: nobody knows), and how
    many requests it were.
    """

    began_at: datetime
    took_ms: int | None
    requests: int


def outcome_name(outcome: Outcome) -> str:
    """What came of a send, in one word: taken, refused, not_taken or unknown (E8)."""
    if isinstance(outcome, Refused):
        return "refused"
    if isinstance(outcome, NotTaken):
        return "not_taken"
    return "unknown" if isinstance(outcome, SendError) else "taken"


async def record_send(
    conn: Connection, message_id: UUID, conversation_id: UUID, outcome: Outcome, attempts: int, now: datetime, *,
    is_repeat: bool = False, sent_to: str | None = None, sender: From | None = None,
    answered_at: datetime | None = None, call: Call | None = None,
) -> list[Event]:  # fmt: skip
    """Record the outcome of one send and settle its place in the queue; statuses that came early are applied.

    With `is_repeat` an earlier call with the same outcome may have been committed. `sent_to` is the form of the
    customer's number that the outcome is about, `sender` whose health it may tell of, `answered_at` when the provider
    told it, which may be long ago by now; `call` is what the message's life will tell of it.
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
    if isinstance(outcome, Sent):
        drafts += await take_control(conn, state, contact, book.row(message_id), answered_at or now, now)
    if wish:
        drafts += await note_wish(conn, wish, message_id, states, state, contact, now)
    _note_form(state, outcome, sent_to)
    await conversations.save(conn, list(states.values()))
    if sender:
        drafts += await note_outcome(conn, sender.id, outcome, now, is_unwell=sender.is_unwell)
    if call:
        await lives.add_call(conn, _told(message_id, attempts, outcome, call))
    return await event_log.append(conn, drafts)


def _told(message_id: UUID, attempts: int, outcome: Outcome, call: Call) -> ProviderCall:
    """Without the provider's text, which may hold what the customer is called by."""
    codes = (outcome.code, _storable(outcome.provider_code)) if isinstance(outcome, SendError) else ()
    name = outcome_name(outcome)
    return ProviderCall(message_id, call.began_at, attempts, call.took_ms, call.requests, name, *codes)


def _storable(code: str | None) -> str | None:
    """A provider's word, whatever it is: no outcome is lost for what is noted beside it."""
    return code and code[:_LONGEST_CODE].replace("\0", "").encode(errors="replace").decode()


def _note_form(state: ConversationState, outcome: Outcome, sent_to: str | None) -> None:
    """Remember the form of the customer's number that works for sending: what the provider makes of the number, or else
    what it took, or perhaps took. Only forms of the number that the customer is reported with.
    """
    if not isinstance(outcome, Sent | OutcomeUnknown) or state.reply_to.type != "phone":
        return
    known = phone_key(state.reply_to.value)
    told = outcome.phone if isinstance(outcome, Sent) else None
    form = next((form for form in (told, sent_to) if form and phone_key(form) == known), None)
    if form and (state.sends_to or form != state.reply_to.value):
        state.sends_to = form


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
        wait, is_throttled = await _wait(conn, message_id, outcome, attempts), outcome.code == "throttled"
        if wait is not None and (
            await outbox.postpone(conn, message_id, attempts, wait, is_throttled=is_throttled) or is_repeat
        ):
            return None
    await outbox.finish(conn, message_id)
    return Report("failed", "failed", now, error=_error(outcome))


async def _wait(conn: Connection, message_id: UUID, outcome: NotTaken, attempts: int) -> float | None:
    """Seconds until the next attempt; None: give up. What was throttled waits with its sender (E9), for as long as its
    kind may: that is judged at every claim, and is no failure of this message's.
    """
    asked = min(outcome.retry_after or 0.0, LONGEST_RETRY_AFTER)
    if outcome.code == "throttled":
        return asked * _AHEAD
    failed = max(1, attempts - await outbox.count_throttled(conn, message_id))
    wait = delay(SEND_SCHEDULE, failed, _RANDOM)
    return None if wait is None else max(wait, asked)


def _error(error: SendError) -> dict[str, str | None]:
    return {"code": error.code, "title": None, "detail": error.detail or None, "provider_code": error.provider_code}


async def abandon(
    conn: Connection, message_id: UUID, conversation_id: UUID, attempts: int, now: datetime
) -> list[Event]:
    """A sender ended between the provider call and its record: the outcome is unknown (E8)."""
    lost = OutcomeUnknown("sender_lost", "the process that was sending this ended before it knew")
    call = Call(now, None, 1)
    return await record_send(conn, message_id, conversation_id, lost, attempts, now, call=call)

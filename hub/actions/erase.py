"""Verbs: erase a customer, as the operator decides, or what one service brought of them (rule H5).

An erasure is one transaction: bodies are overwritten wherever they stand, ids and the order of things stay, and what
the customer refuses is still refused. Who writes again is a new contact. It is the one operation that cannot be undone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from hub.actions import describe
from hub.actions.announce import Place, channel_event
from hub.actions.report_status import Report, StatusBook
from hub.actions.view_contact import find_person, own_addresses
from hub.domain.addresses import Address
from hub.domain.consent import CONSENT_MEDIA, ConsentEvent
from hub.domain.erasing import contact_view, erase_answer, erase_event, refusals, traces
from hub.domain.events import Event, EventDraft
from hub.domain.ids import new_id, public_id
from hub.store import (
    audit,
    consents,
    contact_views,
    contacts,
    conversations,
    erasing,
    event_log,
    identity_locks,
    identity_ops,
    media_endings,
    profile_reach,
)
from hub.store.conversations import ConversationState
from hub.store.pool import Connection, Record, TryAgain


@dataclass(frozen=True, slots=True)
class Erased:
    """What is left to be shown; `files` are the hashes of files to be removed once this is committed."""

    view: dict[str, Any]
    events: list[Event]
    files: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class _Scene:
    """Everybody and everything an erasure is about. `root`: the contact that the others were merged into."""

    root: UUID
    contacts: tuple[UUID, ...]
    visitors: frozenset[UUID]
    erased_at: datetime | None


async def erase_contact(conn: Connection, contact_id: UUID, actor: str, now: datetime) -> Erased:
    """Erase a contact with all that is one profile with it. Once more, it changes nothing. Raises `NotFound`,
    `TryAgain` where the profile changed meanwhile: run the transaction again.
    """
    scene = await _look(conn, contact_id)
    if scene.erased_at:
        return Erased(_view(contact_id, scene.erased_at), [])
    states = await _lock(conn, scene)
    addresses = await erasing.list_addresses(conn, scene.contacts)
    hearers = await profile_reach.list_hearers(conn, scene.contacts)
    refused = await _find_refused(conn, scene)
    waiting = await erasing.take_waiting(conn, list(states))
    files = await media_endings.forget_files(conn, list(states))
    await erasing.forget_messages(conn, list(states))
    await _forget_copies(conn, scene, states, addresses)
    await erasing.forget_web(conn, scene.contacts)
    await erasing.forget_person(conn, scene.contacts, now)
    await erasing.forget_consents(conn, *refused)
    drafts = await _cancel(conn, waiting, states, now) + _tell(scene, states, hearers, now)
    await conversations.save(conn, list(states.values()))
    await erasing.close_conversations(conn, list(states))
    await _write_down(conn, scene, actor, now)
    return Erased(_view(contact_id, now), await event_log.append(conn, drafts), frozenset(files))


def _view(contact_id: UUID, at: datetime) -> dict[str, Any]:
    return {**contact_view(contact_id), "erased_at": at}


async def _look(conn: Connection, contact_id: UUID) -> _Scene:
    person = await find_person(conn, contact_id, None)
    visitors = await erasing.list_visitors(conn, person.ids)
    return _Scene(person.id, tuple(sorted(person.ids)), frozenset(visitors), person.rows[0]["erased_at"])


async def _lock(conn: Connection, scene: _Scene) -> dict[UUID, ConversationState]:
    """Everything in the order of locks; then the profile must be what it was when they were asked for. Gives the
    conversations, which nobody adds to any more: who finds or makes one locks the contact before.
    """
    await erasing.lock_operations(conn, scene.contacts)
    addresses = await erasing.list_addresses(conn, scene.contacts)
    await identity_locks.lock_addresses(conn, addresses)
    await identity_locks.lock_visitors(conn, scene.visitors)
    names = {consents.name_key(medium, address) for medium in CONSENT_MEDIA for address in addresses}
    await consents.lock(conn, names, ())
    await identity_locks.lock_links(conn, await erasing.list_links(conn, scene.contacts))
    await identity_locks.lock_contacts(conn, scene.contacts)
    if await _look(conn, scene.root) != scene or not await erasing.lock_new_operations(conn, scene.contacts):
        raise TryAgain("the profile to be erased has changed")
    return await conversations.lock(conn, await erasing.list_conversations(conn, scene.contacts))


# What is refused ----------------------------------------------------------------------------------------------------

_Refused = tuple[list[Address], list[tuple[str, Address, int | None, str]]]


async def _find_refused(conn: Connection, scene: _Scene) -> _Refused:
    """The addresses whose ledgers are the customer's own, not somebody else's who has the address, too, or by now; and
    what is refused by them.
    """
    own = await own_addresses(conn, scene.contacts)
    ledgers: dict[tuple[str, str, str], list[ConsentEvent]] = {}
    by_key: dict[tuple[str, str], Address] = {(address.type, address.match_key): address for address in own}
    for row in await contact_views.list_consents(conn, list(by_key)):
        event = ConsentEvent(
            row["kind"], row["number_id"], row["source"], row["at"], row["has_evidence"], row["is_over"]
        )
        ledgers.setdefault((row["medium"], row["type"], row["match_key"]), []).append(event)
    kept: list[tuple[str, Address, int | None, str]] = []
    for (medium, kind, key), events in ledgers.items():
        kept += [(medium, by_key[kind, key], number_id, said) for said, number_id in refusals(events)]
    return own, kept


# What stands elsewhere ----------------------------------------------------------------------------------------------


async def _forget_copies(
    conn: Connection, scene: _Scene, states: Mapping[UUID, ConversationState], addresses: Collection[Address]
) -> None:
    """In the event log, in quarantine, and in answers kept for repeated requests."""
    spelt = traces(addresses)
    ids = [public_id("con", contact) for contact in scene.contacts]
    after = 0
    while rows := await erasing.list_events(conn, list(states), after):
        await _overwrite(conn, rows)
        after = rows[-1]["id"]
    after = 0
    while rows := await erasing.list_channel_events(conn, [*ids, *spelt], after):
        await _overwrite(conn, rows)
        after = rows[-1]["id"]
    await erasing.forget_quarantine(conn, spelt)
    for row in await erasing.list_answers(conn, [*ids, *(public_id("cnv", key) for key in states), *spelt]):
        await erasing.write_answer(conn, row, orjson.dumps(erase_answer(_read(row["answer"]))).decode())


def _read(answer: str) -> Any:
    """An answer that is kept sealed is no JSON."""
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None


async def _overwrite(conn: Connection, rows: Sequence[Record]) -> None:
    datas = {row["id"]: orjson.dumps(erase_event(orjson.loads(row["data"]))).decode() for row in rows}
    await erasing.write_events(conn, datas)


# Telling ------------------------------------------------------------------------------------------------------------


async def _cancel(
    conn: Connection, waiting: Collection[UUID], states: Mapping[UUID, ConversationState], now: datetime
) -> list[EventDraft]:
    """What waited is not sent any more; what was tried, and was not taken, has failed (E7)."""
    book = await StatusBook.open(conn, waiting)
    people = await contacts.list_contacts(conn, {state.contact_id for state in states.values()})
    drafts = []
    for message_id in waiting:
        state = states[book.row(message_id)["conversation_id"]]
        status = "cancelled" if book.row(message_id)["status"] == "queued" else "failed"
        drafts.append(book.take(message_id, Report(status, status, now), state, people[state.contact_id]))
    await book.save(conn)
    return [draft for draft in drafts if draft]


def _tell(
    scene: _Scene, states: Mapping[UUID, ConversationState], hearers: Sequence[Record], now: datetime
) -> list[EventDraft]:
    """`profile.erased` to every conversation with them: who has heard what they said must know. And to those that knew
    the profile otherwise.
    """
    who, reached = contact_view(scene.root), {state.channel_id for state in states.values()}
    drafts = []
    for state in sorted(states.values(), key=lambda state: state.id):
        contact = contacts.Contact(state.contact_id, None, ())
        draft = describe.conversation_event("profile.erased", state, contact, now, profile={"id": who["id"]})
        draft.data["contact"] = contact_view(state.contact_id)
        drafts.append(draft)
    for row in hearers:
        if row["channel_id"] not in reached:
            place = Place(row["number_id"], row["e164"], row["channel_id"])
            drafts.append(
                channel_event(
                    "profile.erased", place, now, audience=row["services"], contact=who, profile={"id": who["id"]}
                )
            )
    return drafts


async def _write_down(conn: Connection, scene: _Scene, actor: str, now: datetime) -> None:
    """The ledger's row, which is never undone, and the audit's."""
    place = await identity_ops.add(
        conn, new_id(), "erasure", actor, "H5", now, service_id=None, visitor_id=None, contact_id=scene.root
    )
    await identity_ops.write(conn, place, (), {f"contact:{contact.hex}": True for contact in scene.contacts})
    await audit.add_audit(
        conn,
        actor,
        "contact.erased",
        subject=public_id("con", scene.root),
        details=orjson.dumps({"contacts": [public_id("con", contact) for contact in scene.contacts]}).decode(),
    )


# What one service brought -------------------------------------------------------------------------------------------


async def erase_own(conn: Connection, contact_id: UUID, service_id: UUID, actor: str) -> dict[str, Any]:
    """Erase the ids a service gave a contact and the traits it told of them. Raises `NotFound`."""
    person = await find_person(conn, contact_id, service_id)
    await identity_locks.lock_contacts(conn, person.ids)
    ids, traits = await erasing.forget_own(conn, person.ids, service_id)
    subject = public_id("con", person.id)
    details = orjson.dumps({"external_ids": ids, "traits": traits}).decode()
    await audit.add_audit(conn, actor, "contact.own_data_erased", subject=subject, details=details)
    return {"id": subject, "external_ids": ids, "traits": traits}

"""Verbs: note what customers want to be sent, and tell what holds by that (rule E5)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions import describe
from hub.actions.announce import Place
from hub.actions.consent_book import ConsentBook, Said, Subject, Wish
from hub.actions.tell_profile import profile_drafts
from hub.domain.addresses import Address
from hub.domain.consent import MESSAGE_MEDIA, Consent, ConsentEvent, fold_addresses, may_be_tracked, refuses_tracking
from hub.domain.errors import Conflict, Invalid, NotFound
from hub.domain.events import Event, EventDraft
from hub.domain.ids import public_id
from hub.domain.profiles import address_key
from hub.domain.tracking import ConsentMode
from hub.store import consents, contact_views, contacts, conversations, event_log, numbers, subscriptions
from hub.store.contacts import Contact
from hub.store.pool import Connection, Record


async def find_consent(
    conn: Connection, contact: Contact, medium: str, number_id: int, reply_to: Address | None = None
) -> Consent:
    """What holds for a contact on one medium and number, by all that was said about any of its addresses; and about
    `reply_to`, where messages go: that phone may be another contact's, who is the same person or had it before. What
    was agreed to for other addresses is none of its owner's word then; what was refused still counts. Raises
    `Conflict` (`contact_erased`): an erased customer's conversations have nowhere to write to.
    """
    if reply_to is not None and not reply_to.value:
        raise Conflict(
            "This customer's data was erased (rule H5), and nothing can be sent in their old conversations: when they"
            " write again, that is a new contact with a new conversation.",
            code="contact_erased",
        )
    used = (*contact.addresses, reply_to) if reply_to else contact.addresses
    names = {name for address in used for name in Subject(medium, address, None).names}
    said = await consents.find(conn, sorted(names))
    if reply_to and address_key(reply_to) not in map(address_key, contact.addresses):
        theirs = set(Subject(medium, reply_to, None).names)
        said = [(name, event) for name, event in said if name in theirs or event.kind != "granted"]
    return fold_addresses(said, number_id)


async def may_track(conn: Connection, contact_id: UUID, mode: ConsentMode) -> bool:
    """Whether links to a contact, and its visits, are tracked: by what was said about any address of it and of all that
    is one profile with it. Never where it was erased.
    """
    return contact_id in await list_tracked(conn, [contact_id], mode)


async def list_tracked(conn: Connection, contact_ids: Collection[UUID], mode: ConsentMode) -> set[UUID]:
    """Those of these contacts that may be tracked."""
    known = await consents.list_tracking(conn, contact_ids)
    return {contact_id for contact_id, people in known.items() if may_be_tracked(people.values(), mode)}


async def refuses_to_be_tracked(conn: Connection, contact_id: UUID, mode: ConsentMode) -> bool:
    """Whether a contact has said no to being tracked, whatever it said elsewhere; erased ones have."""
    people = (await consents.list_tracking(conn, [contact_id])).get(contact_id)
    return people is None or refuses_tracking(people.values(), mode)


async def is_tracking_refused(
    conn: Connection, addresses: Collection[Address], agreed: Collection[Address], mode: ConsentMode
) -> bool:
    """Whether somebody has said no to being tracked under one of these addresses; `agreed`: where they say yes."""
    asked = set(map(address_key, addresses)) - set(map(address_key, agreed))
    said: dict[consents.NameKey, list[ConsentEvent]] = {}
    for name, event in await consents.find(conn, sorted(("tracking", *key) for key in asked)):
        said.setdefault(name, []).append(event)
    return refuses_tracking(said.values(), mode)


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """Whose consent is asked about: on one number, or (None) on all; `service_id` None: the operator asks."""

    medium: str
    address: Address
    e164: str | None
    service_id: UUID | None


@dataclass(frozen=True, slots=True)
class ConsentChanged:
    """What holds after a change, and the events of it; none where nothing changed."""

    view: dict[str, Any]
    events: list[Event]


async def view_consent(conn: Connection, asked: ConsentRequest) -> dict[str, Any]:
    """What holds, and everything that was said. Raises `NotFound` (the number), `Conflict` (`not_connected`)."""
    number_id = await _find_number(conn, asked)
    return await _view(conn, asked, await _find_subject(conn, asked), number_id)


async def set_consent(
    conn: Connection, asked: ConsentRequest, status: str, evidence: str | None, now: datetime
) -> ConsentChanged:
    """Note that the customer agreed (`granted`) or wants no more (`revoked`). Only the operator, with evidence, may
    grant what is revoked. Raises `NotFound`, `Conflict` (`not_connected`, `revoked_by_customer`), `Invalid`
    (`evidence_required`).
    """
    number_id = await _find_number(conn, asked)
    await consents.lock(conn, [consents.name_key(asked.medium, asked.address)], ())
    subject = await _find_subject(conn, asked)
    wanted = [(asked.medium, subject.contact.id, number_id)] if subject.contact else []
    states = await conversations.lock(conn, await consents.list_conversations(conn, wanted))
    book = await ConsentBook.open(conn, [subject])
    if status == "granted":
        _check_lift(book.consent(subject, number_id), asked, evidence)
    wish = Wish("granted" if status == "granted" else "revoked", "service" if asked.service_id else "operator")
    said = Said(wish, number_id, asked.e164, now, service_id=asked.service_id, evidence=evidence)
    drafts = book.take(subject, said, states.values(), () if states else await _find_places(conn, asked, number_id))
    if book.is_changed and asked.medium not in MESSAGE_MEDIA:
        drafts = await _tell_who_know(conn, subject, book.view(subject, said, None), now)
    await book.save(conn)
    await conversations.save(conn, list(states.values()))
    view = await _view(conn, asked, subject, number_id)
    return ConsentChanged(view, await event_log.append(conn, drafts))


async def _tell_who_know(
    conn: Connection, subject: Subject, consent: dict[str, Any], now: datetime
) -> list[EventDraft]:
    """What is no medium of conversations concerns those that may know the profile; of a stranger, nobody."""
    if subject.contact is None:
        return []
    who = describe.contact(subject.contact)
    return await profile_drafts(conn, "consent.changed", [subject.contact.id], now, contact=who, consent=consent)


def _check_lift(holds: Consent, asked: ConsentRequest, evidence: str | None) -> None:
    if not holds.is_revoked or holds.is_replaced:
        return
    if asked.service_id is not None:
        raise Conflict(
            "Consent was revoked, and only the customer can give it again (rule E5): have them write START if they had"
            " written STOP, or give the operator evidence of their wish.",
            code="revoked_by_customer",
            since=holds.since,
        )
    if not evidence:
        raise Invalid(
            "Consent was revoked; say in 'evidence' how the customer gave it again, so that it can be proved"
            " (rule E5).",
            code="evidence_required",
            since=holds.since,
        )


async def _find_number(conn: Connection, asked: ConsentRequest) -> int | None:
    number = await numbers.find_number(conn, asked.e164) if asked.e164 else None
    if asked.e164 and number is None:
        raise NotFound("this number is not registered with the hub")
    if asked.service_id is not None:
        await _check_connected(conn, asked.service_id, asked.e164)
    return number["id"] if number else None


async def _check_connected(conn: Connection, service_id: UUID, e164: str | None) -> None:
    reached = {row["e164"] for row in await subscriptions.list_of_service(conn, service_id)}
    if not reached or (e164 and e164 not in reached):
        what = "this number" if e164 else "any number"
        raise Conflict(
            f"This service is not connected to {what}; connect first (rule E5).",
            code="not_connected",
        )


async def _find_subject(conn: Connection, asked: ConsentRequest) -> Subject:
    """The person who owns the address counts, with all their addresses."""
    owner = await contact_views.find_owner(conn, asked.address)
    people = await contacts.list_contacts(conn, [owner]) if owner else {}
    return Subject(asked.medium, asked.address, people[owner] if owner else None)


async def _find_places(conn: Connection, asked: ConsentRequest, number_id: int | None) -> list[Place]:
    if asked.medium not in MESSAGE_MEDIA:
        return []
    rows = await consents.list_channels(conn, asked.medium, number_id)
    return [Place(row["number_id"], row["e164"], row["channel_id"]) for row in rows]


async def _view(conn: Connection, asked: ConsentRequest, subject: Subject, number_id: int | None) -> dict[str, Any]:
    book = await ConsentBook.open(conn, [subject])
    holds = book.consent(subject, number_id)
    return {
        "medium": asked.medium,
        "address": asked.address.value,
        "number": asked.e164,
        "status": holds.status,
        "marketing_stopped": holds.is_marketing_stopped,
        "since": holds.since,
        "history": _history(await consents.list_history(conn, subject.names), asked, number_id),
    }


def _history(rows: Sequence[Record], asked: ConsentRequest, number_id: int | None) -> list[dict[str, Any]]:
    """What was said of this number, and of all; evidence goes to the operator and to who gave it."""
    return [
        {
            "kind": row["kind"],
            "source": row["source"],
            "service": _service(row),
            "number": row["e164"],
            "evidence": row["evidence"] if asked.service_id in {None, row["service_id"]} else None,
            "at": row["at"],
        }
        for row in rows
        if number_id is None or row["kind"] == "stop" or row["number_id"] in {None, number_id}
    ]


def _service(row: Record) -> dict[str, Any] | None:
    return {"id": public_id("svc", row["service_id"]), "name": row["service_name"]} if row["service_id"] else None

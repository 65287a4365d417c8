"""What a declaration says of consent: which of it makes a difference, and who hears of that (rules E5, I3)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.actions import describe
from hub.actions.consent_book import ConsentBook, Said, Subject, Wish
from hub.actions.tell_profile import profile_drafts
from hub.domain.consent import MESSAGE_MEDIA, ConsentEvent, Source, changes_anything, fold
from hub.domain.events import EventDraft
from hub.domain.identity import Change, Confirm, Consent, Fill, Remove
from hub.domain.merging import Merge
from hub.domain.profiles import Standing, address_key
from hub.store import consents, contacts, conversations
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection

SOURCES: Final[dict[str, Source]] = {"signature": "site", "browser": "browser", "service": "service"}
"""How the consent ledger names who said it, by who declared."""


async def telling(
    conn: Connection, wanted: Sequence[Consent], source: Source, at: datetime
) -> tuple[list[Consent], bool]:
    """Those that make a difference on their address; and whether any would lift what its customer revoked, which nobody
    else can. The addresses are locked.
    """
    ledgers: dict[consents.NameKey, list[ConsentEvent]] = {}
    for name, event in await consents.find(conn, {consents.name_key(c.medium, c.address) for c in wanted}):
        ledgers.setdefault(name, []).append(event)
    kept, is_refused = [], False
    for change in wanted:
        ledger = ledgers.setdefault(consents.name_key(change.medium, change.address), [])
        event = ConsentEvent(change.entry, None, source, at)
        if changes_anything(ledger, event):
            ledger.append(event)
            kept.append(change)
        else:
            is_refused |= change.kind != "revoked" and fold(ledger, None).is_revoked
    return kept, is_refused


@dataclass(frozen=True, slots=True)
class Voice:
    """Who says it, and when."""

    source: Source
    at: datetime
    service_id: UUID | None


class Telling:
    """The events of changes of consent. Opened before the changes are written, since it compares; its conversations are
    locked then.
    """

    def __init__(self, books: Sequence[tuple[ConsentBook, Subject, Consent]], states: Mapping[UUID, ConversationState]):
        self._books = books
        self._states = states

    @classmethod
    async def open(
        cls, conn: Connection, changes: Sequence[Change | Merge], owners: Mapping[tuple[str, str], UUID]
    ) -> "Telling":
        """For the consents among these changes; `owners`: who has an address by then, or had it before."""
        wanted = [change for change in changes if isinstance(change, Consent)]
        people = {owners[address_key(c.address)] for c in wanted if address_key(c.address) in owners}
        before = await contacts.list_contacts(conn, people)
        books = []
        for change in wanted:
            owner = owners.get(address_key(change.address))
            contact = before.get(owner) or Contact(owner, None, ()) if owner else None
            if contact and change.reason != "I3":
                contact = _after(contact, changes)
            subject = Subject(change.medium, change.address, contact)
            books.append((await ConsentBook.open(conn, [subject]), subject, change))
        return cls(books, await _lock(conn, books))

    async def drafts(self, conn: Connection, voice: Voice) -> list[EventDraft]:
        """An event for every conversation over the medium, else for those that may know the profile."""
        drafts = []
        for book, subject, change in self._books:
            if not _is_told(subject):
                continue
            said = Said(Wish(change.entry, voice.source), None, None, voice.at, service_id=voice.service_id)
            told = book.take(subject, said, self._states.values())
            if not told and book.is_changed and subject.contact:
                who, holds = describe.contact(subject.contact), book.view(subject, said, None)
                told = await profile_drafts(
                    conn, "consent.changed", [subject.contact.id], voice.at, contact=who, consent=holds
                )
            drafts += told
        await conversations.save(conn, list(self._states.values()))
        return drafts


def _is_told(subject: Subject) -> bool:
    """What only somebody typed into a browser shows in no event, and what it asks for does not either."""
    owned = {address_key(address) for address in subject.contact.addresses} if subject.contact else set()
    return address_key(subject.address) in owned


async def _lock(
    conn: Connection, books: Iterable[tuple[ConsentBook, Subject, Consent]]
) -> dict[UUID, ConversationState]:
    wanted: set[tuple[str, UUID, int | None]] = {
        (subject.medium, subject.contact.id, None)
        for _, subject, _ in books
        if subject.contact and subject.medium in MESSAGE_MEDIA
    }
    return await conversations.lock(conn, await consents.list_conversations(conn, wanted))


def _after(contact: Contact, changes: Collection[Change | Merge]) -> Contact:
    """A contact with the addresses that are its own once these changes are written."""
    addresses = list(contact.addresses)
    for change in changes:
        match change:
            case Remove() if change.slot.contact_id == contact.id:
                addresses = [a for a in addresses if address_key(a) != address_key(change.slot.address)]
            case Fill() if change.contact_id == contact.id and change.standing > Standing.UNCONFIRMED:
                addresses.append(change.address)
            case Confirm() if change.slot.contact_id == contact.id:
                addresses.append(change.slot.address)
    return replace(contact, addresses=tuple(dict.fromkeys(addresses)))


def owners_of(changes: Iterable[Change | Merge], known: Mapping[tuple[str, str], UUID]) -> dict[tuple[str, str], UUID]:
    """The very contact that has each address, or had it until these changes."""
    owners = dict(known)
    for change in changes:
        match change:
            case Fill():
                owners[address_key(change.address)] = change.contact_id
            case Confirm():
                owners[address_key(change.slot.address)] = change.slot.contact_id
            case Remove() if change.reason == "I3":
                owners[address_key(change.slot.address)] = change.slot.contact_id
    return owners

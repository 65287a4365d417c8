"""What a batch of items says of consent: whose it is, found before conversations are locked, and noted item by item
in the order it came (rule E5). Most batches say nothing, and cost nothing here.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from hub.actions.announce import Place
from hub.actions.arrivals import Heard, Talk
from hub.actions.batch import provider_time
from hub.actions.consent_book import ConsentBook, Said, Subject, Wish, subject_of, wish_of
from hub.actions.resolve import Thread, ThreadKey, addresses, identity, match_keys
from hub.domain.addresses import MATCHED_TYPES
from hub.domain.events import EventDraft
from hub.store import consents, contacts
from hub.store.consents import name_key
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection
from hub.store.routes import Route
from providers.base import Customer, PreferenceChanged, StatusReported

Targets = dict[str, list[tuple[UUID, UUID]]]
"""For each status, by its key, the messages it is about with their conversations."""
Threads = Mapping[ThreadKey, Thread]


class Hearing:
    """The wishes of one batch."""

    def __init__(self, conn: Connection, fresh: Sequence[tuple[Heard, Route, str]]) -> None:
        self._conn = conn
        self._fresh = fresh
        self._wishes = {item.key: wish for item, _, provider in fresh if (wish := wish_of(item, provider))}
        self._subjects: dict[str, list[Subject]] = {}
        self._of_person: dict[UUID, list[ConversationState]] = {}
        self._book = ConsentBook({})

    def add(self, key: str, wish: Wish | None) -> None:
        """Something else that an item brings to light."""
        if wish:
            self._wishes[key] = wish

    async def lock(self, found: Targets) -> None:
        """Keep others from changing what holds for these people; before contacts and conversations are looked for."""
        names, spoken = set(), set()
        for item, route in self._heard():
            if isinstance(item, StatusReported):
                spoken |= {conversation_id for _, conversation_id in found.get(item.key, ())}
            else:
                names |= {name_key(route.medium, a) for a in addresses(item.customer) if a.type in MATCHED_TYPES}
        await consents.lock(self._conn, names, spoken)

    async def find_conversations(self, threads: Threads, found: Targets) -> set[UUID]:
        """All conversations that may have to hear of it; finds out, too, who the customers are."""
        if not self._wishes:
            return set()
        spoken, strangers = set(), []
        for item, route in self._heard():
            if isinstance(item, StatusReported):
                spoken |= {conversation_id for _, conversation_id in found.get(item.key, ())}
                continue
            thread = None if isinstance(item, PreferenceChanged) else _thread(item, route, threads)
            if thread:
                spoken.add(thread.conversation.id)
                self._subjects[item.key] = [subject_of(route.medium, addresses(item.customer), thread.contact)]
            if thread is None or not _is_all_of(item.customer, thread.contact):
                strangers.append((item, route))
        known = await self._find_people(strangers) if strangers else set()
        return known | await consents.list_siblings(self._conn, spoken)

    async def _find_people(self, strangers: Sequence[tuple[Talk | PreferenceChanged, Route]]) -> set[UUID]:
        """Everybody that these addresses belong to: two contacts may turn out to be one person, who speaks for both."""
        keys = {key for item, _ in strangers for key in match_keys(item.customer)}
        owners = await contacts.find_owners(self._conn, keys)
        people = await contacts.list_contacts(self._conn, set(owners.values()))
        wanted: set[tuple[str, UUID, int | None]] = set()
        for item, route in strangers:
            reported, subjects = addresses(item.customer), self._subjects.setdefault(item.key, [])
            spoken = {subject.contact.id for subject in subjects if subject.contact}
            ids = dict.fromkeys(owners[a.type, a.match_key] for a in reported if (a.type, a.match_key) in owners)
            subjects += [subject_of(route.medium, reported, people[name]) for name in ids if name not in spoken]
            subjects += [] if subjects else [subject_of(route.medium, reported, None)]
            wanted |= {(subject.medium, subject.contact.id, None) for subject in subjects if subject.contact}
        return await consents.list_conversations(self._conn, wanted)

    async def open(
        self, found: Targets, states: Mapping[UUID, ConversationState], people: Mapping[UUID, Contact]
    ) -> None:
        """Read what was said so far; everything is locked."""
        for item, _ in self._heard():
            targets = found.get(item.key) if isinstance(item, StatusReported) else None
            if targets:
                state = states[targets[0][1]]
                contact = people[state.contact_id]
                self._subjects[item.key] = [subject_of(state.medium, [state.reply_to, *contact.addresses], contact)]
        spoken = [subject for subjects in self._subjects.values() for subject in subjects]
        for state in states.values() if spoken else ():
            self._of_person.setdefault(state.contact_id, []).append(state)
        self._book = await ConsentBook.open(self._conn, spoken)

    def take(self, item: Heard, route: Route, now: datetime, message_id: UUID | None = None) -> list[EventDraft]:
        """Note what this item says, if anything; gives the events."""
        subjects = self._subjects.get(item.key)
        if not subjects:
            return []
        wish, said_at = self._wishes[item.key], provider_time(item.at)
        said = Said(wish, route.number_id, route.e164, now, message_id=message_id, said_at=said_at)
        places = [Place(route.number_id, route.e164, channel.id) for channel in route.channels]
        return [
            draft for subject in subjects for draft in self._book.take(subject, said, self._states(subject), places)
        ]

    def _states(self, subject: Subject) -> Sequence[ConversationState]:
        return self._of_person.get(subject.contact.id, ()) if subject.contact else ()

    async def save(self) -> None:
        """Write it."""
        await self._book.save(self._conn)

    def _heard(self) -> Iterator[tuple[Heard, Route]]:
        for item, route, _ in self._fresh:
            if item.key in self._wishes:
                yield item, route


def _is_all_of(customer: Customer, contact: Contact) -> bool:
    """Whether every address that this customer is found by is the contact's."""
    return match_keys(customer) <= {(a.type, a.match_key) for a in contact.addresses}


def _thread(item: Talk, route: Route, threads: Threads) -> Thread | None:
    """The conversation in the first channel: whoever it is with is the same in all."""
    keys = [(channel.id, route.medium, identity(item.customer)) for channel in route.channels]
    return threads[keys[0]] if keys else None

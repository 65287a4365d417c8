"""What a batch of items says of consent: whose it is, found before conversations are locked, and noted item by item
in the order it came (rule E5). Most batches say nothing, and cost nothing here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from hub.actions.announce import Place
from hub.actions.arrivals import Accepted, Talk
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
from providers.base import PreferenceChanged, StatusReported

Targets = dict[str, list[tuple[UUID, UUID]]]
"""For each status, by its key, the messages it is about with their conversations."""
Threads = Mapping[ThreadKey, Thread]


class Hearing:
    """The wishes of one batch."""

    def __init__(self, conn: Connection, fresh: Sequence[Accepted]) -> None:
        self._conn = conn
        self._fresh = fresh
        self._wishes = {item.key: wish for item, _, provider in fresh if (wish := wish_of(item, provider))}
        self._subjects: dict[str, Subject] = {}
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
        spoken, preferences = set(), []
        for item, route in self._heard():
            if isinstance(item, StatusReported):
                spoken |= {conversation_id for _, conversation_id in found.get(item.key, ())}
            elif isinstance(item, PreferenceChanged):
                preferences.append((item, route))
            elif thread := _thread(item, route, threads):
                self._subjects[item.key] = subject_of(route.medium, addresses(item.customer), thread.contact)
                spoken.add(thread.conversation.id)
        known = await self._find_people(preferences)
        return known | await consents.list_siblings(self._conn, spoken)

    async def _find_people(self, preferences: Sequence[tuple[PreferenceChanged, Route]]) -> set[UUID]:
        keys = {key for item, _ in preferences for key in match_keys(item.customer)}
        owners = await contacts.find_owners(self._conn, keys)
        people = await contacts.list_contacts(self._conn, set(owners.values()))
        for item, route in preferences:
            reported = addresses(item.customer)
            ids = [owners[a.type, a.match_key] for a in reported if (a.type, a.match_key) in owners]
            self._subjects[item.key] = subject_of(route.medium, reported, people[ids[0]] if ids else None)
        wanted = {(s.medium, s.contact.id, None) for s in self._subjects.values() if s.contact}
        return await consents.list_conversations(self._conn, wanted) if preferences else set()

    async def open(
        self, found: Targets, states: Mapping[UUID, ConversationState], people: Mapping[UUID, Contact]
    ) -> None:
        """Read what was said so far; everything is locked."""
        for item, _ in self._heard():
            targets = found.get(item.key) if isinstance(item, StatusReported) else None
            if targets:
                state = states[targets[0][1]]
                contact = people[state.contact_id]
                self._subjects[item.key] = subject_of(state.medium, [state.reply_to, *contact.addresses], contact)
        self._book = await ConsentBook.open(self._conn, list(self._subjects.values()))

    def take(
        self, item: Talk | PreferenceChanged | StatusReported, route: Route, states: Iterable[ConversationState],
        now: datetime, message_id: UUID | None = None,
    ) -> list[EventDraft]:  # fmt: skip
        """Note what this item says, if anything; gives the events."""
        subject = self._subjects.get(item.key)
        if subject is None:
            return []
        said = Said(self._wishes[item.key], route.number_id, route.e164, now, message_id=message_id)
        places = [Place(route.number_id, route.e164, channel.id) for channel in route.channels]
        return self._book.take(subject, said, states, places)

    async def save(self) -> None:
        """Write it."""
        await self._book.save(self._conn)

    def _heard(self) -> Iterator[tuple[Talk | PreferenceChanged | StatusReported, Route]]:
        for item, route, _ in self._fresh:
            if item.key in self._wishes:
                yield item, route


def _thread(item: Talk, route: Route, threads: Threads) -> Thread | None:
    """The conversation in the first channel: whoever it is with is the same in all."""
    keys = [(channel.id, route.medium, identity(item.customer)) for channel in route.channels]
    return threads[keys[0]] if keys else None

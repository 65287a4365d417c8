"""Writing into the ledger of consent, and telling everybody concerned (rule E5)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.actions import describe
from hub.actions.announce import Place, channel_event
from hub.domain.addresses import MATCHED_TYPES, Address
from hub.domain.consent import (
    TOLD_BY_PROVIDER,
    Consent,
    ConsentEvent,
    Kind,
    Source,
    changes_anything,
    fold,
    is_overtaken,
)
from hub.domain.events import EventDraft
from hub.domain.keywords import Keyword, keyword_in
from hub.store import consents
from hub.store.consents import LedgerDraft, NameKey, name_key
from hub.store.contacts import Contact
from hub.store.conversations import ConversationState
from hub.store.pool import Connection
from providers.base import Item, MessageEdited, MessageReceived, PreferenceChanged, StatusReported

_TYPES: Final = {"email": ("email",), "tracking": (*MATCHED_TYPES, "email")}
"""The types of address that consent is kept under, where they are not those a customer is found by."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants, and how it was said."""

    kind: Kind
    source: Source
    keyword: Keyword | None = None


def wish_of(item: Item, provider: str) -> Wish | None:
    """What an item says of consent; nearly always nothing. HELP changes nothing. A message counts as it reads after it
    was edited, and also where Meta's own agent holds the conversation.
    """
    if isinstance(item, PreferenceChanged):
        return Wish("marketing_resume" if item.wants_marketing else "marketing_stop", "customer")
    if isinstance(item, StatusReported):
        return wish_in(provider, item.errors)
    if not isinstance(item, MessageReceived | MessageEdited):
        return None
    if isinstance(item, MessageReceived) and (item.is_history or not item.opens_window):
        return None  # said long ago, or not to this business
    if item.origin != "customer" and item.content.get("sent_by") != "customer":
        return None
    keyword = keyword_in(item.content)
    return Wish(keyword, "customer", keyword) if keyword in {"stop", "start"} else None


def wish_in(provider: str, errors: Iterable[Mapping[str, Any] | None]) -> Wish | None:
    """What a provider's refusal says of the customer: 21610 and 131050, and no other does."""
    for error in errors:
        kind = TOLD_BY_PROVIDER.get((provider, str((error or {}).get("provider_code"))))
        if kind:
            return Wish(kind, "provider")
    return None


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose consent: the person where known, and the address that new entries are kept under."""

    medium: str
    address: Address
    contact: Contact | None

    @property
    def names(self) -> list[NameKey]:
        """All that entries about this person are kept under."""
        known = self.contact.addresses if self.contact else ()
        types = _TYPES.get(self.medium, MATCHED_TYPES)
        return sorted({name_key(self.medium, a) for a in (self.address, *known) if a.type in types})

    @property
    def key(self) -> tuple[Any, ...]:
        """The same for every address of a person."""
        return (self.medium, self.contact.id) if self.contact else name_key(self.medium, self.address)


def subject_of(medium: str, reported: Sequence[Address], contact: Contact | None) -> Subject:
    """Entries are kept under the phone, or the strongest other address, of those reported that are the contact's."""
    owned = {(a.type, a.match_key) for a in contact.addresses} if contact else None
    usable = [a for a in reported if a.type in MATCHED_TYPES and (owned is None or (a.type, a.match_key) in owned)]
    by_phone = sorted(usable, key=lambda a: a.type != "phone")
    return Subject(medium, (by_phone or list(reported))[0], contact)


@dataclass(frozen=True, slots=True)
class Said:
    """Something to be noted: of one number, or of all (None). `said_at` is the provider's time, where it told one: its
    news may come late, and after newer ones.
    """

    wish: Wish
    number_id: int | None
    e164: str | None
    at: datetime
    service_id: UUID | None = None
    message_id: UUID | None = None
    evidence: str | None = None
    said_at: datetime | None = None

    @property
    def time(self) -> datetime:
        """When it was said, as far as is known."""
        return min(self.said_at, self.at) if self.said_at else self.at


class ConsentBook:
    """The ledgers of some people; takes what is said one by one, writes all of it at once.

    Their addresses must be locked (`consents.lock`), and the conversations with them that shall hear of it.
    """

    def __init__(self, ledgers: dict[tuple[Any, ...], list[ConsentEvent]]) -> None:
        self._ledgers = ledgers
        self._drafts: list[LedgerDraft] = []

    @classmethod
    async def open(cls, conn: Connection, subjects: Collection[Subject]) -> "ConsentBook":
        """Read what was said so far."""
        owners = {name: subject.key for subject in subjects for name in subject.names}
        ledgers: dict[tuple[Any, ...], list[ConsentEvent]] = {subject.key: [] for subject in subjects}
        for name, event in await consents.find(conn, list(owners)):
            ledgers[owners[name]].append(event)
        return cls(ledgers)

    def consent(self, subject: Subject, number_id: int | None) -> Consent:
        """What holds now."""
        return fold(self._ledgers[subject.key], number_id)

    def take(
        self, subject: Subject, said: Said, states: Iterable[ConversationState], places: Sequence[Place] = ()
    ) -> list[EventDraft]:
        """Note it, if it makes a difference; gives an event for every conversation with them over this medium that it
        is about, or, where there is none, for each of these places.
        """
        wish, ledger = said.wish, self._ledgers[subject.key]
        event = ConsentEvent(wish.kind, said.number_id, wish.source, said.time, bool(said.evidence))
        if is_overtaken(ledger, event) or not changes_anything(ledger, event):
            return []
        ledger.append(event)
        self._drafts.append(
            LedgerDraft(
                subject.medium, subject.address, said.number_id, wish.kind, wish.source, said.time, said.service_id,
                said.message_id, said.evidence,
            )
        )  # fmt: skip
        number_id = None if wish.kind == "stop" else said.number_id
        reached = [state for state in states if _is_with(state, subject) and number_id in {None, state.number_id}]
        if reached:
            return [self._in_conversation(subject, said, state) for state in sorted(reached, key=lambda s: s.id)]
        return [
            channel_event("consent.changed", place, said.at, consent=self.view(subject, said, place.number_id))
            for place in places
        ]

    def _in_conversation(self, subject: Subject, said: Said, state: ConversationState) -> EventDraft:
        assert subject.contact is not None
        wish = self.view(subject, said, state.number_id)
        return describe.conversation_event("consent.changed", state, subject.contact, said.at, consent=wish)

    def view(self, subject: Subject, said: Said, number_id: int | None) -> dict[str, Any]:
        """As the event shows it: what holds on the number of whoever hears it; `number` is what was spoken of."""
        holds, keyword = self.consent(subject, number_id), said.wish.keyword
        view = {
            "medium": subject.medium,
            "address": subject.address.value,
            "number": None if said.wish.kind == "stop" else said.e164,
            "status": holds.status,
            "marketing_stopped": holds.is_marketing_stopped,
            "source": said.wish.source,
            "at": said.time,
        }
        return view | {"keyword": keyword} if keyword else view

    @property
    def is_changed(self) -> bool:
        """Whether anything was taken that made a difference."""
        return bool(self._drafts)

    async def save(self, conn: Connection) -> None:
        """Write what was taken."""
        await consents.add(conn, self._drafts)


def _is_with(state: ConversationState, subject: Subject) -> bool:
    return subject.contact is not None and (state.contact_id, state.medium) == (subject.contact.id, subject.medium)

"""From who a provider says wrote to the contact and the conversations that is (rule B8)."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from hub.actions import describe
from hub.domain.addresses import MATCHED_TYPES, Address, AddressType
from hub.domain.ids import new_id, shard_of
from hub.store import contacts, conversations, identity_locks, profiles
from hub.store.contacts import Contact, MatchKey
from hub.store.conversations import ConversationDraft, ConversationKey, ConversationRef
from hub.store.pool import Connection, TryAgain
from hub.store.routes import Route
from providers.base import Customer

Identity = tuple[str | None, ...]
ThreadKey = tuple[UUID, str, Identity]
"""A channel, a medium, and the customer as the provider named them."""

_ATTEMPTS: Final = 3
_REMEMBERED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation and whom it is with, good while the conversation's generation stands.

    `frame` is the JSON of its events up to the message: no part of it changes as long as the rest does not.
    """

    conversation: ConversationRef
    contact: Contact
    shard: int
    frame: str


@dataclass(slots=True)
class Directory:
    """What one process remembers of conversations, so that most messages need no look-up. Bounded, oldest out."""

    _threads: OrderedDict[ThreadKey, Thread] = field(default_factory=OrderedDict)

    def find(self, key: ThreadKey) -> Thread | None:
        """What is remembered; to be checked against the locked conversation's generation."""
        return self._threads.get(key)

    def learn(self, threads: dict[ThreadKey, Thread]) -> None:
        """Remember what a committed transaction found out."""
        self._threads.update(threads)
        while len(self._threads) > _REMEMBERED:
            self._threads.popitem(last=False)

    def forget(self, keys: Iterable[ThreadKey]) -> None:
        """Drop what turned out to be out of date."""
        for key in keys:
            self._threads.pop(key, None)


def identity(customer: Customer) -> Identity:
    """Everything that may decide who this is; names do not."""
    return customer.user_id, customer.phone, customer.sender_id, customer.parent_user_id, customer.username


def addresses(customer: Customer) -> list[Address]:
    """The addresses a customer was reported with, the strongest first."""
    reported: tuple[tuple[AddressType, str | None], ...] = (
        ("user_id", customer.user_id),
        ("phone", customer.phone),
        ("sender_id", customer.sender_id),
        ("parent_user_id", customer.parent_user_id),
        ("username", customer.username),
    )
    return [Address(kind, value) for kind, value in reported if value]


def reply_address(customer: Customer) -> Address:
    """Where replies to this customer go: the phone as reported, else the business-scoped id."""
    by_type = {address.type: address for address in addresses(customer)}
    return by_type.get("phone") or by_type.get("user_id") or by_type["sender_id"]


async def resolve(
    conn: Connection, wants: Sequence[tuple[Route, Customer]], quiet: Collection[Identity] = ()
) -> dict[ThreadKey, Thread]:
    """Find or make the contact of each customer and its conversation in every channel of the route. Those who are
    `quiet` keep the name they have.
    """
    people = await _resolve_contacts(conn, {identity(customer): customer for _, customer in wants}, quiet)
    numbers = {route.number_id: route.e164 for route, _ in wants}
    drafts: dict[ThreadKey, ConversationDraft] = {}
    for route, customer in wants:
        contact_id = people[identity(customer)].id
        for channel in route.channels:
            drafts[channel.id, route.medium, identity(customer)] = ConversationDraft(
                new_id(), route.number_id, channel.id, route.medium, contact_id, reply_address(customer)
            )
    found: dict[ConversationKey, ConversationRef] = await conversations.find_or_add(conn, drafts.values())
    return {
        key: _thread(found[draft.key], people[key[2]], draft, numbers[draft.number_id]) for key, draft in drafts.items()
    }


def _thread(conversation: ConversationRef, contact: Contact, draft: ConversationDraft, e164: str) -> Thread:
    frame = describe.message_frame(e164, draft.channel_id, conversation.id, draft.medium, contact)
    return Thread(conversation, contact, shard_of(conversation.id), frame)


async def _resolve_contacts(
    conn: Connection, customers: dict[Identity, Customer], quiet: Collection[Identity]
) -> dict[Identity, Contact]:
    wanted = set().union(*map(match_keys, customers.values()))
    for _ in range(_ATTEMPTS):
        owners = await contacts.find_owners(conn, wanted)
        if await identity_locks.lock_contacts(conn, owners.values()) != set(owners.values()):
            continue  # somebody was erased meanwhile, and comes back as somebody new
        if owners and await contacts.find_owners(conn, wanted) != owners:
            continue  # somebody has another number meanwhile, and this one may be a stranger's
        plan = _assign(customers, owners, quiet)
        if await _store(conn, plan):
            found = await contacts.list_contacts(conn, set(plan.chosen.values()))
            return {key: found[contact_id] for key, contact_id in plan.chosen.items()}
    raise TryAgain("other processes keep making the same contacts")


def match_keys(customer: Customer) -> set[MatchKey]:
    """What a customer is found by: two that share one of these may be one person."""
    return {(a.type, a.match_key) for a in addresses(customer) if a.type in MATCHED_TYPES}


@dataclass(slots=True)
class _Plan:
    chosen: dict[Identity, UUID] = field(default_factory=dict)
    new: dict[UUID, str | None] = field(default_factory=dict)
    names: dict[UUID, str] = field(default_factory=dict)
    addresses: list[tuple[UUID, Address]] = field(default_factory=list)
    candidates: set[tuple[UUID, UUID]] = field(default_factory=set)


def _assign(customers: dict[Identity, Customer], owners: dict[MatchKey, UUID], quiet: Collection[Identity]) -> _Plan:
    """Who each customer is: the owner of the business-scoped id, else of the phone, else somebody new (B8).

    Ids that belong to two contacts are never moved here: the pair becomes a merge candidate.
    """
    plan, owners = _Plan(), dict(owners)
    for key, customer in customers.items():
        reported = addresses(customer)
        matched = [(a.type, a.match_key) for a in reported if a.type in MATCHED_TYPES]
        hits = [owners[match] for match in matched if match in owners]
        contact_id = hits[0] if hits else new_id()
        if not hits:
            plan.new[contact_id] = customer.name
        elif customer.name and key not in quiet:
            plan.names[contact_id] = customer.name
        plan.candidates |= {(contact_id, other) for other in hits if other != contact_id}
        for match in matched:
            owners.setdefault(match, contact_id)
        plan.chosen[key] = contact_id
        plan.addresses += [
            (contact_id, a) for a in reported if owners.get((a.type, a.match_key), contact_id) == contact_id
        ]
    return plan


async def _store(conn: Connection, plan: _Plan) -> bool:
    """Write the plan; False where another process made one of the contacts first, and all of it was taken back."""
    await contacts.add_contacts(conn, plan.new)
    added = await contacts.add_addresses(conn, plan.addresses)
    if plan.new and await _is_lost(conn, plan):
        await contacts.delete_contacts(conn, plan.new)
        return False
    await contacts.rename(conn, {k: v for k, v in plan.names.items() if k not in plan.new})
    await _note_candidates(conn, plan, added)
    changed = {contact_id for contact_id, _ in added} - set(plan.new)
    await contacts.bump_generation(conn, changed)
    return True


async def _note_candidates(conn: Connection, plan: _Plan, added: Collection[tuple[UUID, Address]]) -> None:
    """Contacts whose addresses meet, and those that others were said to have; nothing where they are one profile."""
    said = await contacts.find_said(conn, [(contact_id, a) for contact_id, a in added if a.type in MATCHED_TYPES])
    pairs = {pair: ("declared_address", is_proper) for pair, is_proper in said.items()}
    pairs |= dict.fromkeys(plan.candidates, ("addresses_of_two_contacts", True))
    if pairs:
        roots = await profiles.read_roots(conn, {contact_id for pair in pairs for contact_id in pair})
        found = {frozenset(pair): why for pair, why in pairs.items() if roots[pair[0]] != roots[pair[1]]}
        rows = [(new_id(), min(pair), max(pair), *why) for pair, why in found.items()]
        await contacts.add_merge_candidates(conn, sorted(rows, key=lambda row: row[1:3]))


async def _is_lost(conn: Connection, plan: _Plan) -> bool:
    mine: Collection[tuple[UUID, Address]] = [
        (contact_id, a) for contact_id, a in plan.addresses if contact_id in plan.new and a.type in MATCHED_TYPES
    ]
    owners = await contacts.find_owners(conn, {(a.type, a.match_key) for _, a in mine})
    return any(owners.get((a.type, a.match_key)) != contact_id for contact_id, a in mine)

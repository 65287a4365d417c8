"""Verb: a customer has another number or id, as the provider says (rule B8).

The new address becomes one of the same contact's, proved; the old one is given up, since it may become somebody else's,
and what was refused under it holds for the new one. News are judged by the provider's time: what was known before, or
is older than what is known, changes nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from hub.actions import identity_events
from hub.actions.carry_consent import carry, compare, list_standing
from hub.actions.merge import merge_by_switch
from hub.actions.resolve import addresses, match_keys, reply_address
from hub.domain.addresses import MATCHED_TYPES, Address
from hub.domain.consent import CONSENT_MEDIA, MESSAGE_MEDIA
from hub.domain.events import EventDraft
from hub.domain.ids import new_id
from hub.domain.profiles import address_key
from hub.store import consents, contacts, conversations, identity_locks, profiles
from hub.store.contacts import MatchKey
from hub.store.pool import Connection, TryAgain
from hub.store.routes import Route
from providers.base import Customer, IdentityChanged

_DAY: Final = timedelta(days=1)
"""Who came from the new address that long before the news, and no longer, came by the change they tell of."""
_RULE: Final = "provider_said"


def customer_after(item: IdentityChanged) -> Customer:
    """The customer with what is new, and what of the rest is still theirs."""
    old, now = item.customer, item.now
    has_number = bool(now.phone or now.sender_id)
    return replace(
        old,
        phone=now.phone if has_number else old.phone,
        sender_id=now.sender_id if has_number else old.sender_id,
        user_id=now.user_id or old.user_id,
        parent_user_id=now.parent_user_id or old.parent_user_id,
        username=now.username or old.username,
    )


async def change_identities(
    conn: Connection, items: Sequence[tuple[IdentityChanged, Route]], now: datetime
) -> list[EventDraft]:
    """Take these news in, the oldest first; gives the events of them. Takes its locks itself: the caller holds none of
    7009 (addresses) and after, and resolves nobody before. Raises `TryAgain` where others changed the same contacts.
    """
    concerned = {a for item, _ in items for a in (*addresses(item.customer), *addresses(item.now))}
    matched = {address for address in concerned if address.type in MATCHED_TYPES}
    await identity_locks.lock_addresses(conn, matched)
    await consents.lock(conn, {consents.name_key(medium, a) for a in matched for medium in CONSENT_MEDIA}, ())
    drafts: list[EventDraft] = []
    for item, _ in sorted(items, key=lambda entry: _time(entry[0], now)):
        drafts += await _change(conn, item, now)
    return drafts


async def find_customer(conn: Connection, item: IdentityChanged, now: datetime) -> Customer:
    """Whose conversation tells of it: the customer with what is new; who has moved on since, as they are now."""
    moved = await contacts.find_changed(conn, match_keys(item.customer) | match_keys(item.now), _time(item, now))
    return (moved and await _as_known(conn, moved, item.customer.name)) or customer_after(item)


async def find_moved(conn: Connection, said: Mapping[str, tuple[Customer, datetime]]) -> dict[str, Customer]:
    """Of those who said something then (by any name), who has had another number or id since: as they are now. It may
    be somebody else's by now, whose are neither these words nor the answers to them.
    """
    keys = {key for customer, _ in said.values() for key in match_keys(customer)}
    changes = await contacts.list_changed(conn, keys, min((at for _, at in said.values()), default=None))
    found: dict[str, Customer] = {}
    known: dict[UUID, Customer | None] = {}
    for name, (customer, at) in said.items() if changes else ():
        mine = [change for key in match_keys(customer) for change in changes.get(key, ()) if change[0] > at]
        if mine:
            _, contact_id = min(mine)
            if contact_id not in known:
                known[contact_id] = await _as_known(conn, contact_id, None)
            if now := known[contact_id]:
                found[name] = replace(now, name=customer.name)
    return found


async def _as_known(conn: Connection, contact_id: UUID, name: str | None) -> Customer | None:
    """A customer with the latest addresses of theirs, or of their profile; None where there are none any more."""
    theirs = await _list_theirs(conn, contact_id)
    found = {address.type: address.value for _, address in reversed(theirs)}
    known = {kind: found.get(kind) for kind in ("phone", "user_id", "sender_id")}
    return Customer(name=name, **known) if any(known.values()) else None


async def _list_theirs(conn: Connection, contact_id: UUID) -> list[tuple[UUID, Address]]:
    """A contact's addresses, the latest first; those of their profile where they have none of their own (any more)."""
    own = await contacts.list_proved(conn, [contact_id])
    return own or await contacts.list_proved(conn, await _list_people(conn, [contact_id]))


def _time(item: IdentityChanged, now: datetime) -> datetime:
    return min(datetime.fromtimestamp(item.at, UTC), now) if item.at else now


@dataclass(frozen=True, slots=True)
class _Scene:
    """Who is concerned, all of them locked: `person` had the old address, `parts` are all contacts of their profile.
    `new` is what they have now; `others` have some of it.
    """

    person: UUID
    parts: frozenset[UUID]
    gone: tuple[tuple[UUID, Address], ...]
    new: tuple[Address, ...]
    unowned: tuple[Address, ...]
    others: tuple[UUID, ...]

    @property
    def gone_keys(self) -> set[MatchKey]:
        return {address_key(address) for _, address in self.gone}


async def _change(conn: Connection, item: IdentityChanged, now: datetime) -> list[EventDraft]:
    at = _time(item, now)
    if await contacts.find_changed(conn, match_keys(item.customer), at):
        return []  # told before, or they have moved on since
    new = await _new_addresses(conn, item, at)
    scene = await _look(conn, item, new)
    if scene is None:
        await _begin(conn, item, new, at)
        return []
    if not scene.gone and not scene.unowned and not scene.others:
        return []
    return await _write(conn, scene, at, now)


async def _new_addresses(conn: Connection, item: IdentityChanged, at: datetime) -> tuple[Address, ...]:
    """What is new; where that was changed again since, what came after it."""
    moved = await contacts.find_changed(conn, match_keys(item.now), at)
    if moved is None:
        return tuple(addresses(item.now))
    after = await _list_theirs(conn, moved)
    return tuple(address for _, address in after if address.type in MATCHED_TYPES)


async def _look(conn: Connection, item: IdentityChanged, new: Sequence[Address]) -> _Scene | None:
    """Find and lock everybody concerned; None where nobody is known by the old address."""
    keys = match_keys(item.customer) | {address_key(a) for a in new if a.type in MATCHED_TYPES}
    owners = await contacts.find_owners(conn, keys)
    people = await _list_people(conn, owners.values())
    await identity_locks.lock_contacts(conn, people)
    if await contacts.find_owners(conn, keys) != owners or await _list_people(conn, owners.values()) != people:
        raise TryAgain("the contacts of a changed number have changed themselves")
    old = [address_key(a) for a in addresses(item.customer) if a.type in MATCHED_TYPES]
    person = next((owners[key] for key in old if key in owners), None)
    if person is None:
        return None
    root = (await profiles.read_roots(conn, [person]))[person]
    parts = frozenset(await profiles.list_parts(conn, root))
    taken = {key: owner for key, owner in owners.items() if owner not in parts}
    return _Scene(
        person, parts, _given_up(item, new, person, await contacts.list_proved(conn, parts)), tuple(new),
        tuple(a for a in new if address_key(a) not in owners),
        tuple(dict.fromkeys(taken[address_key(a)] for a in new if address_key(a) in taken)),
    )  # fmt: skip


async def _list_people(conn: Connection, ids: Iterable[UUID]) -> set[UUID]:
    roots = set((await profiles.read_roots(conn, set(ids))).values())
    return {part for parts in (await profiles.read_parts(conn, roots)).values() for part in parts}


def _given_up(
    item: IdentityChanged, new: Sequence[Address], person: UUID, theirs: Sequence[tuple[UUID, Address]]
) -> tuple[tuple[UUID, Address], ...]:
    """What is theirs no more: for each kind of address that has a new one, those named, else the only one there was."""
    named = {address_key(address) for address in addresses(item.customer)}
    fresh = {address_key(address) for address in new}
    gone: list[tuple[UUID, Address]] = []
    for kinds in (("user_id",), ("phone", "sender_id"), ("parent_user_id",)):
        if not any(kind in kinds for kind, _ in fresh):
            continue
        had = [(owner, a) for owner, a in theirs if a.type in kinds and address_key(a) not in fresh]
        told = [(owner, a) for owner, a in had if address_key(a) in named]
        own = [(owner, a) for owner, a in had if owner == person]
        is_only = not any(key[0] in kinds for key in named) and len({address_key(a) for _, a in own}) == 1
        gone += told or (own if is_only else [])
    return tuple(gone)


async def _begin(conn: Connection, item: IdentityChanged, new: Sequence[Address], at: datetime) -> None:
    """Nobody was known: whoever has the new address is, and had the old one."""
    owners = await contacts.find_owners(conn, {address_key(a) for a in new if a.type in MATCHED_TYPES})
    contact_id = next(iter(owners.values()), None)
    if contact_id is None and any(address.type in MATCHED_TYPES for address in new):
        contact_id = new_id()
        await contacts.add_contacts(conn, {contact_id: item.customer.name})
        await _own(conn, contact_id, new)
    if contact_id:
        fresh = {address_key(address) for address in new}
        old = [a for a in addresses(item.customer) if a.type in MATCHED_TYPES and address_key(a) not in fresh]
        await contacts.add_given_up(conn, contact_id, old, at)


async def _own(conn: Connection, contact_id: UUID, new: Collection[Address]) -> None:
    await contacts.add_addresses(conn, [(contact_id, address) for address in new])
    keys = {address_key(address) for address in new if address.type in MATCHED_TYPES}
    if set((await contacts.find_owners(conn, keys)).values()) - {contact_id}:
        raise TryAgain("somebody wrote from a new number just now")


async def _write(conn: Connection, scene: _Scene, at: datetime, now: datetime) -> list[EventDraft]:
    people = scene.parts | set(scene.others)
    wanted = {(medium, part, None) for medium in MESSAGE_MEDIA for part in people}
    states = await conversations.lock(conn, await consents.list_conversations(conn, wanted))
    ours = [state for state in states.values() if state.contact_id in scene.parts]
    before = await list_standing(conn, ours)
    await contacts.give_up(conn, scene.parts, scene.gone_keys, at)
    await _own(conn, scene.person, scene.unowned)
    reply_to = _reply_address(scene.new)
    for state in ours:
        if state.medium == "whatsapp" and address_key(state.reply_to) in scene.gone_keys and reply_to:
            state.reply_to, state.sends_to = reply_to, None
    await carry(conn, [address for _, address in scene.gone], scene.new, at)
    drafts = await compare(conn, ours, before, now)
    await conversations.save(conn, ours)
    await contacts.bump_generation(conn, scene.parts)
    drafts += await identity_events.updated(conn, {scene.person: ["addresses"]}, _RULE, None, now)
    for other in scene.others:
        drafts += await _join(conn, scene, other, at, now)
    return drafts


def _reply_address(new: Iterable[Address]) -> Address | None:
    by_type = {address.type: address.value for address in new if address.type in MATCHED_TYPES}
    return reply_address(Customer(**by_type)) if by_type else None


async def _join(conn: Connection, scene: _Scene, other: UUID, at: datetime, now: datetime) -> list[EventDraft]:
    """Somebody has the new address already: the same person, if they came by the change; else a candidate."""
    keys = {address_key(address) for address in scene.new if address.type in MATCHED_TYPES}
    if await contacts.is_bare(conn, other, keys, at - _DAY):
        drafts = await merge_by_switch(conn, scene.person, other, now, "provider")
        roots = await profiles.read_roots(conn, [scene.person, other])
        if roots[scene.person] == roots[other]:
            return drafts
    pair = min(scene.person, other), max(scene.person, other)
    await contacts.add_merge_candidates(conn, [(new_id(), *pair, _RULE, True)])
    return []

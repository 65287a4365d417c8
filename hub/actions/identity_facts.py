"""Locking and reading all that a declaration is decided by (rules I1 to I7)."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.bindings import WEEK, Binding
from hub.domain.consent import CONSENT_MEDIA
from hub.domain.errors import Conflict, NotFound
from hub.domain.ids import new_id, public_id
from hub.domain.profiles import Declaration, DeclarationFacts, Profile
from hub.store import bindings, consents, identities, identity_locks, profiles
from hub.store.pool import Connection, TryAgain

_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Naming:
    """How a service says whom it speaks of, besides by addresses: the hub's id, which it may know of, or its own.
    `is_verified`: it has proof that its id is who the addresses belong to.
    """

    service_id: UUID
    contact_id: UUID | None = None
    external_id: str | None = None
    is_verified: bool = False

    @property
    def lock_name(self) -> str:
        """What keeps others from deciding whom the service calls so."""
        return f"external {self.service_id.hex} {self.external_id}"


@dataclass(frozen=True, slots=True)
class Named:
    """What the service's names lead to, as `DeclarationFacts` has them. `is_verified`: by proof of its own."""

    named: UUID | None = None
    hinted: UUID | None = None
    is_verified: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """What the contacts concerned are, when looked at: each profile's root with its parts."""

    bindings: tuple[Binding, ...]
    named: Named
    survivors: dict[UUID, UUID]
    parts: dict[UUID, list[UUID]]

    @property
    def contacts(self) -> set[UUID]:
        """All of them."""
        return {part for group in self.parts.values() for part in group}


async def lock_facts(
    conn: Connection, declaration: Declaration, visitor_id: UUID | None, naming: Naming | None
) -> DeclarationFacts:
    """The facts of a declaration, under locks of its addresses, its visitor and all contacts concerned. Its time is
    moved on where another declaration of the same browser, of a later time, got the locks first.

    Raises `TryAgain` where contacts were merged or addresses moved while the locks were waited for, `Conflict` where
    the service contradicts what it has verified, `NotFound` where the contact it names was erased.
    """
    given = [address for address in (declaration.email, declaration.phone) if address]
    more = [naming.lock_name] if naming and naming.external_id else []
    await identity_locks.lock_addresses(conn, given, *more)
    await identity_locks.lock_visitors(conn, [visitor_id] if visitor_id else [])
    scene = await _look(conn, given, visitor_id, naming)
    await _lock_consents(conn, given, scene.contacts)
    present = await identity_locks.lock_contacts(conn, scene.contacts)
    again = await _look(conn, given, visitor_id, naming)
    if again.contacts != scene.contacts or again.survivors != scene.survivors:
        raise TryAgain("the people concerned have changed")
    return await _facts(conn, declaration, visitor_id, naming, _without_erased(again, present))


async def _lock_consents(conn: Connection, given: Collection[Address], contacts: Collection[UUID]) -> None:
    """Of what is given, and of numbers that may be replaced by it."""
    known = await profiles.read_slots(conn, contacts)
    addresses = {*given, *(slot.address for slots in known.values() for slot in slots)}
    await consents.lock(conn, {consents.name_key(medium, a) for a in addresses for medium in CONSENT_MEDIA}, ())


async def _look(
    conn: Connection, given: Collection[Address], visitor_id: UUID | None, naming: Naming | None
) -> Scene:  # fmt: skip
    bound = tuple((await bindings.list_bindings(conn, [visitor_id]))[visitor_id]) if visitor_id else ()
    named = await _find_named(conn, naming)
    concerned = await profiles.find_having(conn, given) | {binding.contact_id for binding in bound}
    concerned |= {contact for contact in (named.named, named.hinted) if contact}
    survivors = await profiles.read_survivors(conn, concerned)
    roots = await profiles.read_roots(conn, concerned)
    return Scene(bound, named, survivors, await profiles.read_parts(conn, set(roots.values())))


def _without_erased(scene: Scene, present: Collection[UUID]) -> Scene:
    return replace(scene, parts={root: parts for root, parts in scene.parts.items() if root in present})


async def _find_named(conn: Connection, naming: Naming | None) -> Named:
    if naming is None:
        return Named()
    known = await identities.find(conn, naming.service_id, naming.external_id) if naming.external_id else None
    known_as: UUID | None = known["contact_id"] if known else None
    is_sure = known is not None and known["is_verified"]
    is_verified = is_sure or (naming.is_verified and naming.external_id is not None)
    if naming.contact_id is None:
        return Named(known_as, None, is_verified) if is_sure else Named(None, known_as, is_verified)
    roots = await profiles.read_roots(conn, [naming.contact_id, *([known_as] if known_as else [])])
    if known_as and is_sure and roots[known_as] != roots[naming.contact_id]:
        raise Conflict(
            f"This service has verified that this external_id is {public_id('con', roots[known_as])} (rules I): name"
            " that contact, or leave one of the two out.",
            code="external_id_taken",
        )
    return Named(naming.contact_id, None, is_verified)


async def _facts(
    conn: Connection, declaration: Declaration, visitor_id: UUID | None, naming: Naming | None, scene: Scene
) -> DeclarationFacts:
    times = [time for one in scene.bindings for time in (one.start, one.until, one.bound_at) if time]
    at = max([declaration.at, *(time + _TICK for time in times)])
    if naming and naming.contact_id and naming.contact_id not in scene.contacts:
        raise NotFound(f"{public_id('con', naming.contact_id)} was erased (rule H5): there is nothing to say of it.")
    found = []
    slots = await profiles.read_slots(conn, scene.contacts)
    for root, parts in sorted(scene.parts.items()):
        others = await bindings.count_visitors(conn, parts, at - WEEK, [visitor_id]) if visitor_id else 0
        found.append(Profile(root, tuple(slot for part in parts for slot in slots[part]), others))
    named, hinted = (c if c in scene.contacts else None for c in (scene.named.named, scene.named.hinted))
    facts = DeclarationFacts(
        replace(declaration, at=at), new_id(), found, visitor_id, scene.bindings, scene.survivors, named, hinted,
        await _strangers(conn, naming, scene),
    )  # fmt: skip
    if facts.named and (profile := facts.profile_of(facts.named)) and facts.is_stranger(profile):
        raise Conflict(
            "This service has verified another external_id of its own for this contact, so they are two persons (rules"
            " I): name the contact by that id, or take the identity back first.",
            code="verified_identities",
        )
    return facts


async def _strangers(conn: Connection, naming: Naming | None, scene: Scene) -> frozenset[UUID]:
    """Who is somebody else, by other ids that the service has verified."""
    if naming is None or not scene.named.is_verified:
        return frozenset()
    rows = await identities.list_verified(conn, scene.contacts)
    others = {
        row["contact_id"]
        for row in rows
        if row["service_id"] == naming.service_id and row["external_id"] != naming.external_id
    }
    return frozenset(others)

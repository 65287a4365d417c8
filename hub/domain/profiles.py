"""Profiles and what is declared of them: the facts that rules I1 to I7 (`identity`) decide on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Literal
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.bindings import Binding, Trust, open_binding, survivor

Kind = Literal["email", "phone"]


class Standing(IntEnum):
    """How an address came to be a profile's: typed into a browser; declared properly; proved. The last two own it."""

    UNCONFIRMED = 0
    DECLARED = 1
    PROVED = 2


@dataclass(frozen=True, slots=True)
class Slot:
    """An address of a profile, and the contact it was written for: the profile's own, or one merged into it."""

    contact_id: UUID
    address: Address
    standing: Standing


@dataclass(frozen=True, slots=True)
class Profile:
    """A contact with all its addresses, and those of the contacts merged into it after its own.

    An address counts as unconfirmed where another contact has proved it. `visitors`: how many others than the
    declaration's were bound to it in the last week.
    """

    contact_id: UUID
    slots: tuple[Slot, ...] = ()
    visitors: int = 0

    def slot(self, kind: Kind) -> Slot | None:
        """The address of this kind that it is known by now."""
        return next((slot for slot in self.slots if slot.address.type == kind), None)

    def find(self, address: Address | None) -> Slot | None:
        """This very address, in whatever spelling, as well as it is known."""
        found = (slot for slot in self.slots if address and address_key(slot.address) == address_key(address))
        return max(found, key=lambda slot: slot.standing, default=None)

    def owns(self, address: Address | None) -> bool:
        """Whether it has this address, and not merely by a browser's word."""
        slot = self.find(address)
        return slot is not None and slot.standing > Standing.UNCONFIRMED

    @property
    def is_confirmed(self) -> bool:
        """Whether it owns any address."""
        return any(slot.standing > Standing.UNCONFIRMED for slot in self.slots)


@dataclass(frozen=True, slots=True)
class Declaration:
    """Somebody says who the customer is. `by` the unsigned browser, a service's backend, or the site's signature.

    `consents`: what they agree to on these addresses: to be written to over a medium, to be tracked. `is_proved`: by a
    one-time code.
    """

    by: Literal["browser", "service", "signature"]
    at: datetime
    email: Address | None = None
    phone: Address | None = None
    consents: Collection[str] = ()
    is_proved: bool = False

    @property
    def is_proper(self) -> bool:
        """Whether it may own, replace and grant."""
        return self.by != "browser"

    @property
    def trust(self) -> Trust:
        """How well a visitor is known by it."""
        is_verified = self.by == "signature" or (self.is_proper and self.is_proved)
        return Trust.VERIFIED if is_verified else Trust.DECLARED

    @property
    def standing(self) -> Standing:
        """How well an address is known by it."""
        if not self.is_proper:
            return Standing.UNCONFIRMED
        return Standing.PROVED if self.trust is Trust.VERIFIED else Standing.DECLARED


@dataclass(frozen=True, slots=True)
class DeclarationFacts:
    """All that a declaration's decision depends on, read under locks of its addresses, its visitor and its profiles.

    `profiles`: every one that has one of the addresses, the one the visitor is bound to, and those named below; oldest
    first. `bindings`: the visitor's; none without a visitor. `survivors`: where contacts were merged into.
    `new_contact_id`: to be used if there is to be a new one.

    `named`: the contact that a service says it is, by the hub's id or by an id of its own that it has verified.
    `hinted`: the same by an id it has not. `strangers`: profiles that are somebody else for certain, since the service
    has verified another id of its own for each.
    """

    declaration: Declaration
    new_contact_id: UUID
    profiles: Sequence[Profile] = ()
    visitor_id: UUID | None = None
    bindings: Sequence[Binding] = ()
    survivors: Mapping[UUID, UUID] = field(default_factory=dict)
    named: UUID | None = None
    hinted: UUID | None = None
    strangers: Collection[UUID] = ()

    @property
    def current(self) -> Binding | None:
        """Who the visitor is until now."""
        return open_binding(self.bindings)

    @property
    def bound(self) -> Profile | None:
        """The profile the visitor is bound to until now."""
        return self.profile_of(self.current.contact_id) if self.current else None

    def is_stranger(self, profile: Profile) -> bool:
        """Whether it is somebody else, whatever the addresses say."""
        return any(self.survivor(contact) == profile.contact_id for contact in self.strangers)

    def profile_of(self, contact_id: UUID) -> Profile | None:
        """The profile that a contact is, or is part of."""
        return next((profile for profile in self.profiles if profile.contact_id == self.survivor(contact_id)), None)

    def survivor(self, contact_id: UUID) -> UUID:
        """The contact that this one goes on as."""
        return survivor(contact_id, self.survivors)

    def holder(self, address: Address | None) -> Profile | None:
        """The profile an address leads to: its owner, else the visitor's own, else one that owns nothing at all."""
        having = [(profile, slot) for profile in self.profiles if (slot := profile.find(address))]
        owner = max(having, key=lambda pair: pair[1].standing, default=None)
        if owner and owner[1].standing > Standing.UNCONFIRMED:
            return owner[0]
        if self.bound and self.bound.find(address):
            return self.bound
        return next((profile for profile, _ in having if not profile.is_confirmed), None)


def address_key(address: Address) -> tuple[str, str]:
    """Equal for every spelling of one address."""
    return address.type, address.match_key

"""Whose a declared email or phone number is, and what that changes (rules I1 to I7 of links.md).

A browser's unsigned word binds its visitor and fills empty slots as *unconfirmed*, which owns nothing. The word of a
service, or one signed by the site's backend, is *proper*: it owns what nobody owns, and replaces. An email is what a
profile is known by; a phone number is something it has, unless it has nothing else.

Settled here, because links.md leaves it open:

- An unconfirmed address leads to a profile only where that has nothing confirmed, so that there is nothing to take; a
  proper declaration confirms it there. Elsewhere nobody owns it: who properly declares it gets it, the unconfirmed
  copies go, and their profiles become merge candidates.
- An email nobody owns with a phone number that another profile owns is a new profile and a candidate (I1, I5), not a
  fill (I4, I2): a mistyped number would otherwise hand the owner's profile over, and the next phone revoke its consent.
- Emails are never replaced. Another email is another person: on a click's binding all of its history moves (I6); on a
  declared one each keeps their interval. A phone alone is replaced (I3) only where the profile has an email besides;
  else another phone on a shared browser is another person too.
- A click-bound visitor on a profile without email that gives an email nobody owns fills it (I2, the mirror of the
  subscriber who gives only a phone). If somebody else owns the email, the visitor is theirs, the click's history with
  it, and the two are candidates (I7), unless a phone given along says that they are two persons.
- A declaration that names an owned address of the visitor's profile, or a proper one that fills or replaces there,
  raises a click's binding. An unsigned fill does not: the visitor stays "bound only by a click".
- A first declaration reaches back 30 days, as a click does (K3). An unsigned one never ends a verified binding; a
  proper one does: the backend knows who is there now.
- Consent is granted only on an address that is the profile's after the decision. The old number of I3 is revoked on
  every medium, with or without consent for the new; but only if it was owned: an unconfirmed one may be a stranger's.
- A service may name the profile it speaks of: by its contact, or by an id of its own that it has verified. Then that is
  who it is, and the addresses are placed there by the same rules: what is owned elsewhere is not taken, an email is not
  replaced. Its id that it has not verified counts as a declared binding does: unless the addresses say otherwise.
- Two ids that one service has verified are two persons: who comes with one is never a profile that has the other.
- Where a limit stops the visitor's binding, the rest of the declaration goes on. A fourth contact of a visitor is
  refused, the three it had may come back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.bindings import REACH, Bind, Binding, BindingChange, End, Raise, Retract, Trust, last_end, over_limits
from hub.domain.declared import PHONE_MEDIA
from hub.domain.profiles import Declaration, DeclarationFacts, Kind, Profile, Slot, Standing, address_key

_PHONE_CONSENTS: Final = (*PHONE_MEDIA, "tracking")
"""All that is kept under a phone number."""

# Decisions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Create:
    """A new contact."""

    contact_id: UUID
    reason: str


@dataclass(frozen=True, slots=True)
class Fill:
    """A contact gets an address."""

    contact_id: UUID
    address: Address
    standing: Standing
    reason: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """An address is better known than it was (`slot.standing` is what it was)."""

    slot: Slot
    standing: Standing
    reason: str = "declared_again"


@dataclass(frozen=True, slots=True)
class Remove:
    """A contact loses an address: it was replaced, or its owner turned up."""

    slot: Slot
    reason: str


@dataclass(frozen=True, slots=True)
class Suggest:
    """Two profiles may be one person: a merge candidate. `is_proper`: not on the word of a browser alone."""

    contact_id: UUID
    other_contact_id: UUID
    reason: str
    is_proper: bool


@dataclass(frozen=True, slots=True)
class Consent:
    """An entry for the consent ledger; pending asks the customer, and changes nothing that is granted or revoked."""

    kind: Literal["granted", "revoked", "pending"]
    medium: str
    address: Address
    reason: str

    @property
    def entry(self) -> Literal["granted", "replaced", "revoked", "pending"]:
        """As the ledger has it: a number that was replaced is not one whose owner refused."""
        return "replaced" if self.reason == "I3" and self.kind == "revoked" else self.kind


Change = BindingChange | Create | Fill | Confirm | Remove | Suggest | Consent


@dataclass(frozen=True, slots=True)
class Decision:
    """Who it is (the profile's contact; `part_id`: the very one of its contacts that was spoken of), by which rule, and
    what is to be written, in that order.

    `notes` say what was declared in vain: `not_taken`, `not_replaced`, `outranked`.
    """

    contact_id: UUID
    rule: str
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()
    part_id: UUID | None = None


# Rules I ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Person:
    """Who it is: `profile` None: a new one. `contact_id` is the very contact to bind and to fill."""

    profile: Profile | None
    contact_id: UUID
    rule: str

    @property
    def id(self) -> UUID:
        return self.profile.contact_id if self.profile else self.contact_id


def declare(facts: DeclarationFacts) -> Decision:
    """What a declaration says about whose the addresses and the browser are."""
    person = _identify(facts)
    created = [] if person.profile else [Create(person.contact_id, person.rule)]
    placed, notes = _place(facts, person)
    bindings, outranked = _bind(facts, person, placed)
    suggested, consents = _suggest(facts, person, placed), _consent(facts, person, placed)
    changes = (*created, *placed, *bindings, *suggested, *consents)
    return Decision(person.id, _rule(person, placed), changes, notes + outranked, person.contact_id)


def _rule(person: _Person, placed: Iterable[Change]) -> str:
    """The rule that tells most: what was filled or replaced on a profile that was to be expected."""
    filled = (c.reason for c in placed if isinstance(c, Fill)) if person.rule in {"same_person", "I4"} else ()
    return next(iter(filled), person.rule)


def _identify(facts: DeclarationFacts) -> _Person:
    declaration, bound, current = facts.declaration, facts.bound, facts.current
    if named := _named(facts):
        return named
    is_another = bound is not None and (facts.is_stranger(bound) or _is_another(facts, bound, current))
    if bound and current and not is_another:
        return _Person(bound, current.contact_id, "same_person")
    address = declaration.email or declaration.phone
    holder = facts.holder(address)
    if holder and holder is not bound and not facts.is_stranger(holder) and (slot := holder.find(address)):
        rule = _moving_rule(facts, holder) if is_another else "I4"
        return _Person(holder, slot.contact_id, rule)
    return _Person(None, facts.new_contact_id, _moving_rule(facts, None) if is_another else "I1")


def _named(facts: DeclarationFacts) -> _Person | None:
    """The profile a service says it is, unless it said so by an id that it is not sure of and the addresses differ."""
    contact_id = facts.named or facts.hinted
    profile = facts.profile_of(contact_id) if contact_id else None
    if contact_id is None or profile is None:
        return None
    if facts.named is None and (facts.is_stranger(profile) or _is_another(facts, profile, None)):
        return None
    if facts.bound is profile and facts.current:
        return _Person(profile, facts.current.contact_id, "same_person")
    return _Person(profile, contact_id, _moving_rule(facts, None) if facts.bound else "I4")


def _is_another(facts: DeclarationFacts, known: Profile, current: Binding | None) -> bool:
    """Whether these addresses are not those of the person it is known to be, by this binding or (None) otherwise."""
    email, holder = facts.declaration.email, facts.holder(facts.declaration.email)
    if holder is not None and holder is not known:
        return True
    slot = known.find(email)
    if slot is None and email and known.slot("email"):
        return True
    is_named = slot is not None and slot.standing > Standing.UNCONFIRMED
    return not is_named and _has_other_phone(facts, known, current)


def _has_other_phone(facts: DeclarationFacts, bound: Profile, current: Binding | None) -> bool:
    """Whether the phone given says that it is somebody else: by itself, without an email that says who."""
    phone = facts.declaration.phone
    if phone is None or facts.holder(phone) is bound:
        return False
    if current is None or current.trust > Trust.CLICK:
        return bound.slot("phone") is not None and bound.slot("email") is None
    if current.destination and current.destination.type == "phone":
        return address_key(current.destination) != address_key(phone)
    return bound.slot("phone") is not None


def _moving_rule(facts: DeclarationFacts, holder: Profile | None) -> str:
    if holder and _may_be_one(facts, holder):
        return "I7"
    return "I6" if facts.current and facts.current.trust is Trust.CLICK else "shared_browser"


def _may_be_one(facts: DeclarationFacts, holder: Profile) -> bool:
    """I7: an owned email, declared on a profile with no other email and nothing else against it."""
    bound, email = facts.bound, facts.declaration.email
    if bound is None or email is None or holder is bound:
        return False
    has_no_other = bound.slot("email") is None or bound.find(email) is not None
    return has_no_other and not facts.is_stranger(bound) and not _has_other_phone(facts, bound, facts.current)


# Addresses (I1 to I5) -----------------------------------------------------------------------------------------------


def _place(facts: DeclarationFacts, person: _Person) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """What happens to the addresses given, and what was said in vain."""
    changes: list[Change] = []
    notes: list[str] = []
    for address in _given(facts.declaration):
        if _is_taken(facts, person, address):
            notes.append("not_taken")
        elif more := _put(facts.declaration, person, address):
            changes += [*_displace(facts, person, address), *more]
        elif not (person.profile and person.profile.find(address)):
            notes.append("not_replaced")
    return tuple(changes), tuple(notes)


def _is_taken(facts: DeclarationFacts, person: _Person, address: Address) -> bool:
    """Whether it stays with another profile: its owner's, or by an unsigned word, any but the one just left."""
    holder = facts.holder(address)
    if holder is None or holder is person.profile:
        return False
    return holder.owns(address) or (not facts.declaration.is_proper and holder is not facts.bound)


def _put(declaration: Declaration, person: _Person, address: Address) -> list[Change]:
    standing, kind = declaration.standing, _kind(address)
    if person.profile is None:
        return [Fill(person.contact_id, address, standing, "I1")]
    if slot := person.profile.find(address):
        return [Confirm(slot, standing)] if standing > slot.standing else []
    old = person.profile.slot(kind)
    if old is None:
        return [Fill(person.contact_id, address, standing, "I2")]
    if not declaration.is_proper or kind == "email":
        return []
    return [Remove(old, "I3"), Fill(old.contact_id, address, standing, "I3")]


def _displace(facts: DeclarationFacts, person: _Person, address: Address) -> list[Change]:
    """The unconfirmed copies of an address that gets an owner."""
    if not facts.declaration.is_proper:
        return []
    others = (profile for profile in facts.profiles if profile is not person.profile)
    copies = (slot for profile in others for slot in profile.slots if address_key(slot.address) == address_key(address))
    return [Remove(slot, "displaced") for slot in copies if slot.standing is Standing.UNCONFIRMED]


# The visitor --------------------------------------------------------------------------------------------------------


def _bind(
    facts: DeclarationFacts, person: _Person, placed: Iterable[Change]
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    declaration, current = facts.declaration, facts.current
    if facts.visitor_id is None:
        return (), ()
    if current and person.profile and person.profile is facts.bound:
        return _raise(facts, person.profile, current, placed), ()
    if current and current.trust is Trust.VERIFIED and not declaration.is_proper:
        return (), ("outranked",)
    start, freed = _free(facts, person.rule)
    retracted = [change.binding for change in freed if isinstance(change, Retract)]
    kept = [binding for binding in facts.bindings if binding not in retracted]
    known = {facts.survivor(binding.contact_id) for binding in kept} | {person.id}
    visitors = person.profile.visitors if person.profile else 0
    if flags := over_limits(facts.visitor_id, person.id, known, visitors):
        return (*freed, *flags), ()
    bind = Bind(facts.visitor_id, person.contact_id, start, None, declaration.trust, declaration.at, person.rule)
    return (*freed, bind), ()


def _free(facts: DeclarationFacts, rule: str) -> tuple[datetime, tuple[End | Retract, ...]]:
    """From when on the visitor can be somebody, and what has to give way for that."""
    at, current = facts.declaration.at, facts.current
    if current is None:
        return max(at - REACH, last_end(facts.bindings) or at - REACH), ()
    if current.trust is Trust.CLICK:
        return current.start, (Retract(current, rule),)
    return at, (End(current, at, rule),)


def _raise(facts: DeclarationFacts, profile: Profile, current: Binding, placed: Iterable[Change]) -> tuple[Change, ...]:
    declaration = facts.declaration
    is_named = any(
        facts.holder(address) is profile and slot.standing > Standing.UNCONFIRMED
        for address in _given(declaration)
        if (slot := profile.find(address))
    )
    is_known = (
        is_named
        or facts.named is not None
        or (declaration.is_proper and any(isinstance(c, Fill | Confirm) for c in placed))
    )
    return (Raise(current, declaration.trust, "declared"),) if is_known and declaration.trust > current.trust else ()


# Candidates and consent ---------------------------------------------------------------------------------------------


def _suggest(facts: DeclarationFacts, person: _Person, placed: Iterable[Change]) -> list[Suggest]:
    """Each pair once, with the first reason."""
    reasons: dict[UUID, str] = {}
    for address in _given(facts.declaration):
        holder = facts.holder(address)
        if holder and (holder.owns(address) or holder is not facts.bound):
            reasons.setdefault(holder.contact_id, "I5")
    for change in placed:
        loser = facts.profile_of(change.slot.contact_id) if isinstance(change, Remove) else None
        if loser and loser is not facts.bound:
            reasons.setdefault(loser.contact_id, "displaced")
    if facts.bound and person.rule == "I7":
        reasons[facts.bound.contact_id] = "I7"
    is_proper = facts.declaration.is_proper
    strangers = {facts.survivor(contact) for contact in facts.strangers}
    return [
        Suggest(person.id, other, why, is_proper)
        for other, why in reasons.items()
        if other != person.id and other not in strangers
    ]


def _consent(facts: DeclarationFacts, person: _Person, placed: Iterable[Change]) -> list[Consent]:
    """I3's old number is revoked; what was agreed to is granted, or asked for, on what is the profile's now."""
    declaration = facts.declaration
    replaced = [c.slot for c in placed if isinstance(c, Remove) and c.reason == "I3"]
    owned = [slot.address for slot in replaced if slot.standing > Standing.UNCONFIRMED]
    revoked = [Consent("revoked", medium, address, "I3") for address in owned for medium in _PHONE_CONSENTS]
    kind: Literal["granted", "pending"] = "granted" if declaration.is_proper else "pending"
    wanted = [(medium, address) for medium in sorted(declaration.consents) for address in _agreed(declaration, medium)]
    return revoked + [
        Consent(kind, medium, address, "given_with_it")
        for medium, address in wanted
        if _is_theirs(facts, person, address, placed)
    ]


def _agreed(declaration: Declaration, medium: str) -> list[Address]:
    """The addresses that consent to a medium is about."""
    kinds = {"email": {"email"}, "tracking": {"email", "phone"}}.get(medium, {"phone"})
    return [address for address in _given(declaration) if address.type in kinds]


def _is_theirs(facts: DeclarationFacts, person: _Person, address: Address, placed: Iterable[Change]) -> bool:
    for change in placed:
        match change:
            case Fill() if change.address == address:
                return True
            case Confirm() if address_key(change.slot.address) == address_key(address):
                return True
    return person.profile is not None and facts.holder(address) is person.profile


def _given(declaration: Declaration) -> list[Address]:
    return [address for address in (declaration.email, declaration.phone) if address]


def _kind(address: Address) -> Kind:
    return "email" if address.type == "email" else "phone"

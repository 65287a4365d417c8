"""A world of people, browsers and links in memory: it reads facts, asks the rules, and writes exactly what they say.

What was seen (clicks, landings) is kept apart from what was concluded, which `state` gives as a whole: undoing every
operation in reverse order must give the first `state` again.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from hub.domain import bindings as b
from hub.domain import identity as i
from hub.domain.addresses import Address
from hub.domain.declared import read_declared
from hub.domain.merging import Merge, Operation, Side, Who, check_undo, merge
from hub.domain.profiles import Declaration, DeclarationFacts, Profile, Slot, Standing
from hub.domain.stitching import Click, ClickDecision, ClickFacts, KeptOut, Link, Page, stitch

SITE = "shop.example"
SlotKey = tuple[UUID, str, str]


@dataclass
class World:
    now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)
    ids: Any = field(default_factory=lambda: count(1))
    contacts: dict[UUID, None] = field(default_factory=dict)
    merged: dict[UUID, UUID] = field(default_factory=dict)
    slots: dict[SlotKey, Slot] = field(default_factory=dict)
    bindings: dict[UUID, b.Binding] = field(default_factory=dict)
    claims: dict[UUID, UUID] = field(default_factory=dict)
    flags: Counter[b.Flag] = field(default_factory=Counter)
    candidates: Counter[frozenset[UUID]] = field(default_factory=Counter)
    consents: list[tuple[UUID, i.Consent]] = field(default_factory=list)
    ledger: list[Operation] = field(default_factory=list)
    made: dict[UUID, list[UUID]] = field(default_factory=lambda: defaultdict(list))
    landed: dict[UUID, set[UUID]] = field(default_factory=lambda: defaultdict(set))
    kept_out: dict[UUID, list[tuple[UUID, KeptOut]]] = field(default_factory=lambda: defaultdict(list))
    suspect: set[UUID] = field(default_factory=set)
    identities: dict[UUID, tuple[UUID, str]] = field(default_factory=dict)

    # What there is -----------------------------------------------------------------------------------------------

    def id(self) -> UUID:
        return UUID(int=next(self.ids))

    def wait(self, **time: float) -> "World":
        self.now += timedelta(**time)
        return self

    def person(self, *, phone: str | None = None, email: str | None = None) -> UUID:
        """A contact the hub has known all along, by what they wrote from."""
        contact = self.id()
        self.contacts[contact] = None
        for address in read_declared(email, phone, "DE") if email or phone else ():
            if address:
                self.put(Slot(contact, address, Standing.PROVED))
        return contact

    def put(self, slot: Slot) -> None:
        self.slots[slot.contact_id, slot.address.type, slot.address.match_key] = slot

    def link(self, contact: UUID | None, to: str | None = None, message: UUID | None = None) -> Link:
        """A tracked link in a message of its own, sent now."""
        address = Address("email" if "@" in to else "phone", to) if to else None
        return Link(self.id(), message or self.id(), contact, self.now, address)

    def contact_of(self, contact: UUID) -> UUID:
        return b.survivor(contact, self.merged)

    def bindings_of(self, visitor: UUID) -> list[b.Binding]:
        return sorted((one for one in self.bindings.values() if one.visitor_id == visitor), key=lambda one: one.start)

    def who(self, visitor: UUID, *, ago: timedelta = timedelta(0)) -> UUID | None:
        """Whose a visit of this browser is."""
        contact = b.contact_at(self.bindings_of(visitor), self.now - ago)
        return None if contact is None else self.contact_of(contact)

    def addresses(self, contact: UUID) -> dict[str, Standing]:
        root = self.contact_of(contact)
        return {s.address.value: s.standing for s in self.slots.values() if self.contact_of(s.contact_id) == root}

    def owners(self, value: str) -> list[UUID]:
        return [s.contact_id for s in self.slots.values() if s.address.value == value and s.standing > 0]

    def said(self, value: str) -> list[tuple[str, str]]:
        """What stands in the consent ledger about an address."""
        return [(one.kind, one.medium) for _, one in self.consents if one.address.value == value]

    def state(self) -> Any:
        """Everything that was concluded, made comparable."""
        parts = (self.contacts, self.merged, self.slots, self.bindings, self.claims)
        return *(dict(part) for part in parts), +self.flags, +self.candidates, list(self.consents)

    # What happens ------------------------------------------------------------------------------------------------

    def click(
        self,
        visitor: UUID,
        link: Link,
        *,
        at: datetime | None = None,
        is_person: bool = True,
        browser: Collection[UUID] = (),
        **page: Any,
    ) -> ClickDecision:
        """A request to a link, and the page it leads to two seconds later, with the click's receipt."""
        self.now += timedelta(seconds=0 if at else 3)
        click = Click(self.id(), at or self.now - timedelta(seconds=2), is_person, SITE)
        landing = replace(
            Page(visitor, True, "load", SITE, self.now, timedelta(seconds=1), receipts=[click.id]),
            **page,
        )
        facts = self._click_facts(click, landing, link, {visitor, *browser})
        decision = stitch(facts)
        if decision.outcome not in {"not_a_person", "anonymous", "waiting", "no_consent"}:
            self.landed[link.id].add(visitor)
        if decision.outcome == "session_only" and link.contact_id:
            self.kept_out[visitor].append((link.contact_id, KeptOut(click.at, link.message_id)))
        self._write("click", decision.changes)
        return decision

    def _click_facts(self, click: Click, page: Page, link: Link, browser: set[UUID]) -> ClickFacts:
        is_suspect = link.id in self.suspect or self.flags[b.Flag("link", link.id)] > 0
        contact = link.contact_id and self.contact_of(link.contact_id)
        kept = [one for v in browser for c, one in self.kept_out[v] if self.contact_of(c) == contact]
        return ClickFacts(
            click, page, replace(link, is_suspect=is_suspect), browser, self.claims.get(link.id),
            self.bindings_of(page.visitor_id), kept, len(self.landed[link.id] - browser),
            self._visitors(contact, page.visitor_id) if contact else 0, self.merged,
        )  # fmt: skip

    def _visitors(self, contact: UUID, besides: UUID) -> int:
        recent = (one for one in self.bindings.values() if one.bound_at > self.now - b.WEEK)
        return len({one.visitor_id for one in recent if self.contact_of(one.contact_id) == contact} - {besides})

    def declare(
        self,
        visitor: UUID | None = None,
        *,
        by: Any = "service",
        email: str | None = None,
        phone: str | None = None,
        consents: Sequence[str] = (),
        named: UUID | None = None,
        hinted: UUID | None = None,
        strangers: Collection[UUID] = (),
    ) -> i.Decision:
        """Somebody says who the customer is; a service may name the profile by its own id, verified or not."""
        self.now += timedelta(seconds=1)
        addresses = read_declared(email, phone, "DE", consents, is_named=bool(named or hinted))
        declaration = Declaration(by, self.now, *addresses, consents)
        bindings = self.bindings_of(visitor) if visitor else []
        known = {contact for contact in (named, hinted) if contact}
        decision = i.declare(
            DeclarationFacts(
                declaration, self.id(), self._profiles(declaration, bindings, visitor, known), visitor, bindings,
                self.merged, named, hinted, strangers,
            )
        )  # fmt: skip
        self._write("declaration", decision.changes)
        return decision

    def _profiles(
        self, said: Declaration, bindings: list[b.Binding], visitor: UUID | None, known: set[UUID]
    ) -> list[Profile]:
        keys = {(a.type, a.match_key) for a in (said.email, said.phone) if a}
        having = known | {s.contact_id for s in self.slots.values() if (s.address.type, s.address.match_key) in keys}
        current = b.open_binding(bindings)
        roots = {self.contact_of(c) for c in having | ({current.contact_id} if current else set())}
        return [
            Profile(root, self._slots(root), self._visitors(root, visitor) if visitor else 0) for root in sorted(roots)
        ]

    def _slots(self, root: UUID) -> tuple[Slot, ...]:
        theirs = [s for s in self.slots.values() if self.contact_of(s.contact_id) == root]
        return tuple(sorted(theirs, key=lambda s: (s.contact_id != root, s.contact_id, s.address.value)))

    def merge(self, kept: UUID, absorbed: UUID, by: Who = "operator") -> None:
        self._write("merge", (merge(self._side(kept), self._side(absorbed), by),))

    def _side(self, contact: UUID) -> Side:
        theirs = frozenset(self.identities[c] for c in self.identities if self.contact_of(c) == contact)
        return Side(contact, self.merged.get(contact), identities=theirs)

    def undo(self, operation: Operation) -> None:
        """Raises what stands against it."""
        place = self.ledger.index(operation)
        if refusal := check_undo(operation, self.ledger[place + 1 :]):
            raise refusal
        for change in reversed(operation.changes):
            self._unwrite(operation.id, change)
        self.ledger[place] = replace(operation, is_undone=True)

    # Writing -----------------------------------------------------------------------------------------------------

    def _write(self, kind: Any, changes: Sequence[Any]) -> None:
        if changes:
            self.ledger.append(Operation(self.id(), kind, tuple(changes)))
            for change in changes:
                self._apply(self.ledger[-1].id, change)

    def _apply(self, operation: UUID, change: Any) -> None:
        if isinstance(change, b.BindingChange):
            self._apply_to_visitor(operation, change)
        else:
            self._apply_to_contact(operation, change)

    def _apply_to_visitor(self, operation: UUID, change: b.BindingChange) -> None:
        match change:
            case b.Claim():
                assert change.link_id not in self.claims
                self.claims[change.link_id] = change.visitor_id
            case b.Bind():
                one = b.Binding(
                    self.id(), change.visitor_id, change.contact_id, change.start, change.until, change.trust,
                    change.bound_at, change.destination,
                )  # fmt: skip
                self.bindings[one.id] = one
                self.made[operation].append(one.id)
            case b.End():
                self.bindings[change.binding.id] = replace(change.binding, until=change.at)
            case b.Retract():
                del self.bindings[change.binding.id]
            case b.Raise():
                self.bindings[change.binding.id] = replace(change.binding, trust=change.trust)
            case b.Flag():
                self.flags[change] += 1

    def _apply_to_contact(self, operation: UUID, change: Any) -> None:
        match change:
            case i.Create():
                assert change.contact_id not in self.contacts
                self.contacts[change.contact_id] = None
            case i.Fill():
                key = (change.contact_id, change.address.type, change.address.match_key)
                assert key not in self.slots
                self.put(Slot(change.contact_id, change.address, change.standing))
            case i.Confirm():
                self.put(replace(change.slot, standing=change.standing))
            case i.Remove():
                del self.slots[change.slot.contact_id, change.slot.address.type, change.slot.address.match_key]
            case i.Suggest():
                self.candidates[frozenset({change.contact_id, change.other_contact_id})] += 1
            case i.Consent():
                self.consents.append((operation, change))
            case Merge():
                self.merged[change.absorbed_id] = change.kept_id

    def _unwrite(self, operation: UUID, change: Any) -> None:
        match change:
            case b.Claim():
                del self.claims[change.link_id]
            case b.Bind():
                del self.bindings[self.made[operation].pop()]
            case b.End() | b.Retract() | b.Raise():
                self.bindings[change.binding.id] = change.binding
            case b.Flag():
                self.flags[change] -= 1
            case i.Create():
                del self.contacts[change.contact_id]
            case i.Fill():
                del self.slots[change.contact_id, change.address.type, change.address.match_key]
            case i.Confirm() | i.Remove():
                self.put(change.slot)
            case i.Suggest():
                self.candidates[frozenset({change.contact_id, change.other_contact_id})] -= 1
            case i.Consent():
                self.consents.remove((operation, change))
            case Merge():
                del self.merged[change.absorbed_id]

"""Verb: somebody says who the customer is (rules I1 to I7).

`declare` decides and writes; who may call it with what, and how it was read, is its callers' concern: the API for
services (`identify_for_service`), the collector for browsers and signed pages.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.actions import identity_events
from hub.actions.consents import is_tracking_refused, refuses_to_be_tracked
from hub.actions.identity_consents import SOURCES, Telling, Voice, owners_of, telling
from hub.actions.identity_facts import Naming, lock_facts
from hub.actions.ledger import Entry, record
from hub.actions.merge import merge_by_switch
from hub.domain import identity
from hub.domain.bindings import Bind, Flag, Raise
from hub.domain.events import EventDraft
from hub.domain.identity import Change, Consent, Create, Decision, Fill, Suggest
from hub.domain.profiles import Declaration, DeclarationFacts, Standing, address_key
from hub.domain.tracking import ConsentMode
from hub.store import identities
from hub.store.pool import Connection

Also = Callable[[Connection, UUID], Awaitable[list[str]]]
"""Writes whatever else is said, of the very contact that it is said of, so that undoing a merge leaves it there; gives
the names of what changed, for `profile.updated`.
"""


@dataclass(frozen=True, slots=True)
class Declared:
    """Who it is now, and what came of it. `notes` say what was in vain, as `Decision` has them, besides `revoked`
    (consent that only the customer can give again), `over_limit` and `refused` (the visitor is not bound: there are too
    many; the customer has said no to being tracked). `op_id`: None where
    nothing changed. `drafts`: the events, still to be appended, last in the transaction.
    """

    contact_id: UUID
    is_new: bool
    rule: str
    notes: tuple[str, ...]
    op_id: UUID | None
    at: datetime
    drafts: Sequence[EventDraft]


async def declare(
    conn: Connection,
    declaration: Declaration,
    visitor_id: UUID | None,
    *,
    mode: ConsentMode,
    service_id: UUID | None = None,
    naming: Naming | None = None,
    also: Also | None = None,
    auto_merge: bool = False,
) -> Declared:
    """Decide whose the addresses and the visitor are, and write that. Takes its locks itself: the caller holds none of
    7009 (addresses) and after. Who refused to be tracked is bound to no visitor. A service that
    declares may know the profile from then on (H5).

    Raises `TryAgain` where the people concerned changed meanwhile: run the transaction again.
    """
    facts = await lock_facts(conn, declaration, visitor_id, naming)
    decision, changes, notes = await _decide(conn, facts, mode)
    at = facts.declaration.at
    told = await Telling.open(conn, changes, owners_of(changes, _owners(facts)))
    entry = Entry("declaration", declaration.by, decision.rule, at, service_id, visitor_id, decision.contact_id)
    op_id = await record(conn, entry, changes)
    contact_id, part_id = decision.contact_id, decision.part_id or decision.contact_id
    changed = identity_events.readdressed(changes)
    if service_id:
        await identities.know(conn, part_id, service_id)
    if also and (more := await also(conn, part_id)):
        changed.setdefault(contact_id, []).extend(more)
    drafts = await identity_events.identified(conn, contact_id, decision.rule, changes, at)
    drafts += await identity_events.updated(conn, changed, decision.rule, op_id, at)
    drafts += await identity_events.suggested(conn, op_id, at) if op_id else []
    drafts += await told.drafts(conn, Voice(SOURCES[declaration.by], at, service_id))
    if auto_merge:
        for change in changes:
            if isinstance(change, Suggest) and change.is_proper:
                drafts += await merge_by_switch(conn, change.contact_id, change.other_contact_id, at)
    is_new = any(isinstance(change, Create) for change in changes)
    return Declared(contact_id, is_new, decision.rule, notes, op_id, at, drafts)


async def _decide(
    conn: Connection, facts: DeclarationFacts, mode: ConsentMode
) -> tuple[Decision, tuple[Change, ...], tuple[str, ...]]:
    """The decision, its changes without consent that makes no difference, and what was in vain."""
    decision = identity.declare(facts)
    consents = [change for change in decision.changes if isinstance(change, Consent)]
    source = SOURCES[facts.declaration.by]
    kept, is_refused = await telling(conn, consents, source, facts.declaration.at)
    changes = tuple(c for c in decision.changes if not isinstance(c, Consent) or c in kept)
    notes = [*dict.fromkeys(decision.notes)]
    if await _is_refused(conn, decision, kept, mode):
        changes = tuple(change for change in changes if not isinstance(change, Bind | Raise))
        notes.append("refused")
    notes += ["revoked"] if is_refused else []
    notes += ["over_limit"] if any(isinstance(change, Flag) for change in changes) else []
    return decision, changes, tuple(notes)


async def _is_refused(conn: Connection, decision: Decision, agreed: Sequence[Consent], mode: ConsentMode) -> bool:
    """Whether a visitor would be bound to somebody who has said no to that: before, or under an address that turns out
    to be theirs. `agreed`: what is said of consent at the same time.
    """
    if not any(isinstance(change, Bind | Raise) for change in decision.changes):
        return False
    is_new = any(isinstance(change, Create) for change in decision.changes)
    filled = [change.address for change in decision.changes if isinstance(change, Fill)]
    granted = [change.address for change in agreed if change.medium == "tracking" and change.kind == "granted"]
    if await is_tracking_refused(conn, filled, granted, mode):
        return True
    return not is_new and await refuses_to_be_tracked(conn, decision.contact_id, mode)


def _owners(facts: DeclarationFacts) -> dict[tuple[str, str], UUID]:
    """The very contact that owns each address now."""
    return {
        address_key(slot.address): slot.contact_id
        for profile in facts.profiles
        for slot in sorted(profile.slots, key=lambda slot: slot.standing)
        if slot.standing > Standing.UNCONFIRMED
    }

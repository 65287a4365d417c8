"""Who may merge two contacts, and what can be undone (rules I, H5 of links.md and rules.md).

A merge is a pointer from one contact to the one it goes on as. Addresses, bindings and conversations stay with the
contact they were written for, so that taking the pointer away gives each of them what is theirs.

Undoing is exact: an operation is undone only while nothing later rests on what it wrote. A merge rests on nothing but
its two contacts and nothing rests on it, so merges are undone in any order.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from hub.domain.bindings import Bind, Claim, End, Flag, Raise, Retract
from hub.domain.errors import Conflict, Forbidden, NotFound, Refusal
from hub.domain.identity import Change, Confirm, Consent, Create, Fill, Remove, Suggest
from hub.domain.ids import public_id

Who = Literal["operator", "service", "switch", "provider"]


@dataclass(frozen=True, slots=True)
class Side:
    """One of two contacts to merge. `parents`: of every channel with a conversation of theirs, None where one has none;
    a standalone channel's is its service. `identities`: what services have verified them as (service, their own id).
    """

    contact_id: UUID
    merged_into: UUID | None = None
    is_erased: bool = False
    parents: frozenset[UUID | None] = frozenset()
    identities: frozenset[tuple[UUID, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Merge:
    """The absorbed contact goes on as the kept one; their merge candidate is settled."""

    absorbed_id: UUID
    kept_id: UUID
    reason: str


def merge(kept: Side, absorbed: Side, by: Who, service_id: UUID | None = None) -> Merge:
    """Merge two contacts. Raises what stands against it; whether the switch is on is for the caller to know."""
    refusal = (
        _check_who(kept, absorbed, by, service_id) or _check_present(kept, absorbed) or _check_verified(kept, absorbed)
    )
    if refusal:
        raise refusal
    return Merge(absorbed.contact_id, kept.contact_id, by)


def may_manage(parents: Collection[UUID | None], by: Who, service_id: UUID | None) -> bool:
    """Whether somebody may merge contacts on channels with these parents, or undo what was done to them (H5).

    Where no channel is concerned there is no parent, so it is for the operator.
    """
    return by != "service" or set(parents) == {service_id}


def _check_who(kept: Side, absorbed: Side, by: Who, service_id: UUID | None) -> Refusal | None:
    if may_manage(kept.parents | absorbed.parents, by, service_id):
        return None
    return Forbidden(
        "Contacts are merged by the operator, or by the parent of every channel they write on (rule H5): ask one of"
        " them; the two stay listed as a merge candidate.",
        code="merge_not_allowed",
    )


def _check_present(kept: Side, absorbed: Side) -> Refusal | None:
    if kept.is_erased or absorbed.is_erased:
        return NotFound("One of these contacts was erased (rule H5): there is nothing to merge.")
    merged = next((side for side in (kept, absorbed) if side.merged_into), None)
    if kept.contact_id == absorbed.contact_id or merged:
        into = merged.merged_into if merged and merged.merged_into else kept.contact_id
        return Conflict(
            f"One of these is part of {public_id('con', into)} already (rule H5): merge that one, or undo its merge.",
            code="already_merged",
        )
    return None


def _check_verified(kept: Side, absorbed: Side) -> Refusal | None:
    theirs = {service for service, _ in kept.identities} & {service for service, _ in absorbed.identities}
    if not theirs:
        return None
    return Conflict(
        f"{public_id('svc', min(theirs))} has verified both as customers of its own, so they are two persons (rules I):"
        " take one of the identities back first, if that was a mistake.",
        code="verified_identities",
    )


# Undo ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of the ledger: a click's, a declaration's or a merge's changes. An erasure has none and is not undone."""

    id: UUID
    kind: Literal["click", "declaration", "merge", "erasure"]
    changes: tuple[Change | Merge, ...]
    is_undone: bool = False


Thing = tuple[str, object]


def check_undo(operation: Operation, later: Iterable[Operation], erased: Collection[UUID] = ()) -> Refusal | None:
    """What stands against undoing an operation, given all that came after it and the contacts erased since."""
    if operation.is_undone:
        return Conflict("This was undone before (rules I): there is nothing left to undo.", code="already_undone")
    if operation.kind == "erasure" or any(("contact", contact) in _all(operation) for contact in erased):
        return Conflict("What was erased does not come back (rules I): this cannot be undone.", code="not_undoable")
    wrote = _wrote(operation)
    last = [other for other in later if not other.is_undone and wrote & _all(other)]
    if not last:
        return None
    return Conflict(
        "Later operations rest on this one (rules I): undo them first, the last of them first.",
        code="undo_order",
        operations=[public_id("op", other.id) for other in last],
    )


def _wrote(operation: Operation) -> set[Thing]:
    return {thing for change in operation.changes for thing in touched(change)[0]}


def _all(operation: Operation) -> set[Thing]:
    return {thing for change in operation.changes for things in touched(change) for thing in things}


def touched(change: Change | Merge) -> tuple[set[Thing], set[Thing]]:
    """What a change writes, and what it rests on besides."""
    match change:
        case Claim():
            return {("link", change.link_id)}, set()
        case Bind():
            return {("visitor", change.visitor_id)}, {("contact", change.contact_id)}
        case End() | Retract() | Raise():
            return {("visitor", change.binding.visitor_id)}, {("contact", change.binding.contact_id)}
        case Create():
            return {("contact", change.contact_id)}, set()
        case Fill():
            return _address(change.contact_id, change.address.type, change.address.match_key)
        case Confirm() | Remove():
            slot = change.slot
            return _address(slot.contact_id, slot.address.type, slot.address.match_key)
        case Merge():
            return {("merge", change.absorbed_id)}, {("contact", change.absorbed_id), ("contact", change.kept_id)}
        case Suggest():
            return set(), {("contact", change.contact_id), ("contact", change.other_contact_id)}
        case Consent() | Flag():
            return set(), set()


def _address(contact_id: UUID, kind: str, key: str) -> tuple[set[Thing], set[Thing]]:
    return {("slot", (contact_id, kind)), ("address", (kind, key))}, {("contact", contact_id)}

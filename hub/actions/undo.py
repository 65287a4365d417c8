"""Verb: take an identity operation back, exactly, the last ones first (rules I)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from hub.actions import identity_events
from hub.actions.ledger import AnyChange, take_back
from hub.actions.merge import Manager
from hub.domain import merging
from hub.domain.bindings import Bind, Claim, End, Flag, Raise, Retract
from hub.domain.consent import CONSENT_MEDIA
from hub.domain.errors import Conflict, Forbidden, NotFound
from hub.domain.events import Event, EventDraft
from hub.domain.identity import Confirm, Consent, Create, Fill, Remove
from hub.domain.ids import public_id
from hub.domain.merging import Merge, Operation
from hub.store import audit, consents, contact_views, event_log, identity_locks, identity_ops, profiles
from hub.store.identity_ops import OpRow
from hub.store.pool import Connection, TryAgain


@dataclass(frozen=True, slots=True)
class Undone:
    """An operation that was taken back."""

    op_id: UUID
    kind: str
    rule: str
    at: datetime
    events: Sequence[Event]


async def undo(conn: Connection, manager: Manager, op_id: UUID, now: datetime) -> Undone:
    """Take an operation back. Raises `NotFound`, `Forbidden` (`merge_not_allowed`), `Conflict` (`already_undone`,
    `undo_order` with the operations that rest on it, `not_undoable`, `in_use`), `TryAgain`.
    """
    op = await _lock_op(conn, manager, op_id)
    people = await _people(conn, op)
    await _check_may(conn, manager, op, people)
    await _lock(conn, op, people)
    later = await identity_ops.list_later(conn, op.position)
    # An erasure takes the changes away of what was done to its contact: nobody can tell what rests on what any more.
    has_erased = bool(await identity_ops.list_erased(conn, op.contact_ids)) or not all(one.written for one in later)
    if refusal := merging.check_undo(_operation(op, has_erased=has_erased), map(_operation, later)):
        raise refusal
    if not await take_back(conn, op.id, op.written):
        raise Conflict(
            "Since then a contact of this operation has come to use (it has conversations, or links were sent to it),"
            " or another contact has proved an address (rules I): it cannot be taken back exactly. Merge the contacts"
            " instead.",
            code="in_use",
        )
    await identity_ops.mark_undone(conn, op.position, now, manager.actor)
    if manager.service_id is None:
        details = orjson.dumps({"kind": op.kind, "rule": op.rule}).decode()
        await audit.add_audit(conn, manager.actor, "identity.undone", subject=public_id("op", op.id), details=details)
    drafts = await _tell(conn, op, manager.actor, now)
    return Undone(op.id, op.kind, op.rule, now, await event_log.append(conn, drafts))


# Who and what -------------------------------------------------------------------------------------------------------


async def _lock_op(conn: Connection, manager: Manager, op_id: UUID) -> OpRow:
    """The operation, locked, for those who may know of its contacts."""
    op = await identity_ops.lock(conn, op_id)
    is_known = op is not None and (
        manager.service_id is None or await contact_views.may_see(conn, manager.service_id, await _people(conn, op))
    )
    if op is None or not is_known:
        raise NotFound(
            "There is no such operation on a contact that this service may know of (rule H5): take its id of the"
            " contact's operations."
        )
    return op


async def _people(conn: Connection, op: OpRow) -> set[UUID]:
    """All that an operation is about, with everything that is one profile with them."""
    named = {*op.contact_ids, *([op.contact_id] if op.contact_id else ())}
    roots = set((await profiles.read_roots(conn, named)).values())
    return named | {part for parts in (await profiles.read_parts(conn, roots)).values() for part in parts}


async def _check_may(conn: Connection, manager: Manager, op: OpRow, people: set[UUID]) -> None:
    parents = await profiles.list_parents(conn, people)
    is_parent = merging.may_manage(parents, manager.who, manager.service_id)
    if not is_parent or (manager.service_id and not await _knows_all(conn, manager.service_id, op)):
        raise Forbidden(
            "What was done to contacts is undone by the operator, or by the parent of every channel they write on, if"
            " it may know all of them (rule H5): ask one of them.",
            code="merge_not_allowed",
        )


async def _knows_all(conn: Connection, service_id: UUID, op: OpRow) -> bool:
    for contact_id in op.contact_ids:
        person = await contact_views.list_person(conn, contact_id)
        if not await contact_views.may_see(conn, service_id, [row["id"] for row in person]):
            return False
    return True


async def _lock(conn: Connection, op: OpRow, people: set[UUID]) -> None:
    """Keep others from deciding anything about what the operation wrote."""
    visitors, links, addresses = set(), set(), set()
    for one in op.written:
        match one.change:
            case Claim():
                links.add(one.change.link_id)
                visitors.add(one.change.visitor_id)
            case Bind():
                visitors.add(one.change.visitor_id)
            case End() | Retract() | Raise():
                visitors.add(one.change.binding.visitor_id)
            case Flag(subject="link"):
                links.add(one.change.id)
            case Fill() | Consent():
                addresses.add(one.change.address)
            case Confirm() | Remove():
                addresses.add(one.change.slot.address)
    await identity_locks.lock_addresses(conn, addresses)
    await identity_locks.lock_visitors(conn, visitors)
    said = {one.change.address for one in op.written if isinstance(one.change, Consent)}
    await consents.lock(conn, {consents.name_key(medium, a) for a in said for medium in CONSENT_MEDIA}, ())
    await identity_locks.lock_links(conn, links)
    await identity_locks.lock_contacts(conn, people)
    if await _people(conn, op) != people:
        raise TryAgain("the contacts of this operation were merged meanwhile")


def _operation(op: OpRow, *, has_erased: bool = False) -> Operation:
    """As the rules know it; where a contact of it was erased, it is nothing that can come back."""
    return Operation(op.id, "erasure" if has_erased else op.kind, tuple(one.change for one in op.written), op.is_undone)


# Telling ------------------------------------------------------------------------------------------------------------


async def _tell(conn: Connection, op: OpRow, actor: str, now: datetime) -> list[EventDraft]:
    changes = [one.change for one in op.written]
    drafts: list[EventDraft] = []
    for change in changes:
        if isinstance(change, Merge):
            drafts += await identity_events.merged(conn, "profile.unmerged", change, op.id, actor, now)
    created = {change.contact_id for change in changes if isinstance(change, Create)}
    changed = {contact: what for contact, what in _changed(op, changes).items() if contact not in created}
    return drafts + await identity_events.updated(conn, changed, "undone", op.id, now)


def _changed(op: OpRow, changes: Iterable[AnyChange]) -> dict[UUID, list[str]]:
    """What is otherwise again, by contact."""
    found = identity_events.readdressed(changes)
    for change in changes:
        match change:
            case Bind():
                found.setdefault(change.contact_id, []).append("visitors")
            case End() | Retract() | Raise():
                found.setdefault(change.binding.contact_id, []).append("visitors")
            case Consent() if op.contact_id:
                found.setdefault(op.contact_id, []).append("consents")
    return found

"""Changing who somebody is: what rules K and I decided is written here, and only here, so that it can be undone.

Every operation is a row of the ledger with its changes in order, each with the rows it wrote. The caller holds the
locks (`identity_locks`) and has read what the decision rests on under them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.domain.bindings import Bind, BindingChange, Claim, End, Flag, Raise, Retract
from hub.domain.change_codec import Written, Wrote, thing_key
from hub.domain.consent import Source
from hub.domain.identity import Change, Confirm, Consent, Create, Fill, Remove, Suggest
from hub.domain.ids import new_id
from hub.domain.merging import Merge, touched
from hub.domain.profiles import Slot
from hub.store import bindings, candidates, consents, contacts, identity_ops, profiles
from hub.store.consents import LedgerDraft
from hub.store.identity_ops import OpKind
from hub.store.pool import Connection

AnyChange = Change | Merge

_CONSENT_SOURCES: Final[dict[str, Source]] = {"signature": "site", "browser": "browser", "operator": "operator"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What is recorded of an operation: on whose word (`source`: click, browser, service, signature, operator, switch),
    by which rule, and whom it is about first.
    """

    kind: OpKind
    source: str
    rule: str
    at: datetime
    service_id: UUID | None = None
    visitor_id: UUID | None = None
    contact_id: UUID | None = None


async def record(conn: Connection, entry: Entry, changes: Sequence[AnyChange]) -> UUID | None:
    """Write these changes, in order, and the operation that they are; gives its id. Nothing at all without changes.

    Raises `TryAgain` where an address is another's meanwhile.
    """
    if not changes:
        return None
    op_id = new_id()
    place = await identity_ops.add(
        conn, op_id, entry.kind, entry.source, entry.rule, entry.at,
        service_id=entry.service_id, visitor_id=entry.visitor_id, contact_id=entry.contact_id,
    )  # fmt: skip
    written = [Written(change, await _apply(conn, op_id, entry, change)) for change in changes]
    await identity_ops.write(conn, place, written, things(changes))
    await contacts.bump_generation(conn, readdressed(changes))
    return op_id


def things(changes: Iterable[AnyChange]) -> dict[str, bool]:
    """What an operation is about: written (True), or only rested on."""
    found: dict[str, bool] = {}
    for change in changes:
        wrote, rests_on = touched(change)
        found |= {thing_key(thing): True for thing in wrote}
        for thing in rests_on:
            found.setdefault(thing_key(thing), False)
    return found


def readdressed(changes: Iterable[AnyChange]) -> set[UUID]:
    """The contacts whose addresses change, or who go on as another."""
    found = set()
    for change in changes:
        match change:
            case Fill():
                found.add(change.contact_id)
            case Confirm() | Remove():
                found.add(change.slot.contact_id)
            case Merge():
                found |= {change.absorbed_id, change.kept_id}
    return found


async def _apply(conn: Connection, op_id: UUID, entry: Entry, change: AnyChange) -> Wrote:
    """Write one change; gives the rows by which it can be found again."""
    if isinstance(change, BindingChange):
        return await _apply_to_visitor(conn, op_id, entry, change)
    match change:
        case Create():
            await contacts.add_contacts(conn, {change.contact_id: None})
        case Fill():
            return [await profiles.fill(conn, Slot(change.contact_id, change.address, change.standing))]
        case Confirm():
            return [await profiles.confirm(conn, change.slot, change.standing)]
        case Remove():
            return await profiles.remove(conn, change.slot)
        case Suggest():
            return [await _suggest(conn, op_id, change)]
        case Consent():
            await consents.add(conn, [_consent(op_id, entry, change)])
        case Merge():
            await profiles.point(conn, change.absorbed_id, change.kept_id)
            await _settle(conn, change)
    return []


async def _apply_to_visitor(conn: Connection, op_id: UUID, entry: Entry, change: BindingChange) -> Wrote:
    match change:
        case Claim():
            await bindings.claim(conn, change.link_id, change.visitor_id)
        case Bind():
            binding_id = new_id()
            await bindings.add(conn, binding_id, change)
            return [binding_id.hex]
        case End():
            await bindings.end(conn, change.binding.id, change.at)
        case Retract():
            await bindings.retract(conn, change.binding.id, entry.at)
        case Raise():
            await bindings.raise_trust(conn, change.binding.id, change.trust)
        case Flag():
            await bindings.add_flag(conn, op_id, change)
    return []


async def _suggest(conn: Connection, op_id: UUID, change: Suggest) -> str:
    pair = change.contact_id, change.other_contact_id
    known = await candidates.suggest(conn, new_id(), op_id, pair, change.reason, is_proper=change.is_proper)
    return known.hex


def _consent(op_id: UUID, entry: Entry, change: Consent) -> LedgerDraft:
    source = _CONSENT_SOURCES.get(entry.source, "service")
    return LedgerDraft(
        change.medium, change.address, None, change.entry, source, entry.at, service_id=entry.service_id, op_id=op_id
    )


# Taking back --------------------------------------------------------------------------------------------------------


async def take_back(conn: Connection, op_id: UUID, written: Sequence[Written]) -> bool:
    """Write the opposite of every change of an operation, the last first. False where somebody rests on one of them by
    what no operation says: a contact has come to use, an address was proved by another. The caller must then roll back.
    """
    for one in reversed(written):
        if not await _take_back(conn, op_id, one.change, one.wrote):
            return False
    await bindings.delete_flags(conn, op_id)
    await contacts.bump_generation(conn, readdressed(one.change for one in written))
    return True


async def _take_back(conn: Connection, op_id: UUID, change: AnyChange, wrote: Wrote) -> bool:
    rows = [row for row in wrote if isinstance(row, int)]
    match change:
        case Claim():
            await bindings.claim(conn, change.link_id, None)
        case Bind():
            await bindings.delete(conn, UUID(str(wrote[0])))
        case End() | Retract() | Raise():
            await bindings.write(conn, change.binding)
        case Create():
            return await profiles.delete_contact(conn, change.contact_id)
        case Fill():
            await profiles.unfill(conn, rows[0])
        case Confirm():
            await profiles.unconfirm(conn, rows[0], change.standing)
        case Remove():
            return await profiles.restore(conn, rows)
        case Suggest():
            await candidates.withdraw(conn, UUID(str(wrote[0])), op_id)
        case Merge():
            await profiles.point(conn, change.absorbed_id, None)
            await _settle(conn, change)
        case Consent() | Flag():  # taken back with the operation itself
            pass
    return True


async def _settle(conn: Connection, change: Merge) -> None:
    parts = await profiles.read_parts(conn, [change.absorbed_id, change.kept_id])
    await candidates.settle(conn, {part for group in parts.values() for part in group})

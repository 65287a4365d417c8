"""Verb: two contacts are one person from now on (rules I, H5): a pointer, which undoing takes away again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from hub.actions import identity_events
from hub.actions.ledger import Entry, record
from hub.domain import merging
from hub.domain.errors import NotFound, Refusal
from hub.domain.events import Event, EventDraft
from hub.domain.ids import public_id
from hub.domain.merging import Merge, Side, Who
from hub.store import audit, event_log, identities, identity_locks, identity_ops, profiles
from hub.store.pool import Connection, TryAgain


@dataclass(frozen=True, slots=True)
class Manager:
    """Who merges and undoes: the operator, or (`service_id`) a service, if it is the parent."""

    actor: str
    service_id: UUID | None = None

    @property
    def who(self) -> Who:
        """As the rules name it."""
        return "service" if self.service_id else "operator"


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge came to."""

    op_id: UUID
    merge: Merge
    events: Sequence[Event]


async def merge_contacts(conn: Connection, manager: Manager, kept_id: UUID, absorbed_id: UUID, now: datetime) -> Merged:
    """Merge one contact into another. Raises `NotFound`, `Forbidden` (`merge_not_allowed`), `Conflict`
    (`already_merged`, `verified_identities`), `TryAgain`.
    """
    kept, absorbed = await _lock(conn, kept_id, absorbed_id)
    decided = merging.merge(kept, absorbed, manager.who, manager.service_id)
    op_id = await _write(conn, decided, manager.who, now, manager.service_id)
    drafts = await identity_events.merged(conn, "profile.merged", decided, op_id, manager.actor, now)
    if manager.service_id is None:
        details = {"merged": public_id("con", absorbed_id), "operation": public_id("op", op_id)}
        await audit.add_audit(
            conn,
            manager.actor,
            "contact.merged",
            subject=public_id("con", kept_id),
            details=orjson.dumps(details).decode(),
        )
    return Merged(op_id, decided, await event_log.append(conn, drafts))


async def merge_by_switch(
    conn: Connection, kept_id: UUID, absorbed_id: UUID, now: datetime, by: Who = "switch"
) -> list[EventDraft]:  # fmt: skip
    """Merge two that were suggested, as `PARTYLINE_AUTO_MERGE` says, or that the provider says are one; nothing where
    the rules are against it. Their contacts are locked.
    """
    roots = await profiles.read_roots(conn, [kept_id, absorbed_id])
    kept, absorbed = await _sides(conn, [roots[kept_id], roots[absorbed_id]])
    try:
        decided = merging.merge(kept, absorbed, by)
    except Refusal:
        return []
    op_id = await _write(conn, decided, by, now)
    return await identity_events.merged(conn, "profile.merged", decided, op_id, by, now)


async def _write(
    conn: Connection, decided: Merge, who: Who, now: datetime, service_id: UUID | None = None
) -> UUID:  # fmt: skip
    op_id = await record(conn, Entry("merge", who, "merged", now, service_id, None, decided.kept_id), [decided])
    assert op_id is not None
    return op_id


async def _lock(conn: Connection, *roots: UUID) -> list[Side]:
    """The two, with all that is part of them locked, so that nothing is decided about them meanwhile."""
    before = await profiles.read_parts(conn, roots)
    await identity_locks.lock_contacts(conn, {part for parts in before.values() for part in parts})
    if await profiles.read_parts(conn, roots) != before:
        raise TryAgain("one of the two was merged with another meanwhile")
    return await _sides(conn, roots)


async def _sides(conn: Connection, roots: Sequence[UUID]) -> list[Side]:
    parts = await profiles.read_parts(conn, roots)
    if missing := [root for root in roots if root not in parts]:
        raise NotFound(
            f"There is no contact {public_id('con', missing[0])} (rule H5): take an id that the API gave out."
        )
    pointers = await profiles.read_survivors(conn, roots)
    erased = await identity_ops.list_erased(conn, roots)
    return [
        Side(
            root, pointers.get(root), root in erased, await profiles.list_parents(conn, parts[root]),
            await _verified(conn, parts[root]),
        )
        for root in roots
    ]  # fmt: skip


async def _verified(conn: Connection, parts: Collection[UUID]) -> frozenset[tuple[UUID, str]]:
    rows = await identities.list_verified(conn, parts)
    return frozenset((row["service_id"], row["external_id"]) for row in rows)

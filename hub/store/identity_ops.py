"""The ledger of identity operations: what was changed, by which rule, on whose word; and what was undone (rules I)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from hub.domain.change_codec import Written, decode, encode
from hub.store.pool import Connection, Record

OpKind = Literal["click", "declaration", "merge", "erasure"]


@dataclass(frozen=True, slots=True)
class OpRow:
    """An operation as it was recorded. `contact_ids`: the contacts it writes or rests on."""

    id: UUID
    position: int
    kind: OpKind
    rule: str
    visitor_id: UUID | None
    contact_id: UUID | None
    written: tuple[Written, ...]
    is_undone: bool
    contact_ids: frozenset[UUID] = frozenset()


ADD_SQL = """
insert into identity_op (id, kind, source, rule, service_id, visitor_id, contact_id, changes, at)
values ($1, $2, $3, $4, $5, $6, $7, '[]', $8) returning position"""


async def add(
    conn: Connection, op_id: UUID, kind: OpKind, source: str, rule: str, at: datetime, *,
    service_id: UUID | None, visitor_id: UUID | None, contact_id: UUID | None,
) -> int:  # fmt: skip
    """A new operation, still without its changes; gives its place in the ledger."""
    place: int = await conn.fetchval(ADD_SQL, op_id, kind, source, rule, service_id, visitor_id, contact_id, at)
    return place


WRITE_SQL = "update identity_op set changes = $2 where position = $1"
ADD_THINGS_SQL = """
insert into identity_op_thing (position, thing, is_written)
select $1, thing, is_written from unnest($2::text[], $3::boolean[]) as t (thing, is_written)"""


async def write(conn: Connection, position: int, written: Collection[Written], things: Mapping[str, bool]) -> None:
    """The changes of an operation, and all they are about: written, or (False) rested on."""
    await conn.execute(WRITE_SQL, position, encode(written))
    await conn.execute(ADD_THINGS_SQL, position, list(things), list(things.values()))


_COLUMNS = """
select o.id, o.position, o.kind, o.rule, o.visitor_id, o.contact_id, o.changes, o.undone_at is not null as is_undone,
       array(select substr(t.thing, 9)::uuid from identity_op_thing t
             where t.position = o.position and t.thing like 'contact:%') as contact_ids
from identity_op o"""
LOCK_SQL = f"{_COLUMNS} where o.id = $1 for update of o"


async def lock(conn: Connection, op_id: UUID) -> OpRow | None:
    """An operation, kept from being undone by anybody else; before every other lock."""
    row = await conn.fetchrow(LOCK_SQL, op_id)
    return _op(row) if row else None


LIST_LATER_SQL = f"""
{_COLUMNS}
where o.undone_at is null and o.position in (
    select t.position from identity_op_thing w join identity_op_thing t on t.thing = w.thing and t.position > w.position
    where w.position = $1 and w.is_written)
order by o.position desc"""


async def list_later(conn: Connection, position: int) -> list[OpRow]:
    """Later operations, not undone, that are about something this one wrote; the last of them first."""
    return [_op(row) for row in await conn.fetch(LIST_LATER_SQL, position)]


def _op(row: Record) -> OpRow:
    return OpRow(
        row["id"], row["position"], row["kind"], row["rule"], row["visitor_id"], row["contact_id"],
        tuple(decode(row["changes"])), row["is_undone"], frozenset(row["contact_ids"]),
    )  # fmt: skip


LIST_ERASED_SQL = "select id from contact where id = any($1::uuid[]) and erased_at is not null"


async def list_erased(conn: Connection, contact_ids: Collection[UUID]) -> set[UUID]:
    """Which of these contacts were erased."""
    rows = await conn.fetch(LIST_ERASED_SQL, list(contact_ids)) if contact_ids else ()
    return {row["id"] for row in rows}


MARK_UNDONE_SQL = "update identity_op set undone_at = $2, undone_by = $3 where position = $1"


async def mark_undone(conn: Connection, position: int, at: datetime, by: str) -> None:
    """An operation was undone, by whom."""
    await conn.execute(MARK_UNDONE_SQL, position, at, by)


LIST_OF_CONTACTS_SQL = """
select o.id, o.position, o.kind, o.source, o.rule, o.service_id, s.name as service_name, o.visitor_id, o.contact_id,
       o.changes, o.at, o.undone_at, o.undone_by
from identity_op o left join service s on s.id = o.service_id
where o.position in (
    select position from identity_op_thing where thing = any($1::text[]) and position < $3
    union
    select position from identity_op where contact_id = any($2::uuid[]) and position < $3
    order by position desc limit $4)
order by o.position desc"""


async def list_of_contacts(conn: Connection, contact_ids: Collection[UUID], before: int, limit: int) -> list[Record]:
    """Operations about any of these contacts, the last first, from before a place in the ledger on."""
    things = [f"contact:{contact.hex}" for contact in contact_ids]
    return await conn.fetch(LIST_OF_CONTACTS_SQL, things, list(contact_ids), before, limit)

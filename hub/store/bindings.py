"""Bindings: when a visitor was which contact, and the flags of what was over a limit (rules K and I)."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.bindings import Bind, Binding, Flag, Trust
from hub.store.pool import Connection, Record

LIST_SQL = """
select id, visitor_id, contact_id, lower(period) as start, upper(period) as until, trust, bound_at,
       destination_type, destination_value
from visitor_binding where visitor_id = any($1::uuid[]) and retracted_at is null order by lower(period)"""


async def list_bindings(conn: Connection, visitor_ids: Collection[UUID]) -> dict[UUID, list[Binding]]:
    """The bindings of each of these visitors, oldest first; retracted ones are none."""
    found: dict[UUID, list[Binding]] = {visitor: [] for visitor in visitor_ids}
    for row in await conn.fetch(LIST_SQL, list(found)) if found else ():
        found[row["visitor_id"]].append(_binding(row))
    return found


def _binding(row: Record) -> Binding:
    destination = Address(row["destination_type"], row["destination_value"]) if row["destination_type"] else None
    return Binding(
        row["id"], row["visitor_id"], row["contact_id"], row["start"], row["until"], Trust(row["trust"]),
        row["bound_at"], destination,
    )  # fmt: skip


COUNT_VISITORS_SQL = """
select count(distinct visitor_id) from visitor_binding
where contact_id = any($1::uuid[]) and bound_at > $2 and retracted_at is null and visitor_id <> all($3::uuid[])"""


async def count_visitors(
    conn: Connection, contact_ids: Collection[UUID], since: datetime, besides: Collection[UUID]
) -> int:
    """How many visitors were bound to any of these contacts since then, not counting those `besides`."""
    count: int = await conn.fetchval(COUNT_VISITORS_SQL, list(contact_ids), since, list(besides))
    return count


ADD_SQL = """
insert into visitor_binding (id, visitor_id, contact_id, period, trust, bound_at, destination_type, destination_value,
                             link_id)
values ($1, $2, $3, tstzrange($4, $5), $6, $7, $8, $9, $10)"""


async def add(conn: Connection, binding_id: UUID, bind: Bind) -> None:
    """A new binding."""
    to = bind.destination
    await conn.execute(
        ADD_SQL, binding_id, bind.visitor_id, bind.contact_id, bind.start, bind.until, bind.trust, bind.bound_at,
        to and to.type, to and to.value, bind.link_id,
    )  # fmt: skip


DELETE_SQL = "delete from visitor_binding where id = $1"


async def delete(conn: Connection, binding_id: UUID) -> None:
    """Take a binding back that should not have been made."""
    await conn.execute(DELETE_SQL, binding_id)


WRITE_SQL = """
update visitor_binding set period = tstzrange($2, $3), trust = $4, retracted_at = null where id = $1"""


async def write(conn: Connection, binding: Binding) -> None:
    """Make a binding what this says: how far it reaches, how well it is known; it holds."""
    await conn.execute(WRITE_SQL, binding.id, binding.start, binding.until, binding.trust)


END_SQL = "update visitor_binding set period = tstzrange(lower(period), $2) where id = $1"


async def end(conn: Connection, binding_id: UUID, at: datetime) -> None:
    """A binding holds only up to before `at`."""
    await conn.execute(END_SQL, binding_id, at)


RAISE_SQL = "update visitor_binding set trust = $2 where id = $1"


async def raise_trust(conn: Connection, binding_id: UUID, trust: Trust) -> None:
    """A binding is better known than it was."""
    await conn.execute(RAISE_SQL, binding_id, trust)


RETRACT_SQL = "update visitor_binding set retracted_at = $2 where id = $1"


async def retract(conn: Connection, binding_id: UUID, at: datetime) -> None:
    """A binding never held."""
    await conn.execute(RETRACT_SQL, binding_id, at)


CLAIM_SQL = "update tracked_link set claimed_by = $2 where id = $1"


async def claim(conn: Connection, link_id: UUID, visitor_id: UUID | None) -> None:
    """Who claimed a link: the first browser to have landed on it; None: nobody any more."""
    await conn.execute(CLAIM_SQL, link_id, visitor_id)


ADD_FLAG_SQL = """
insert into identity_flag (op_id, subject, subject_id, reason) values ($1, $2, $3, $4) on conflict do nothing"""
DELETE_FLAGS_SQL = "delete from identity_flag where op_id = $1"


async def add_flag(conn: Connection, op_id: UUID, flag: Flag) -> None:
    """Note what was over a limit, by the operation that met it."""
    await conn.execute(ADD_FLAG_SQL, op_id, flag.subject, flag.id, flag.reason)


async def delete_flags(conn: Connection, op_id: UUID) -> None:
    """Take back all flags of an operation."""
    await conn.execute(DELETE_FLAGS_SQL, op_id)


LIST_FLAGGED_SQL = "select distinct subject_id from identity_flag where subject = $1 and subject_id = any($2::uuid[])"


async def list_flagged(conn: Connection, subject: str, ids: Collection[UUID]) -> set[UUID]:
    """Which of these contacts, links or visitors (`subject`) were over a limit; such a link is suspect."""
    rows = await conn.fetch(LIST_FLAGGED_SQL, subject, list(ids)) if ids else ()
    return {row["subject_id"] for row in rows}

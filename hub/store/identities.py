"""What services call a contact, and say of it: each for itself (rules I, H5)."""

from collections.abc import Collection, Mapping
from uuid import UUID

from hub.store.pool import Connection, Record

FIND_SQL = "select contact_id, is_verified from contact_identity where service_id = $1 and external_id = $2"


async def find(conn: Connection, service_id: UUID, external_id: str) -> Record | None:
    """Whom a service calls so, and whether it has verified that."""
    return await conn.fetchrow(FIND_SQL, service_id, external_id)


LIST_VERIFIED_SQL = """
select contact_id, service_id, external_id from contact_identity
where contact_id = any($1::uuid[]) and is_verified"""


async def list_verified(conn: Connection, contact_ids: Collection[UUID]) -> list[Record]:
    """What services have verified these contacts as."""
    return await conn.fetch(LIST_VERIFIED_SQL, list(contact_ids)) if contact_ids else []


PUT_SQL = """
insert into contact_identity (service_id, external_id, contact_id, is_verified) values ($1, $2, $3, $4)
on conflict (service_id, external_id) do update
set contact_id = excluded.contact_id, is_verified = contact_identity.is_verified or excluded.is_verified"""


async def put(
    conn: Connection, service_id: UUID, external_id: str, contact_id: UUID, *, is_verified: bool
) -> None:  # fmt: skip
    """A service calls a contact so; what was verified once stays so."""
    await conn.execute(PUT_SQL, service_id, external_id, contact_id, is_verified)


KNOW_SQL = "insert into contact_knower (contact_id, service_id) values ($1, $2) on conflict do nothing"


async def know(conn: Connection, contact_id: UUID, service_id: UUID) -> None:
    """A service has identified a contact by a call of its own: it may know its profile (H5)."""
    await conn.execute(KNOW_SQL, contact_id, service_id)


PUT_TRAITS_SQL = """
with said as (select name, value from unnest($3::text[], $4::text[]) as t (name, value))
insert into contact_trait (contact_id, service_id, name, value)
select $1, $2, name, value from said order by name
on conflict (contact_id, service_id, name) do update set value = excluded.value, updated_at = now()
where contact_trait.value <> excluded.value
returning name"""
DROP_TRAITS_SQL = """
delete from contact_trait where contact_id = any($1::uuid[]) and service_id = $2 and name = any($3::text[])
returning name"""
COUNT_TRAITS_SQL = "select count(*) from contact_trait where contact_id = any($1::uuid[]) and service_id = $2"


async def put_traits(
    conn: Connection, contact_id: UUID, parts: Collection[UUID], service_id: UUID, traits: Mapping[str, str | None]
) -> set[str]:
    """What a service says of a contact, as JSON by name; None takes it back, wherever in the profile (`parts`) it
    stands. Gives the names of those that changed.
    """
    kept = {name: value for name, value in traits.items() if value is not None}
    dropped = [name for name in traits if name not in kept]
    rows = await conn.fetch(PUT_TRAITS_SQL, contact_id, service_id, list(kept), list(kept.values())) if kept else []
    rows += await conn.fetch(DROP_TRAITS_SQL, list(parts), service_id, dropped) if dropped else []
    return {row["name"] for row in rows}


async def count_traits(conn: Connection, parts: Collection[UUID], service_id: UUID) -> int:
    """How much a service says of a profile."""
    count: int = await conn.fetchval(COUNT_TRAITS_SQL, list(parts), service_id)
    return count


NAME_SQL = """
update contact set name = $3
where id = $1 and not exists (select from contact where id = any($2::uuid[]) and name is not null) returning id"""


async def name(conn: Connection, contact_id: UUID, parts: Collection[UUID], given: str) -> bool:
    """A contact gets a name where the profile (`parts`) has none; what customers call themselves is never replaced."""
    return await conn.fetchval(NAME_SQL, contact_id, list(parts), given) is not None

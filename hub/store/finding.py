"""Finding people, conversations, services and numbers by what somebody has in hand: an address, an id, a name."""

from collections.abc import Collection
from uuid import UUID

from hub.domain.addresses import Address
from hub.store.pool import Connection, Record

_LOOKED_AT = 2000
"""Names that fit of which those within reach are looked for."""

# With a service: only whom it has a conversation with on a channel it is connected to (A4), or identified itself (H5).
_IN_REACH = """($2::uuid is null or exists (
    select from conversation v join subscription u on u.channel_id = v.channel_id
    where v.contact_id = c.id and u.service_id = $2 and u.disconnected_at is null) or exists (
    select from contact_knower k where k.contact_id = c.id and k.service_id = $2))"""
FIND_BY_NAME_SQL = f"""
select c.id, c.name, c.created_at from (
    select c.id, c.name, c.created_at from contact c
    where to_tsvector('simple', coalesce(c.name, '')) @@ to_tsquery('simple', $1) and c.erased_at is null
    limit {_LOOKED_AT}) c
where {_IN_REACH} order by c.id desc limit $3"""
FIND_BY_ADDRESS_SQL = f"""
select c.id, c.name, c.created_at from (
    select distinct a.contact_id from unnest($1::text[], $4::text[]) as w (type, match_key)
    cross join lateral (
        select a.contact_id from contact_address a
        where a.type = w.type and a.match_key = w.match_key and a.removed_at is null limit {_LOOKED_AT}) a) found
join contact c on c.id = found.contact_id
where c.erased_at is null and {_IN_REACH} order by c.id desc limit $3"""
FIND_CONTACT_SQL = f"select c.id, c.name, c.created_at from contact c where c.id = $1 and {_IN_REACH} limit $3"
FIND_TALKS_SQL = """
select v.id, n.e164, v.medium, v.channel_id, ch.kind, o.name as owner, c.name, v.created_at
from conversation v
join number n on n.id = v.number_id
join channel ch on ch.id = v.channel_id
join contact c on c.id = v.contact_id
left join service o on o.id = ch.owner_service_id
where (v.contact_id = any($1::uuid[]) or v.id = any($1::uuid[])) and ($2::uuid is null or exists (
    select from subscription u
    where u.channel_id = v.channel_id and u.service_id = $2 and u.disconnected_at is null))
order by v.id desc limit $3"""


async def find_by_name(conn: Connection, query: str, service_id: UUID | None, limit: int) -> list[Record]:
    """Contacts whose names have words that begin so, the latest first; `query` as PostgreSQL writes them."""
    return await conn.fetch(FIND_BY_NAME_SQL, query, service_id, limit)


async def find_by_address(
    conn: Connection, addresses: Collection[Address], service_id: UUID | None, limit: int
) -> list[Record]:
    """Contacts that have one of these addresses, however well it is known."""
    types, keys = [address.type for address in addresses], [address.match_key for address in addresses]
    return await conn.fetch(FIND_BY_ADDRESS_SQL, types, service_id, limit, keys) if types else []


async def find_contact(conn: Connection, contact_id: UUID, service_id: UUID | None) -> list[Record]:
    """One contact, if it is within reach."""
    return await conn.fetch(FIND_CONTACT_SQL, contact_id, service_id, 1)


async def find_talks(conn: Connection, ids: Collection[UUID], service_id: UUID | None, limit: int) -> list[Record]:
    """Conversations with these contacts, or of these ids, within reach, the latest first."""
    return await conn.fetch(FIND_TALKS_SQL, list(ids), service_id, limit) if ids else []


FIND_SERVICES_SQL = """
select s.id, s.name, s.removed_at from service s
where s.id = any($2::uuid[]) or to_tsvector('simple', s.name) @@ to_tsquery('simple', $1)
order by s.removed_at is not null, s.id desc limit $3"""
FIND_NUMBERS_SQL = """
select n.e164 from unnest($1::text[]) as w (e164) join number n on n.e164 = w.e164
where $2::uuid is null or exists (
    select from channel c join subscription u on u.channel_id = c.id
    where c.number_id = n.id and u.service_id = $2 and u.disconnected_at is null)"""


async def find_services(conn: Connection, query: str | None, ids: Collection[UUID], limit: int) -> list[Record]:
    """Services of these ids, or whose names have words that begin so."""
    return await conn.fetch(FIND_SERVICES_SQL, query, list(ids), limit)


async def find_numbers(conn: Connection, e164s: Collection[str], service_id: UUID | None) -> list[str]:
    """Those of these numbers that are the business's; to a service those it is connected to."""
    return [row["e164"] for row in await conn.fetch(FIND_NUMBERS_SQL, list(e164s), service_id)]

"""Contacts and the addresses they are found by (rule B8)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.domain.addresses import Address
from hub.store.pool import Connection

MatchKey = tuple[str, str]
"""An address's type and match key."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A customer as events show it."""

    id: UUID
    name: str | None
    addresses: tuple[Address, ...]


# A look-up per address, whatever the planner thinks of the tables' sizes: a plan made while they were small would read
# all of them.
FIND_OWNERS_SQL = """
select w.type, w.match_key, a.contact_id
from unnest($1::text[], $2::text[]) as w (type, match_key)
cross join lateral (
    select a.contact_id from contact_address a
    where a.type = w.type and a.match_key = w.match_key and a.is_proved and a.removed_at is null
      and a.type in ('phone', 'user_id', 'email', 'sender_id')
    limit 1) a"""


async def find_owners(conn: Connection, keys: Collection[MatchKey]) -> dict[MatchKey, UUID]:
    """Who owns each of these addresses, among those proved by use."""
    if not keys:
        return {}
    rows = await conn.fetch(FIND_OWNERS_SQL, *map(list, zip(*keys, strict=True)))
    return {(row["type"], row["match_key"]): row["contact_id"] for row in rows}


ADD_CONTACTS_SQL = "insert into contact (id, name) select * from unnest($1::uuid[], $2::text[])"
DELETE_ADDRESSES_SQL = "delete from contact_address where contact_id = any($1::uuid[])"
DELETE_CONTACTS_SQL = "delete from contact where id = any($1::uuid[])"


async def add_contacts(conn: Connection, names: Mapping[UUID, str | None]) -> None:
    """New contacts, still without addresses."""
    if names:
        await conn.execute(ADD_CONTACTS_SQL, list(names), list(names.values()))


async def delete_contacts(conn: Connection, ids: Collection[UUID]) -> None:
    """Take back contacts made in this transaction that lost the race for their address."""
    if ids:
        await conn.execute(DELETE_ADDRESSES_SQL, list(ids))
        await conn.execute(DELETE_CONTACTS_SQL, list(ids))


# What was merely said to be a contact's is proved now, where no other contact has proved it.
ADD_ADDRESSES_SQL = """
with used as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as u (contact_id, type, value, match_key)
    order by type, match_key, value
), proved as (
    update contact_address a set is_proved = true from used u
    where a.contact_id = u.contact_id and a.type = u.type and a.value = u.value and a.removed_at is null
      and not a.is_proved and not exists (
        select from contact_address o
        where o.type = a.type and o.match_key = a.match_key and o.is_proved and o.removed_at is null)
    returning a.contact_id, a.type, a.value
), added as (
    insert into contact_address (contact_id, type, value, match_key, is_proved)
    select contact_id, type, value, match_key, true from used
    on conflict do nothing
    returning contact_id, type, value)
select * from proved union all select * from added"""


async def add_addresses(conn: Connection, rows: Sequence[tuple[UUID, Address]]) -> set[tuple[UUID, Address]]:
    """Addresses proved by use; gives those that were not before. One that another contact owns is not added."""
    if not rows:
        return set()
    columns = [(contact, a.type, a.value, a.match_key) for contact, a in rows]
    added = await conn.fetch(ADD_ADDRESSES_SQL, *map(list, zip(*columns, strict=True)))
    return {(row["contact_id"], Address(row["type"], row["value"])) for row in added}


RENAME_SQL = """
update contact set name = n.name from unnest($1::uuid[], $2::text[]) as n (id, name)
where contact.id = n.id and contact.name is distinct from n.name"""


async def rename(conn: Connection, names: Mapping[UUID, str]) -> None:
    """Take over the names that customers show."""
    if names:
        await conn.execute(RENAME_SQL, list(names), list(names.values()))


# What was merely typed into a browser is not the customer's; nor is what was declared of them and proved by another.
LIST_CONTACTS_SQL = """
select c.id, c.name, a.type, a.value
from contact c
left join lateral (
    select a.id, a.type, a.value from contact_address a
    where a.contact_id = c.id and a.removed_at is null and (a.is_proved or a.is_declared and not exists (
        select from contact_address o
        where o.type = a.type and o.match_key = a.match_key and o.is_proved and o.removed_at is null))
    offset 0
) a on true
where c.id = any($1::uuid[]) order by a.id"""


async def list_contacts(conn: Connection, ids: Collection[UUID]) -> dict[UUID, Contact]:
    """Contacts with all addresses that are theirs, proved or properly declared."""
    if not ids:
        return {}
    found: dict[UUID, Contact] = {}
    for row in await conn.fetch(LIST_CONTACTS_SQL, list(ids)):
        known = found.get(row["id"]) or Contact(row["id"], row["name"], ())
        more = (Address(row["type"], row["value"]),) if row["type"] else ()
        found[row["id"]] = Contact(known.id, known.name, known.addresses + more)
    return found


# Those that have an address by somebody's word only; so many of them that nobody fills the list by typing.
FIND_SAID_SQL = """
select w.contact_id, a.contact_id as said_of, a.is_declared
from unnest($1::uuid[], $2::text[], $3::text[]) as w (contact_id, type, match_key)
cross join lateral (
    select a.contact_id, a.is_declared from contact_address a
    where a.type = w.type and a.match_key = w.match_key and not a.is_proved and a.removed_at is null
      and a.contact_id <> w.contact_id
    order by a.is_declared desc, a.id limit 20) a"""


async def find_said(conn: Connection, rows: Sequence[tuple[UUID, Address]]) -> dict[tuple[UUID, UUID], bool]:
    """For contacts with addresses of theirs, the others that these were said to be of; True: by a proper declaration,
    not only by what somebody typed into a browser (B8).
    """
    if not rows:
        return {}
    columns = [(contact, a.type, a.match_key) for contact, a in rows]
    found = await conn.fetch(FIND_SAID_SQL, *map(list, zip(*columns, strict=True)))
    pairs: dict[tuple[UUID, UUID], bool] = {}
    for row in found:
        pair = row["contact_id"], row["said_of"]
        pairs[pair] = row["is_declared"] or pairs.get(pair, False)
    return pairs


ADD_CANDIDATES_SQL = """
insert into merge_candidate as known (id, contact_id, other_contact_id, reason, own_is_proper, is_proper)
select id, least(a, b), greatest(a, b), reason, is_proper, is_proper
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::boolean[]) as m (id, a, b, reason, is_proper)
on conflict (contact_id, other_contact_id) where settled_at is null
do update set own_is_proper = excluded.own_is_proper, is_proper = known.is_proper or excluded.is_proper,
              reason = case when known.own_is_proper is null then excluded.reason else known.reason end
where known.own_is_proper is null or excluded.own_is_proper and not known.own_is_proper"""


async def add_merge_candidates(conn: Connection, rows: Sequence[tuple[UUID, UUID, UUID, str, bool]]) -> None:
    """Pairs of contacts that may be one person (each once), as the hub itself sees it, why, and whether by more than
    what somebody typed into a browser; never merged by itself.
    """
    if rows:
        await conn.execute(ADD_CANDIDATES_SQL, *map(list, zip(*rows, strict=True)))


# What the provider said of numbers and ids that customers changed ----------------------------------------------------

LIST_PROVED_SQL = """
select contact_id, type, value from contact_address
where contact_id = any($1::uuid[]) and is_proved and removed_at is null order by id desc"""


async def list_proved(conn: Connection, ids: Collection[UUID]) -> list[tuple[UUID, Address]]:
    """The addresses that were proved by use to be these contacts', the latest first."""
    rows = await conn.fetch(LIST_PROVED_SQL, list(ids)) if ids else []
    return [(row["contact_id"], Address(row["type"], row["value"])) for row in rows]


GIVE_UP_SQL = """
update contact_address a set removed_at = $4, removed_reason = 'changed'
from unnest($2::text[], $3::text[]) as w (type, match_key)
where a.contact_id = any($1::uuid[]) and a.type = w.type and a.match_key = w.match_key and a.removed_at is null"""


async def give_up(conn: Connection, ids: Collection[UUID], keys: Collection[MatchKey], at: datetime) -> None:
    """These addresses are not these contacts' any more since then: the provider said that they changed."""
    if ids and keys:
        await conn.execute(GIVE_UP_SQL, list(ids), *map(list, zip(*keys, strict=True)), at)


ADD_GIVEN_UP_SQL = """
insert into contact_address (contact_id, type, value, match_key, is_proved, removed_at, removed_reason)
select $1, type, value, match_key, true, $5, 'changed'
from unnest($2::text[], $3::text[], $4::text[]) as u (type, value, match_key)"""


async def add_given_up(conn: Connection, contact_id: UUID, addresses: Collection[Address], at: datetime) -> None:
    """Addresses that a contact had, and changed then: known only from that news."""
    if addresses:
        columns = [(a.type, a.value, a.match_key) for a in addresses]
        await conn.execute(ADD_GIVEN_UP_SQL, contact_id, *map(list, zip(*columns, strict=True)), at)


FIND_CHANGED_SQL = """
select a.contact_id from unnest($1::text[], $2::text[]) as w (type, match_key)
cross join lateral (
    select a.contact_id, a.removed_at, a.id from contact_address a
    where a.type = w.type and a.match_key = w.match_key and a.removed_reason = 'changed' and a.removed_at >= $3
    offset 0) a
order by a.removed_at desc, a.id desc limit 1"""


async def find_changed(conn: Connection, keys: Collection[MatchKey], at: datetime) -> UUID | None:
    """Who changed one of these addresses for another then or later, the last of them."""
    if not keys:
        return None
    found: UUID | None = await conn.fetchval(FIND_CHANGED_SQL, *map(list, zip(*keys, strict=True)), at)
    return found


LIST_CHANGED_SQL = """
select w.type, w.match_key, a.removed_at, a.contact_id from unnest($1::text[], $2::text[]) as w (type, match_key)
cross join lateral (
    select a.contact_id, a.removed_at from contact_address a
    where a.type = w.type and a.match_key = w.match_key and a.removed_reason = 'changed' and a.removed_at > $3
    offset 0) a"""


async def list_changed(
    conn: Connection, keys: Collection[MatchKey], after: datetime | None
) -> dict[MatchKey, list[tuple[datetime, UUID]]]:
    """When each of these addresses was changed for another after that time, and by whom."""
    found: dict[MatchKey, list[tuple[datetime, UUID]]] = {}
    if keys and after:
        for row in await conn.fetch(LIST_CHANGED_SQL, *map(list, zip(*keys, strict=True)), after):
            found.setdefault((row["type"], row["match_key"]), []).append((row["removed_at"], row["contact_id"]))
    return found


# Made since that time, and known by these addresses alone: nobody has said anything else of it. The id that goes with
# a number is not always told.
IS_BARE_SQL = """
select exists (select from contact where id = $1 and created_at >= $4 and merged_into is null and erased_at is null)
   and not exists (select from contact where merged_into = $1)
   and not exists (
       select from contact_address a
       where a.contact_id = $1 and a.removed_at is null and a.type in ('phone', 'user_id', 'email', 'sender_id')
         and not exists (select from unnest($2::text[], $3::text[]) as w (type, match_key)
                         where w.type = a.type and w.match_key = a.match_key)
         and (a.type <> 'user_id' or 'user_id' = any($2::text[])))
   and not exists (select from contact_identity where contact_id = $1)
   and not exists (select from contact_trait where contact_id = $1)
   and not exists (select from contact_knower where contact_id = $1)
   and not exists (select from visitor_binding where contact_id = $1)"""


async def is_bare(conn: Connection, contact_id: UUID, keys: Collection[MatchKey], since: datetime) -> bool:
    """Whether a contact was made since, by the use of these addresses, and has no profile of its own."""
    columns = list(map(list, zip(*keys, strict=True))) if keys else [[], []]
    is_so: bool = await conn.fetchval(IS_BARE_SQL, contact_id, *columns, since)
    return is_so


BUMP_GENERATION_SQL = """
with locked as (select id from conversation where contact_id = any($1::uuid[]) order by id for update)
update conversation set generation = generation + 1 from locked where conversation.id = locked.id"""


async def bump_generation(conn: Connection, contact_ids: Collection[UUID]) -> None:
    """Tell every process that what it remembers of these contacts is out of date."""
    if contact_ids:
        await conn.execute(BUMP_GENERATION_SQL, list(contact_ids))

"""Profiles: contacts with what was merged into them, and the addresses they are known by (rules I)."""

from collections.abc import Collection
from uuid import UUID

from hub.domain.addresses import Address
from hub.domain.bindings import survivor
from hub.domain.profiles import Slot, Standing, address_key
from hub.store.pool import BadData, Connection, Record, TryAgain, savepoint

# Who goes on as whom ------------------------------------------------------------------------------------------------

SURVIVORS_SQL = """
with recursive pointer as (
    select id, merged_into from contact where id = any($1::uuid[]) and merged_into is not null
    union
    select c.id, c.merged_into from pointer p join contact c on c.id = p.merged_into where c.merged_into is not null)
select id, merged_into from pointer"""


async def read_survivors(conn: Connection, contact_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """The pointers of these contacts, and on from there: whole chains, for `survivor`."""
    rows = await conn.fetch(SURVIVORS_SQL, list(contact_ids)) if contact_ids else ()
    return {row["id"]: row["merged_into"] for row in rows}


PARTS_SQL = """
with recursive part as (
    select id as root, id from contact where id = any($1::uuid[])
    union
    select p.root, c.id from part p join contact c on c.merged_into = p.id)
select root, id from part order by root, id <> root, id"""


async def read_parts(conn: Connection, roots: Collection[UUID]) -> dict[UUID, list[UUID]]:
    """Each of these contacts and everything that was merged into it, itself first; none for one there is not."""
    found: dict[UUID, list[UUID]] = {}
    for row in await conn.fetch(PARTS_SQL, list(roots)) if roots else ():
        found.setdefault(row["root"], []).append(row["id"])
    return found


async def list_parts(conn: Connection, contact_id: UUID) -> list[UUID]:
    """A contact and everything that was merged into it."""
    return (await read_parts(conn, [contact_id])).get(contact_id, [])


POINT_SQL = "update contact set merged_into = $2 where id = $1"


async def point(conn: Connection, contact_id: UUID, into: UUID | None) -> None:
    """A contact goes on as another, or (None) as itself again."""
    await conn.execute(POINT_SQL, contact_id, into)


async def read_roots(conn: Connection, contact_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """The contact that each of these goes on as."""
    pointers = await read_survivors(conn, contact_ids)
    return {contact: survivor(contact, pointers) for contact in contact_ids}


# Addresses ----------------------------------------------------------------------------------------------------------

HAVING_SQL = """
select distinct a.contact_id
from unnest($1::text[], $2::text[]) as w (type, match_key)
cross join lateral (
    select contact_id from contact_address a
    where a.type = w.type and a.match_key = w.match_key and a.removed_at is null offset 0) a"""


async def find_having(conn: Connection, addresses: Collection[Address]) -> set[UUID]:
    """Every contact that has one of these addresses, in whatever spelling and however well it is known."""
    if not addresses:
        return set()
    rows = await conn.fetch(HAVING_SQL, [a.type for a in addresses], [a.match_key for a in addresses])
    return {row["contact_id"] for row in rows}


SLOTS_SQL = """
select a.contact_id, a.type, a.value, a.is_declared, a.is_proved,
       exists (select from contact_address o
               where o.type = a.type and o.match_key = a.match_key and o.is_proved and o.removed_at is null
                 and o.type in ('phone', 'email') and o.contact_id <> a.contact_id) as is_proved_elsewhere
from contact_address a
where a.contact_id = any($1::uuid[]) and a.removed_at is null and a.type in ('phone', 'email')
order by a.is_proved desc, a.is_declared desc, a.id"""


async def read_slots(conn: Connection, contact_ids: Collection[UUID]) -> dict[UUID, tuple[Slot, ...]]:
    """The emails and phones of each of these contacts, the best known first; one slot for all spellings of one."""
    found: dict[UUID, dict[tuple[str, str], Slot]] = {contact: {} for contact in contact_ids}
    for row in await conn.fetch(SLOTS_SQL, list(found)) if found else ():
        slot = Slot(row["contact_id"], Address(row["type"], row["value"]), _standing(row))
        found[slot.contact_id].setdefault(address_key(slot.address), slot)
    return {contact: tuple(sorted(slots.values(), key=lambda slot: -slot.standing)) for contact, slots in found.items()}


def _standing(row: Record) -> Standing:
    if row["is_proved"]:
        return Standing.PROVED
    is_owned = row["is_declared"] and not row["is_proved_elsewhere"]
    return Standing.DECLARED if is_owned else Standing.UNCONFIRMED


FILL_SQL = """
insert into contact_address (contact_id, type, value, match_key, is_proved, is_declared) values ($1, $2, $3, $4, $5, $6)
on conflict do nothing returning id"""


async def fill(conn: Connection, slot: Slot) -> int:
    """A contact gets an address; gives its row. Raises `TryAgain` where another came first after all."""
    address, standing = slot.address, slot.standing
    row: int | None = await conn.fetchval(
        FILL_SQL, slot.contact_id, address.type, address.value, address.match_key, standing is Standing.PROVED,
        standing is Standing.DECLARED,
    )  # fmt: skip
    return _certain(row)


CONFIRM_SQL = """
update contact_address a
set is_proved = a.is_proved or $4, is_declared = a.is_declared or not $4
where contact_id = $1 and type = $2 and value = $3 and removed_at is null
  and not exists (select from contact_address o
                  where o.type = a.type and o.match_key = a.match_key and o.removed_at is null and o.id <> a.id
                    and o.type in ('phone', 'email') and (o.is_proved or (o.is_declared and not $4)))
returning id"""


async def confirm(conn: Connection, slot: Slot, standing: Standing) -> int:
    """An address is better known than it was; gives its row. Raises `TryAgain` where it is not as it was read."""
    address, is_proof = slot.address, standing is Standing.PROVED
    row: int | None
    try:
        async with savepoint(conn):
            row = await conn.fetchval(CONFIRM_SQL, slot.contact_id, address.type, address.value, is_proof)
    except BadData:  # proved by another just now
        row = None
    return _certain(row)


def _certain(row: int | None) -> int:
    if row is None:
        raise TryAgain("another transaction has changed whose this address is")
    return row


REMOVE_SQL = """
update contact_address set removed_at = now()
where contact_id = $1 and type = $2 and match_key = $3 and removed_at is null returning id"""


async def remove(conn: Connection, slot: Slot) -> list[int]:
    """A contact loses an address, in all its spellings; gives the rows."""
    address = slot.address
    rows = await conn.fetch(REMOVE_SQL, slot.contact_id, address.type, address.match_key)
    return [row["id"] for row in rows]


# An address with a conversation was used since: that is known apart from what anybody declared.
_USED = """exists (
    select from conversation c
    where c.contact_id = a.contact_id and c.reply_to_type = a.type and c.reply_to_value = a.value)"""

UNFILL_SQL = f"delete from contact_address a where id = $1 and not {_USED}"
UNDECLARE_SQL = "update contact_address set is_declared = false where id = $1"
UNPROVE_SQL = f"update contact_address a set is_proved = false where id = $1 and not {_USED}"


async def unfill(conn: Connection, row: int) -> None:
    """Take an address back; one that was used since stays, for that reason alone."""
    await conn.execute(UNFILL_SQL, row)
    await conn.execute(UNDECLARE_SQL, row)


async def unconfirm(conn: Connection, row: int, standing: Standing) -> None:
    """Take this standing of an address back; its proof stays where it was used since."""
    await conn.execute(UNPROVE_SQL if standing is Standing.PROVED else UNDECLARE_SQL, row)


PROVED_SINCE_SQL = """
select exists (
    select from contact_address a join contact_address o
      on o.type = a.type and o.match_key = a.match_key and o.is_proved and o.removed_at is null
     and o.type in ('phone', 'email') and o.contact_id <> a.contact_id
    where a.id = any($1::bigint[]) and a.is_proved)"""
RESTORE_SQL = """
update contact_address a set removed_at = null
where a.id = any($1::bigint[])
  and not exists (
    select from contact_address o
    where o.contact_id = a.contact_id and o.type = a.type and o.value = a.value and o.removed_at is null)"""


async def restore(conn: Connection, rows: Collection[int]) -> bool:
    """Give removed addresses back; False, and nothing done, where somebody else has proved one of them since."""
    if await conn.fetchval(PROVED_SINCE_SQL, list(rows)):
        return False
    await conn.execute(RESTORE_SQL, list(rows))
    return True


# Contacts that a declaration made -----------------------------------------------------------------------------------

IN_USE_SQL = """
select exists (select from conversation where contact_id = $1)
    or exists (select from tracked_link where contact_id = $1)
    or exists (select from visitor_binding where contact_id = $1)
    or exists (select from contact where merged_into = $1)"""
FORGET_CANDIDATES_SQL = "delete from merge_candidate where contact_id = $1 or other_contact_id = $1"
FORGET_TRAITS_SQL = "delete from contact_trait where contact_id = $1"
FORGET_IDENTITIES_SQL = "delete from contact_identity where contact_id = $1"
FORGET_KNOWERS_SQL = "delete from contact_knower where contact_id = $1"
FORGET_ADDRESSES_SQL = "delete from contact_address where contact_id = $1 and removed_at is not null"
FORGET_CONTACT_SQL = "delete from contact where id = $1"


async def delete_contact(conn: Connection, contact_id: UUID) -> bool:
    """Take a contact back that a declaration made, with what services said of it, and whom the hub itself took it for;
    False, and nothing done, where it has come to use since: it has conversations, or links were sent to it.
    """
    if await conn.fetchval(IN_USE_SQL, contact_id):
        return False
    for sql in (
        FORGET_CANDIDATES_SQL, FORGET_TRAITS_SQL, FORGET_IDENTITIES_SQL, FORGET_KNOWERS_SQL, FORGET_ADDRESSES_SQL,
        FORGET_CONTACT_SQL,
    ):  # fmt: skip
        await conn.execute(sql, contact_id)
    return True


# A standalone channel's parent is its service.
LIST_PARENTS_SQL = """
select distinct (select s.service_id from subscription s
                 where s.channel_id = c.channel_id and s.disconnected_at is null
                   and (s.is_parent or h.kind = 'standalone')
                 limit 1) as service_id
from conversation c join channel h on h.id = c.channel_id
where c.contact_id = any($1::uuid[])"""


async def list_parents(conn: Connection, contact_ids: Collection[UUID]) -> frozenset[UUID | None]:
    """The parent of every channel with a conversation of these contacts; None among them where one has none."""
    return frozenset(row["service_id"] for row in await conn.fetch(LIST_PARENTS_SQL, list(contact_ids)))

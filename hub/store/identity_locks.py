"""Locks of whoever is about to change who somebody is, in this order: addresses, visitors, (consents,) links, contacts.

What a decision rests on is read, or read again, after they are held.
"""

from collections.abc import Collection
from uuid import UUID

from hub.domain.addresses import Address
from hub.store.pool import Connection

LOCK_ADDRESSES_SQL = """
select pg_advisory_xact_lock(7009, hash)
from (select distinct hashtext(name) as hash from unnest($1::text[]) as n (name) order by hash) as l"""


async def lock_addresses(conn: Connection, addresses: Collection[Address], *more: str) -> None:
    """Keep others from deciding whose these addresses are, in whatever spelling, to the end of the transaction; `more`:
    other names that somebody is known by.
    """
    names = [*(f"{a.type} {a.match_key}" for a in addresses), *more]
    if names:
        await conn.execute(LOCK_ADDRESSES_SQL, names)


LOCK_VISITORS_SQL = """
select pg_advisory_xact_lock(7012, hash)
from (select distinct hashtext(id::text) as hash from unnest($1::uuid[]) as v (id) order by hash) as l"""


async def lock_visitors(conn: Connection, ids: Collection[UUID]) -> None:
    """Keep others from binding these visitors, whether there is a row of them yet or not."""
    if ids:
        await conn.execute(LOCK_VISITORS_SQL, list(ids))


LOCK_LINKS_SQL = "select id from tracked_link where id = any($1::uuid[]) order by id for no key update"


async def lock_links(conn: Connection, ids: Collection[UUID]) -> set[UUID]:
    """Keep others from claiming these links; gives those that there are."""
    return {row["id"] for row in await conn.fetch(LOCK_LINKS_SQL, list(ids))} if ids else set()


LOCK_CONTACTS_SQL = """
select id from contact where id = any($1::uuid[]) and erased_at is null order by id for no key update"""


async def lock_contacts(conn: Connection, ids: Collection[UUID]) -> set[UUID]:
    """Keep others from changing, merging or erasing these contacts; gives those that exist and are not erased."""
    return {row["id"] for row in await conn.fetch(LOCK_CONTACTS_SQL, list(ids))} if ids else set()

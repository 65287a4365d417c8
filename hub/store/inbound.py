"""What was taken in already (B4), and what could not be taken in (B5)."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from hub.store.pool import Connection, Record


def key_digest(key: str) -> bytes:
    """The 16 bytes an item's key is kept as."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


# Sorted, so that two processes that were sent the same batch wait for each other instead of deadlocking.
ADD_KEYS_SQL = """
insert into inbound_key (key) select key from unnest($1::bytea[]) as k (key) order by key
on conflict do nothing returning key"""


async def add_keys(conn: Connection, keys: Sequence[bytes]) -> set[bytes]:
    """Mark items as seen; gives those that were new."""
    return {row["key"] for row in await conn.fetch(ADD_KEYS_SQL, keys)} if keys else set()


PRUNE_BATCH: Final = 5000
"""Rows that one prune deletes at most: who gets fewer is done."""
PRUNE_KEYS_SQL = """
delete from inbound_key where key in (
    select key from inbound_key where at < now() - make_interval(days => $1) limit $2)"""
PRUNE_ANSWERS_SQL = """
delete from idempotency_key where (service_id, route, key) in (
    select service_id, route, key from idempotency_key where created_at < now() - interval '24 hours'
    order by created_at limit $1 for update skip locked)"""
PRUNE_ORPHANS_SQL = """
delete from orphan_status where id in (
    select id from orphan_status where received_at < now() - interval '30 days'
    order by received_at limit $1 for update skip locked)"""


async def prune_keys(conn: Connection, days: int) -> int:
    """Forget one batch of keys older than `days`; gives how many."""
    return _count(await conn.execute(PRUNE_KEYS_SQL, days, PRUNE_BATCH))


async def prune_answers(conn: Connection) -> int:
    """Forget one batch of answers kept for repeated requests, older than 24 hours (E6); gives how many."""
    return _count(await conn.execute(PRUNE_ANSWERS_SQL, PRUNE_BATCH))


async def prune_orphans(conn: Connection) -> int:
    """Forget one batch of statuses whose message did not come in 30 days (E7); gives how many."""
    return _count(await conn.execute(PRUNE_ORPHANS_SQL, PRUNE_BATCH))


def _count(tag: str) -> int:
    return int(tag.split()[-1])


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Bytes that wait for somebody to look: `path` and `content_type` are what they came with."""

    key: bytes
    provider: str
    path: str
    content_type: str | None
    reason: str
    detail: str
    raw: bytes
    is_note: bool


# Numbered in the order they came, in which they are replayed; written in the order of their keys (E2).
ADD_QUARANTINED_SQL = """
with came as materialized (
    select nextval('quarantine_id_seq') as id, q.* from (
        select * from unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[],
                             $8::text[])
            with ordinality as q (item_key, provider, path, content_type, reason, detail, raw, state, place)
        order by place) q
)
insert into quarantine (id, item_key, provider, path, content_type, reason, detail, raw, state) overriding system value
select id, item_key, provider, path, content_type, reason, detail, raw, state from came order by item_key
on conflict (item_key) do update set times = quarantine.times + 1, last_received_at = now()"""


async def add_quarantined(conn: Connection, entries: Sequence[Quarantined]) -> None:
    """Keep them; the same bytes again only count up."""
    distinct = list({entry.key: entry for entry in entries}.values())
    if not distinct:
        return
    rows = [
        (e.key, e.provider, e.path, e.content_type, e.reason, e.detail, e.raw, "noted" if e.is_note else "open")
        for e in distinct
    ]
    await conn.execute(ADD_QUARANTINED_SQL, *map(list, zip(*rows, strict=True)))


LIST_QUARANTINED_SQL = """
select id, provider, path, content_type, reason, detail, raw, state, times, received_at, last_received_at, replayed_at
from quarantine where id > $1 and ($3::text is null or state = $3) and ($4::text is null or reason = $4)
order by id limit $2"""
LIST_OPEN_SQL = """
select id from quarantine
where state = 'open' and id > $1 and ($3::text is null or reason = $3) and ($4::text is null or provider = $4)
  and ($5::bigint[] is null or id = any($5))
order by id limit $2"""


async def list_quarantined(
    conn: Connection, after: int, limit: int, state: str | None, reason: str | None
) -> list[Record]:
    """Entries by age."""
    return await conn.fetch(LIST_QUARANTINED_SQL, after, limit, state, reason)


async def list_open(
    conn: Connection, after: int, limit: int, reason: str | None, provider: str | None, ids: Sequence[int] | None
) -> list[int]:
    """The ids of open entries by age, of those that fit."""
    return [row["id"] for row in await conn.fetch(LIST_OPEN_SQL, after, limit, reason, provider, ids)]


FIND_QUARANTINED_SQL = "select * from quarantine where id = $1"


async def find_quarantined(conn: Connection, entry_id: int) -> Record | None:
    """One entry, with its bytes."""
    return await conn.fetchrow(FIND_QUARANTINED_SQL, entry_id)


FINISH_QUARANTINED_SQL = "update quarantine set state = 'replayed', replayed_at = now() where id = $1"


async def finish_quarantined(conn: Connection, entry_id: int) -> None:
    """Mark an entry as taken in after all."""
    await conn.execute(FINISH_QUARANTINED_SQL, entry_id)


# A message of who was erased has no provider's id to be known by any more, and is not waited for.
ADD_ORPHANS_SQL = """
insert into orphan_status (provider, provider_id, hub_id, status, reported, provider_time, details)
select * from unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::text[])
     as o (provider, provider_id, hub_id, status, reported, provider_time, details)
where not exists (select from message m where m.id = o.hub_id and m.provider_id = 'erased:' || m.id)"""
TAKE_ORPHANS_SQL = """
delete from orphan_status o using unnest($1::text[], $2::text[]) as w (provider, provider_id)
where o.provider = w.provider and o.provider_id = w.provider_id
returning o.status, o.reported, o.provider_time, o.details, o.id, o.provider, o.provider_id"""
TAKE_ORPHANS_OF_SQL = """
delete from orphan_status o using message m where m.id = $1 and o.provider = m.provider and o.provider_id = $2
returning o.status, o.reported, o.provider_time, o.details, o.id"""


# Of so many names that a history of thousands of messages does not take all locks there are.
LOCK_PROVIDER_IDS_SQL = """
select pg_advisory_xact_lock(7004, hash)
from (select distinct hashtext(id) & 1023 as hash from unnest($1::text[]) as w (id) order by hash) as w"""


async def lock_provider_ids(conn: Connection, provider_ids: Collection[str]) -> None:
    """Keep a status that is being parked and the record of its message apart, so that the second sees the first (E7).

    Before any conversation is locked (lock order).
    """
    if provider_ids:
        await conn.execute(LOCK_PROVIDER_IDS_SQL, list(provider_ids))


async def add_orphans(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Park statuses of messages that are not known yet (E7); not of those whose customer was erased."""
    if rows:
        await conn.execute(ADD_ORPHANS_SQL, *map(list, zip(*rows, strict=True)))


async def take_orphans(conn: Connection, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[Record]]:
    """Take back what was parked for messages, by provider and provider id, each in order of arrival."""
    found: dict[tuple[str, str], list[Record]] = {}
    if names:
        rows = await conn.fetch(TAKE_ORPHANS_SQL, *map(list, zip(*sorted(set(names)), strict=True)))
        for row in sorted(rows, key=lambda row: row["id"]):
            found.setdefault((row["provider"], row["provider_id"]), []).append(row)
    return found


async def take_orphans_of(conn: Connection, message_id: UUID, provider_id: str) -> list[Record]:
    """The same for a message of ours that its provider calls so."""
    return sorted(await conn.fetch(TAKE_ORPHANS_OF_SQL, message_id, provider_id), key=lambda row: row["id"])


COUNT_OPEN_SQL = "select count(*) from (select from quarantine where state = 'open' limit 1000) as q"


async def count_open(conn: Connection) -> int:
    """Open quarantine entries, at most 1000 counted."""
    return int(await conn.fetchval(COUNT_OPEN_SQL))

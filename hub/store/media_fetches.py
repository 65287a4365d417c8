"""Files of customers that are to be fetched from their providers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.domain.inbound_media import FoundFile
from hub.store.files import Kept
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class FetchDraft:
    """A file to be fetched from a provider, through a sender of ours."""

    file: FoundFile
    provider: str
    sender_id: int
    at: datetime


# A file that was noted before, and may be fetched or erased by now, stays as it is. What the provider gave no way to
# fetch is not there from the start.
ADD_FETCHES_SQL = """
with wanted as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::timestamptz[], $6::text[], $7::bigint[],
                         $8::text[], $9::text[])
        as w (id, mime_type, filename, sha256, at, provider, sender_id, provider_id, url)
), added as (
    insert into media (id, mime_type, filename, sha256, created_at, state, error)
    select id, mime_type, filename, sha256, at,
           case when coalesce(provider_id, url) is null then 'unavailable' else 'pending' end,
           case when coalesce(provider_id, url) is null then 'media_unavailable' end
    from wanted order by id
    on conflict (id) do nothing
    returning id, state
)
insert into media_fetch (media_id, provider, sender_id, provider_id, url, next_at)
select w.id, w.provider, w.sender_id, w.provider_id, w.url, now()
from added a join wanted w on w.id = a.id where a.state = 'pending'"""


async def add_fetches(conn: Connection, drafts: Sequence[FetchDraft]) -> None:
    """Note files that are to be fetched, each once."""
    if drafts:
        rows = [
            (f.id, f.mime_type, f.filename, f.sha256, d.at, d.provider, d.sender_id, f.provider_id, f.url)
            for d in drafts
            for f in (d.file,)
        ]
        await conn.execute(ADD_FETCHES_SQL, *map(list, zip(*rows, strict=True)))


CLAIM_SQL = """
with due as (
    select media_id from media_fetch where next_at <= now() order by next_at limit $1 for update skip locked
), taken as (
    update media_fetch f set next_at = now() + make_interval(secs => $2), attempts = attempts + 1,
                             claimed_until = now() + make_interval(secs => $2)
    from due where f.media_id = due.media_id
    returning f.media_id, f.provider, f.provider_id, f.url, f.attempts
)
select t.*, m.mime_type, m.filename, m.sha256 from taken t join media m on m.id = t.media_id"""
RELEASE_SQL = """
update media_fetch set next_at = now(), attempts = attempts - 1, claimed_until = null
where media_id = any($1::uuid[]) and attempts > 0"""


async def claim(conn: Connection, limit: int, lease: float) -> list[Record]:
    """Take files that are due; nobody else does for `lease` seconds."""
    return await conn.fetch(CLAIM_SQL, limit, lease)


async def release(conn: Connection, ids: Collection[UUID]) -> None:
    """Leave files that were claimed, and not fetched, to others."""
    await conn.execute(RELEASE_SQL, list(ids))


# Only what is waited for: it may have been erased, or have grown too old, since it was claimed.
KEEP_SQL = """
update media set state = 'kept', size = $2, sha256 = $3, mime_type = $4, filename = $5, error = null, kept_at = now()
where id = $1 and state = 'pending'"""
GIVE_UP_SQL = "update media set state = 'unavailable', error = $2 where id = $1 and state = 'pending'"
NOTE_ERROR_SQL = "update media set error = $2 where id = $1 and state = 'pending'"
REST_SQL = "update media_fetch set next_at = null, claimed_until = null where media_id = $1"
RETRY_SQL = """
update media_fetch set next_at = now() + make_interval(secs => $2), claimed_until = null
where media_id = $1 and next_at is not null"""


async def keep(conn: Connection, media_id: UUID, kept: Kept, mime_type: str, filename: str) -> bool:
    """A file is there; False where nobody wants it any more. The caller holds its hash (`hub.store.keeping`)."""
    tag = await conn.execute(KEEP_SQL, media_id, kept.size, kept.sha256, mime_type, filename)
    await conn.execute(REST_SQL, media_id)
    return bool(tag == "UPDATE 1")


async def give_up(conn: Connection, media_id: UUID, error: str) -> None:
    """A file cannot be had."""
    await conn.execute(GIVE_UP_SQL, media_id, error)
    await conn.execute(REST_SQL, media_id)


async def try_later(conn: Connection, media_id: UUID, error: str, seconds: float) -> None:
    """A file could not be had this time."""
    await conn.execute(NOTE_ERROR_SQL, media_id, error)
    await conn.execute(RETRY_SQL, media_id, seconds)


REFETCH_SQL = """
update media m set state = 'pending', error = null
where m.id = $1 and m.state in ('pending', 'unavailable')
  and exists (select from media_fetch f where f.media_id = m.id)"""
RESTART_SQL = """
update media_fetch set next_at = now(), attempts = 0
where media_id = $1 and (claimed_until is null or claimed_until <= now())"""


async def refetch(conn: Connection, media_id: UUID) -> bool:
    """Have a file fetched now that failed or waits, unless somebody is at it; False where there is nothing to fetch, or
    no need.
    """
    if await conn.execute(REFETCH_SQL, media_id) != "UPDATE 1":
        return False
    await conn.execute(RESTART_SQL, media_id)
    return True

"""The end of files: erased with their customer (rule H5), or kept for as long as the operator wants and no longer.

Rows are ended here; whoever calls removes the bytes once that is committed (`hub.store.keeping`).
"""

from collections.abc import Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

PATIENCE: Final = 300.0
"""Seconds that one statement may take."""
BATCH: Final = 500
"""Files that end in one transaction."""

# The file of a customer: whatever message of theirs holds it, nobody else's does. What somebody is fetching just now
# finds that it is not waited for any more.
FORGET_RECEIVED_SQL = """
with gone as (
    select d.id, d.sha256 from media d
    where d.service_id is null and d.id in (
        select l.media_id from message m join message_media l on l.message_id = m.id
        where m.conversation_id = any($1::uuid[]))
    order by d.id for update
), forgotten as (
    update media d set state = 'erased', mime_type = 'application/octet-stream', filename = '', size = null,
                       sha256 = null, error = null, kept_at = null
    from gone where d.id = gone.id
)
select id, sha256 from gone"""
DROP_FETCHES_SQL = "delete from media_fetch where media_id = any($1::uuid[])"
# Uploads that were sent to them, locked so that nobody sends one meanwhile.
LOCK_SENT_SQL = """
select d.id from media d
where d.service_id is not null and d.id in (
    select l.media_id from message m join message_media l on l.message_id = m.id
    where m.conversation_id = any($1::uuid[]))
order by d.id for update"""
DROP_LINKS_SQL = """
delete from message_media l using message m
where m.conversation_id = any($1::uuid[]) and l.message_id = m.id and l.media_id = any($2::uuid[])"""
FORGET_SENT_SQL = """
with gone as (
    select id, sha256 from media d
    where id = any($1::uuid[]) and not exists (select from message_media l where l.media_id = d.id)
), forgotten as (
    update media d set state = 'erased', mime_type = 'application/octet-stream', filename = '', size = null,
                       sha256 = null, error = null, kept_at = null
    from gone where d.id = gone.id
), uploads as (
    delete from media_upload u using gone where u.media_id = gone.id
)
select id, sha256 from gone"""


async def forget_files(conn: Connection, conversations: Collection[UUID]) -> set[bytes]:
    """Forget the files of these conversations: of customers all, of services what was sent to nobody else. Gives the
    hashes whose bytes are to be removed, where nothing else has them.
    """
    ids = list(conversations)
    received = await conn.fetch(FORGET_RECEIVED_SQL, ids, timeout=PATIENCE)
    await conn.execute(DROP_FETCHES_SQL, [row["id"] for row in received])
    sent = [row["id"] for row in await conn.fetch(LOCK_SENT_SQL, ids, timeout=PATIENCE)]
    await conn.execute(DROP_LINKS_SQL, ids, sent, timeout=PATIENCE)
    forgotten = await conn.fetch(FORGET_SENT_SQL, sent, timeout=PATIENCE)
    return {row["sha256"] for row in (*received, *forgotten) if row["sha256"]}


EXPIRE_RECEIVED_SQL = """
with gone as (
    select id, sha256 from media
    where created_at < now() - $1::interval and service_id is null and state in ('pending', 'kept', 'unavailable')
    order by created_at limit $2 for update skip locked
), ended as (
    update media m set state = 'expired', error = null from gone where m.id = gone.id
)
select id, sha256 from gone"""
# A file counts from its last use, and one that is still to be sent does not end.
EXPIRE_UPLOADS_SQL = """
with gone as (
    select d.id, d.sha256 from media d
    where d.created_at < now() - $1::interval and d.service_id is not null and d.state = 'kept'
      and not exists (
        select from message_media l join message m on m.id = l.message_id
        where l.media_id = d.id and (m.created_at >= now() - $1::interval or m.status in ('queued', 'sending')))
    order by d.created_at limit $2 for update skip locked
), ended as (
    update media m set state = 'expired' from gone where m.id = gone.id
), uploads as (
    delete from media_upload u using gone where u.media_id = gone.id
)
select id, sha256 from gone"""


async def expire_received(conn: Connection, age: timedelta) -> list[Record]:
    """End one batch of customers' files older than this; gives their hashes."""
    gone = await conn.fetch(EXPIRE_RECEIVED_SQL, age, BATCH)
    await conn.execute(DROP_FETCHES_SQL, [row["id"] for row in gone])
    return gone


async def expire_uploads(conn: Connection, age: timedelta) -> list[Record]:
    """End one batch of services' files that nobody has sent for so long; gives their hashes."""
    return await conn.fetch(EXPIRE_UPLOADS_SQL, age, BATCH)

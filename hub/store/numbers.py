"""Numbers, their senders and their channels (rules A1 to A3)."""

from collections.abc import Sequence
from uuid import UUID

from hub.store.pool import Connection, Record

ADD_NUMBER_SQL = "insert into number (e164) values ($1) on conflict (e164) do nothing returning id"
ADD_SENDERS_SQL = """
insert into sender (number_id, medium, provider, external_id)
select $1, * from unnest($2::text[], $3::text[], $4::text[])"""
ADD_CHANNEL_SQL = """
insert into channel (id, number_id, kind, owner_service_id) values ($1, $2, $3, $4) on conflict do nothing"""


async def add_number(conn: Connection, e164: str) -> int | None:
    """Register a number; None where it is known already."""
    number_id: int | None = await conn.fetchval(ADD_NUMBER_SQL, e164)
    return number_id


async def add_senders(conn: Connection, number_id: int, senders: Sequence[tuple[str, str, str]]) -> None:
    """Give a number its senders: medium, provider, external id. Raises `BadData` where A1 is against it."""
    await conn.execute(ADD_SENDERS_SQL, number_id, *map(list, zip(*senders, strict=True)))


async def add_channel(
    conn: Connection, channel_id: UUID, number_id: int, kind: str, owner_service_id: UUID | None = None
) -> None:
    """Make a channel where there is none of this kind (and owner) yet."""
    await conn.execute(ADD_CHANNEL_SQL, channel_id, number_id, kind, owner_service_id)


# NO KEY: rows that refer to a number or a channel are written by transactions that lock conversations first; their
# foreign keys must not wait for us while we wait for those conversations.
LOCK_NUMBER_SQL = "select id, e164, created_at from number where e164 = $1 for no key update"
FIND_NUMBER_SQL = "select id, e164, created_at from number where e164 = $1"
LIST_NUMBERS_SQL = "select id, e164, created_at from number where id > $1 order by id limit $2"
LIST_SENDERS_SQL = """
select number_id, id, medium, provider, external_id, is_active
from sender where number_id = any($1::bigint[]) order by id"""
FIND_SENDER_SQL = "select id, provider, external_id from sender where number_id = $1 and medium = $2 and is_active"


async def lock_number(conn: Connection, e164: str) -> Record | None:
    """Lock a number, first of all locks (E2): connects and disconnects of one number come one after the other."""
    return await conn.fetchrow(LOCK_NUMBER_SQL, e164)


async def find_number(conn: Connection, e164: str) -> Record | None:
    """A registered number."""
    return await conn.fetchrow(FIND_NUMBER_SQL, e164)


async def list_numbers(conn: Connection, after: int, limit: int) -> list[Record]:
    """Numbers by age."""
    return await conn.fetch(LIST_NUMBERS_SQL, after, limit)


async def list_senders(conn: Connection, number_ids: Sequence[int]) -> list[Record]:
    """Senders of these numbers."""
    return await conn.fetch(LIST_SENDERS_SQL, number_ids)


async def find_sender(conn: Connection, number_id: int, medium: str) -> Record | None:
    """The active sender of a number for a medium."""
    return await conn.fetchrow(FIND_SENDER_SQL, number_id, medium)


LOCK_CHANNEL_SQL = """
select id, number_id, kind, parent_epoch from channel
where number_id = $1 and kind = $2 and owner_service_id is not distinct from $3 for no key update"""
SHARE_CHANNEL_SQL = "select id, number_id, kind, parent_epoch from channel where id = $1 for share"
RAISE_EPOCH_SQL = "update channel set parent_epoch = parent_epoch + 1 where id = $1 returning parent_epoch"


async def lock_channel(conn: Connection, number_id: int, kind: str, owner_service_id: UUID | None) -> Record | None:
    """Lock a channel against everybody who sends on it, because its parenthood may change (E2)."""
    return await conn.fetchrow(LOCK_CHANNEL_SQL, number_id, kind, owner_service_id)


async def share_channel(conn: Connection, channel_id: UUID) -> Record | None:
    """Lock a channel FOR SHARE: its parenthood stays while we send (E2)."""
    return await conn.fetchrow(SHARE_CHANNEL_SQL, channel_id)


async def raise_epoch(conn: Connection, channel_id: UUID) -> int:
    """Another parent: the epoch goes up (A5)."""
    epoch: int = await conn.fetchval(RAISE_EPOCH_SQL, channel_id)
    return epoch

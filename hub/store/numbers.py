"""Numbers, their senders and their channels (rules A1 to A3)."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from uuid import UUID

from hub.store.pool import Connection, Record

ADD_NUMBER_SQL = "insert into number (e164) values ($1) on conflict (e164) do nothing returning id"
ADD_SENDERS_SQL = """
insert into sender (number_id, medium, provider, external_id, rate, account)
select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::real[], $6::text[])"""
ADD_CHANNEL_SQL = """
insert into channel (id, number_id, kind, owner_service_id) values ($1, $2, $3, $4) on conflict do nothing"""


@dataclass(frozen=True, slots=True)
class SenderDraft:
    """A sender as it is to be. `rate`: messages a second, None: as configured; `account`: Meta's WhatsApp business
    account.
    """

    medium: str
    provider: str
    external_id: str
    rate: float | None = None
    account: str | None = None


async def add_number(conn: Connection, e164: str) -> int | None:
    """Register a number; None where it is known already."""
    number_id: int | None = await conn.fetchval(ADD_NUMBER_SQL, e164)
    return number_id


async def add_senders(conn: Connection, number_id: int, senders: Sequence[SenderDraft]) -> None:
    """Give a number its senders. Raises `BadData` where A1 is against it."""
    await conn.execute(ADD_SENDERS_SQL, number_id, *map(list, zip(*map(astuple, senders), strict=True)))


async def add_channel(
    conn: Connection, channel_id: UUID, number_id: int, kind: str, owner_service_id: UUID | None = None
) -> None:
    """Make a channel where there is none of this kind (and owner) yet."""
    await conn.execute(ADD_CHANNEL_SQL, channel_id, number_id, kind, owner_service_id)


# NO KEY: rows that refer to a number or a channel are written by transactions that lock conversations first; their
# foreign keys must not wait for us while we wait for those conversations.
LOCK_NUMBER_SQL = "select * from number where e164 = $1 for no key update"
FIND_NUMBER_SQL = "select * from number where e164 = $1"
LIST_NUMBERS_SQL = "select * from number where id > $1 order by id limit $2"
# By way of numeric a rate reads as it was written, to six digits.
LIST_SENDERS_SQL = """
select number_id, id, medium, provider, external_id, is_active, rate::numeric::float8 as rate, account
from sender where number_id = any($1::bigint[]) order by id"""
FIND_SENDER_SQL = (
    "select id, provider, external_id, account, medium from sender where number_id = $1 and medium = $2 and is_active"
)


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


# The active one first, then the newest.
LOCK_SENDER_SQL = """
select id, medium, provider, external_id, rate::numeric::float8 as rate, account, is_active
from sender where number_id = $1 and medium = $2 order by is_active desc, id desc limit 1 for no key update"""
RETIRE_SENDER_SQL = """
update sender set is_active = false
where number_id = $1 and medium = $2 and is_active and (provider, external_id) <> ($3, $4)
returning provider, external_id"""
PUT_SENDER_SQL = """
insert into sender (number_id, medium, provider, external_id, rate, account) values ($1, $2, $3, $4, $5, $6)
on conflict (number_id, provider, medium, external_id)
do update set is_active = true, rate = excluded.rate, account = excluded.account"""
SET_SENDER_SQL = "update sender set rate = $2, account = $3, is_active = $4 where id = $1"


async def lock_sender(conn: Connection, number_id: int, medium: str) -> Record | None:
    """The active sender of a number for a medium, or else the newest, locked; its number is locked before."""
    return await conn.fetchrow(LOCK_SENDER_SQL, number_id, medium)


async def put_sender(conn: Connection, number_id: int, sender: SenderDraft) -> Record | None:
    """Make this the active sender of its medium; gives the one it replaces. Raises `BadData` where it is another
    number's.
    """
    retired = await conn.fetchrow(RETIRE_SENDER_SQL, number_id, sender.medium, sender.provider, sender.external_id)
    await conn.execute(PUT_SENDER_SQL, number_id, *astuple(sender))
    return retired


async def set_sender(
    conn: Connection, sender_id: int, *, rate: float | None, account: str | None, is_active: bool
) -> None:
    """Change a sender; it must not become the second active one of its medium."""
    await conn.execute(SET_SENDER_SQL, sender_id, rate, account, is_active)


LOCK_CHANNEL_SQL = """
select id, number_id, kind, parent_epoch, default_share from channel
where number_id = $1 and kind = $2 and owner_service_id is not distinct from $3 for no key update"""
SHARE_CHANNEL_SQL = """
select c.id, c.number_id, c.kind, c.parent_epoch, n.standalone_may_automate
from channel c join number n on n.id = c.number_id where c.id = $1 for share of c"""
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


SET_DEFAULT_SHARE_SQL = "update channel set default_share = $2 where id = $1"
SET_STANDALONE_SQL = "update number set standalone_may_automate = $2 where id = $1"
LIST_CHANNELS_SQL = """
select id, kind, owner_service_id, parent_epoch, default_share from channel where number_id = $1
order by kind = 'standalone', id"""


async def set_default_share(conn: Connection, channel_id: UUID, share: str) -> None:
    """What authors of a channel share who did not say it themselves (C2)."""
    await conn.execute(SET_DEFAULT_SHARE_SQL, channel_id, share)


async def set_standalone(conn: Connection, number_id: int, *, may_automate: bool) -> None:
    """Whether services on channels of their own may automate on this number (A3)."""
    await conn.execute(SET_STANDALONE_SQL, number_id, may_automate)


async def list_channels(conn: Connection, number_id: int) -> list[Record]:
    """A number's channels, the shared one first."""
    return await conn.fetch(LIST_CHANNELS_SQL, number_id)

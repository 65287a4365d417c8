"""Who is connected to a channel, who is its parent, and how each hears events (rules A2 to A11)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.domain.parenthood import Member
from hub.domain.policy import Parent
from hub.store.pool import Connection, Record

# clock_timestamp: whoever waited for the number longer comes later, by rank and by time.
ADD_SUBSCRIPTION_SQL = """
insert into subscription (id, channel_id, service_id, is_parent, parent_since, connected_at, endpoint_url, event_types,
                          display, share, share_with, on_exhausted)
select $1, $2, $3, $4, case when $4 then x.at end, x.at, $5, $6, $7, $8, $9, $10
from (select clock_timestamp() as at) x"""
SET_SUBSCRIPTION_SQL = """
update subscription
set endpoint_url = $2, event_types = $3, display = $4, share = $5, share_with = $6, on_exhausted = $7 where id = $1"""
FIND_SUBSCRIPTION_SQL = """
select u.*, c.kind, c.number_id, c.parent_epoch, c.default_share
from subscription u join channel c on c.id = u.channel_id
where c.number_id = $1 and u.service_id = $2 and u.disconnected_at is null"""
LIST_MEMBERS_SQL = """
select u.id, u.service_id, u.rank, u.is_parent, u.parent_since, u.connected_at, u.state, u.paused_at, u.paused_reason,
       u.on_exhausted, u.endpoint_url, u.event_types, u.display, u.share, u.share_with,
       coalesce(u.share, c.default_share) as effective_share, s.name
from subscription u join service s on s.id = u.service_id join channel c on c.id = u.channel_id
where u.channel_id = $1 and u.disconnected_at is null order by u.rank"""
# Those who left, too: what they wrote is still there, and the default still says who sees it.
LIST_DEFAULT_SHARERS_SQL = """
select service_id, case when disconnected_at is null then display else 'masked' end as display
from (select distinct on (service_id) * from subscription where channel_id = $1 order by service_id, rank desc) last
where share is null order by rank"""
END_SUBSCRIPTION_SQL = """
update subscription set disconnected_at = now(), is_parent = false, parent_since = null, run = run + 1 where id = $1"""
# One statement after the other: at no time has a channel two parents.
UNSET_PARENT_SQL = "update subscription set is_parent = false, parent_since = null where channel_id = $1 and is_parent"
SET_PARENT_SQL = "update subscription set is_parent = true, parent_since = clock_timestamp() where id = $1"
ADD_CURSORS_SQL = """
insert into cursor (subscription_id, shard, position) select $1, * from unnest($2::smallint[], $3::bigint[])"""
SET_START_SQL = "update subscription set start_positions = $2 where id = $1"


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """What a service asks for when it connects (A11, C2, G3, G5); `share` None: the channel's default holds."""

    endpoint_url: str | None
    event_types: Sequence[str] | None
    display: str
    share: str | None
    share_with: Sequence[UUID]
    on_exhausted: str


async def add_subscription(
    conn: Connection,
    subscription_id: UUID,
    channel_id: UUID,
    service_id: UUID,
    wanted: SubscriptionSettings,
    *,
    is_parent: bool,
) -> None:
    """Connect a service to a channel."""
    await conn.execute(
        ADD_SUBSCRIPTION_SQL, subscription_id, channel_id, service_id, is_parent, wanted.endpoint_url,
        wanted.event_types, wanted.display, wanted.share, wanted.share_with, wanted.on_exhausted,
    )  # fmt: skip


async def set_subscription(conn: Connection, subscription_id: UUID, wanted: SubscriptionSettings) -> None:
    """Update what a connected service asked for; its rank stays."""
    await conn.execute(
        SET_SUBSCRIPTION_SQL, subscription_id, wanted.endpoint_url, wanted.event_types, wanted.display, wanted.share,
        wanted.share_with, wanted.on_exhausted,
    )  # fmt: skip


async def find_subscription(conn: Connection, number_id: int, service_id: UUID) -> Record | None:
    """A service's current subscription on a number, whichever channel it is on."""
    return await conn.fetchrow(FIND_SUBSCRIPTION_SQL, number_id, service_id)


async def list_members(conn: Connection, channel_id: UUID) -> list[Record]:
    """Current subscriptions of a channel by rank."""
    return await conn.fetch(LIST_MEMBERS_SQL, channel_id)


async def list_default_sharers(conn: Connection, channel_id: UUID) -> list[Record]:
    """Services that share what the channel's default says, by rank, and what they ask to see; those that left, too."""
    return await conn.fetch(LIST_DEFAULT_SHARERS_SQL, channel_id)


def members(rows: Sequence[Record]) -> list[Member]:
    """Rows of `list_members` as the rules see them."""
    return [Member(row["id"], row["service_id"], row["rank"], row["is_parent"]) for row in rows]


def parent_of(rows: Sequence[Record], epoch: int) -> Parent | None:
    """The parent among the rows of `list_members`."""
    return next((Parent(r["service_id"], r["name"], r["parent_since"], epoch) for r in rows if r["is_parent"]), None)


async def end_subscription(conn: Connection, subscription_id: UUID) -> None:
    """Disconnect a service."""
    await conn.execute(END_SUBSCRIPTION_SQL, subscription_id)


async def unset_parent(conn: Connection, channel_id: UUID) -> None:
    """Nobody is parent for the moment; rank and connection stay."""
    await conn.execute(UNSET_PARENT_SQL, channel_id)


async def set_parent(conn: Connection, subscription_id: UUID) -> None:
    """Make this subscription the parent; there must be none."""
    await conn.execute(SET_PARENT_SQL, subscription_id)


async def add_cursors(conn: Connection, subscription_id: UUID, starts: dict[int, int]) -> None:
    """Start a subscription behind these events, one of each shard."""
    await conn.execute(ADD_CURSORS_SQL, subscription_id, list(starts), list(starts.values()))
    await conn.execute(SET_START_SQL, subscription_id, [starts[shard] for shard in sorted(starts)])


FIND_HOME_SQL = """
select u.id, u.service_id, u.state, u.channel_id, s.name, n.id as number_id, n.e164, c.kind, c.owner_service_id
from subscription u join service s on s.id = u.service_id join channel c on c.id = u.channel_id
join number n on n.id = c.number_id where u.id = $1 and u.disconnected_at is null"""
LIST_HOMES_SQL = """
select u.id, u.service_id, u.state, u.channel_id, s.name, n.id as number_id, n.e164, c.kind, c.owner_service_id
from subscription u join service s on s.id = u.service_id join channel c on c.id = u.channel_id
join number n on n.id = c.number_id where u.service_id = $1 and u.disconnected_at is null order by n.id"""
LIST_OF_SERVICE_SQL = """
select u.id, n.e164 from subscription u join channel c on c.id = u.channel_id join number n on n.id = c.number_id
where u.service_id = $1 and u.disconnected_at is null order by u.connected_at, u.id"""


async def find_home(conn: Connection, subscription_id: UUID) -> Record | None:
    """A current subscription with its service, channel and number."""
    return await conn.fetchrow(FIND_HOME_SQL, subscription_id)


async def list_homes(conn: Connection, service_id: UUID) -> list[Record]:
    """The same for all current subscriptions of a service, in the order in which their numbers are locked."""
    return await conn.fetch(LIST_HOMES_SQL, service_id)


async def list_of_service(conn: Connection, service_id: UUID) -> list[Record]:
    """The current subscriptions of a service, with their numbers."""
    return await conn.fetch(LIST_OF_SERVICE_SQL, service_id)


PAUSE_SQL = "update subscription set state = 'paused', paused_at = $3, paused_reason = $2 where id = $1"
RESUME_SQL = "update subscription set state = 'active', paused_at = null, paused_reason = null where id = $1"
BEGIN_RUN_SQL = "update subscription set run = run + 1 where id = $1"
SKIP_SQL = """
update cursor c set position = p.position, done = '{}'
from unnest($2::smallint[], $3::bigint[]) p (shard, position)
where c.subscription_id = $1 and c.shard = p.shard and c.position < p.position"""
UNPARK_SQL = "delete from parked_lane where subscription_id = $1"


async def pause(conn: Connection, subscription_id: UUID, reason: str, now: datetime) -> None:
    """Nothing more is delivered; rank and parenthood stay (A5)."""
    await conn.execute(PAUSE_SQL, subscription_id, reason, now)


async def resume(conn: Connection, subscription_id: UUID) -> None:
    """Deliver again."""
    await conn.execute(RESUME_SQL, subscription_id)


async def skip(conn: Connection, subscription_id: UUID, heads: dict[int, int]) -> None:
    """Leave out all that waits up to these events, parked lanes too. Another run begins: lanes that a dispatcher still
    parks in the one before are told apart.
    """
    await conn.execute(BEGIN_RUN_SQL, subscription_id)
    await conn.execute(SKIP_SQL, subscription_id, list(heads), list(heads.values()))
    await conn.execute(UNPARK_SQL, subscription_id)


ADD_SIGNING_SQL = "insert into subscription_secret (subscription_id, secret) values ($1, $2)"
EXPIRE_SECRETS_SQL = """
update subscription_secret set expires_at = least(coalesce(expires_at, 'infinity'), now() + make_interval(secs => $2))
where subscription_id = $1"""


async def add_secret(conn: Connection, subscription_id: UUID, sealed: bytes) -> None:
    """Keep a signing secret, sealed."""
    await conn.execute(ADD_SIGNING_SQL, subscription_id, sealed)


async def expire_secrets(conn: Connection, subscription_id: UUID, overlap: float) -> None:
    """Let the secrets that are live end in `overlap` seconds."""
    await conn.execute(EXPIRE_SECRETS_SQL, subscription_id, overlap)


LIST_RECEIVERS_SQL = """
select u.id, u.channel_id, u.service_id, u.is_parent, u.endpoint_url, u.event_types, u.display, u.run, u.on_exhausted,
       c.kind, c.parent_epoch, n.standalone_may_automate,
       extract(epoch from clock_timestamp() - u.connected_at)::float8 as age,
       (select array_agg(x.secret order by x.id desc) from subscription_secret x
        where x.subscription_id = u.id and (x.expires_at is null or x.expires_at > now())) as secrets
from subscription u join channel c on c.id = u.channel_id join number n on n.id = c.number_id
where u.disconnected_at is null and u.state = 'active' and u.endpoint_url is not null"""


async def list_receivers(conn: Connection) -> list[Record]:
    """Every subscription that webhooks go to now, with its sealed secrets, the newest first."""
    return await conn.fetch(LIST_RECEIVERS_SQL)


LIST_VIEWERS_SQL = """
select u.channel_id, u.service_id, u.is_parent, u.event_types, u.display, u.start_positions, c.kind, c.parent_epoch,
       n.standalone_may_automate
from subscription u join channel c on c.id = u.channel_id join number n on n.id = c.number_id
where u.service_id = $1 and u.disconnected_at is null and ($2::text is null or n.e164 = $2)"""
LIST_STARTS_SQL = """
select coalesce(u.start_positions, (select array_agg(k.position order by k.shard) from cursor k
                                    where k.subscription_id = u.id)) as positions
from subscription u join channel c on c.id = u.channel_id join number n on n.id = c.number_id
where u.service_id = $1 and u.disconnected_at is null and ($2::text is null or n.e164 = $2)"""


async def list_viewers(conn: Connection, service_id: UUID, e164: str | None) -> list[Record]:
    """A service's current subscriptions, paused ones too, as they look at events; to one number or to all."""
    return await conn.fetch(LIST_VIEWERS_SQL, service_id, e164)


async def list_starts(conn: Connection, service_id: UUID, e164: str | None) -> list[Sequence[int]]:
    """Where they began to hear, shard by shard (A10); where that was not kept, where their webhooks stand."""
    rows = await conn.fetch(LIST_STARTS_SQL, service_id, e164)
    return [row["positions"] for row in rows if row["positions"] is not None]

"""Who is connected to a channel, who is its parent, and how each hears events (rules A2 to A11)."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from hub.domain.masking import Sharing
from hub.domain.parenthood import Member
from hub.domain.policy import Parent
from hub.store.pool import Connection, Record

ADD_SUBSCRIPTION_SQL = """
insert into subscription (id, channel_id, service_id, is_parent, parent_since, endpoint_url, event_types, display,
                          share, share_with)
values ($1, $2, $3, $4, case when $4 then now() end, $5, $6, $7, $8, $9)"""
SET_SUBSCRIPTION_SQL = """
update subscription set endpoint_url = $2, event_types = $3, display = $4, share = $5, share_with = $6 where id = $1"""
FIND_SUBSCRIPTION_SQL = """
select u.*, c.kind, c.number_id, c.parent_epoch from subscription u join channel c on c.id = u.channel_id
where c.number_id = $1 and u.service_id = $2 and u.disconnected_at is null"""
LIST_MEMBERS_SQL = """
select u.id, u.service_id, u.rank, u.is_parent, u.parent_since, u.connected_at, u.state, s.name
from subscription u join service s on s.id = u.service_id
where u.channel_id = $1 and u.disconnected_at is null order by u.rank"""
END_SUBSCRIPTION_SQL = """
update subscription set disconnected_at = now(), is_parent = false, parent_since = null where id = $1"""
SET_PARENT_SQL = "update subscription set is_parent = true, parent_since = now() where id = $1"
ADD_CURSORS_SQL = """
insert into cursor (subscription_id, shard, position) select $1, * from unnest($2::smallint[], $3::bigint[])"""


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """What a service asks for when it connects (A11, C2, G5)."""

    endpoint_url: str | None
    event_types: Sequence[str] | None
    display: str
    share: str
    share_with: Sequence[UUID]


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
        wanted.event_types, wanted.display, wanted.share, wanted.share_with,
    )  # fmt: skip


async def set_subscription(conn: Connection, subscription_id: UUID, wanted: SubscriptionSettings) -> None:
    """Update what a connected service asked for; its rank stays."""
    await conn.execute(
        SET_SUBSCRIPTION_SQL, subscription_id, wanted.endpoint_url, wanted.event_types, wanted.display, wanted.share,
        wanted.share_with,
    )  # fmt: skip


async def find_subscription(conn: Connection, number_id: int, service_id: UUID) -> Record | None:
    """A service's current subscription on a number, whichever channel it is on."""
    return await conn.fetchrow(FIND_SUBSCRIPTION_SQL, number_id, service_id)


async def list_members(conn: Connection, channel_id: UUID) -> list[Record]:
    """Current subscriptions of a channel by rank."""
    return await conn.fetch(LIST_MEMBERS_SQL, channel_id)


def members(rows: Sequence[Record]) -> list[Member]:
    """Rows of `list_members` as the rules see them."""
    return [Member(row["id"], row["service_id"], row["rank"], row["is_parent"]) for row in rows]


def parent_of(rows: Sequence[Record], epoch: int) -> Parent | None:
    """The parent among the rows of `list_members`."""
    return next((Parent(r["service_id"], r["name"], r["parent_since"], epoch) for r in rows if r["is_parent"]), None)


async def end_subscription(conn: Connection, subscription_id: UUID) -> None:
    """Disconnect a service."""
    await conn.execute(END_SUBSCRIPTION_SQL, subscription_id)


async def set_parent(conn: Connection, subscription_id: UUID) -> None:
    """Make this subscription the parent; there must be none."""
    await conn.execute(SET_PARENT_SQL, subscription_id)


async def add_cursors(conn: Connection, subscription_id: UUID, heads: dict[int, int]) -> None:
    """Start a subscription at these positions."""
    await conn.execute(ADD_CURSORS_SQL, subscription_id, list(heads), list(heads.values()))


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
       c.kind, c.parent_epoch, extract(epoch from clock_timestamp() - u.connected_at)::float8 as age,
       (select array_agg(x.secret order by x.id desc) from subscription_secret x
        where x.subscription_id = u.id and (x.expires_at is null or x.expires_at > now())) as secrets
from subscription u join channel c on c.id = u.channel_id
where u.disconnected_at is null and u.state = 'active' and u.endpoint_url is not null"""
LIST_SHARING_SQL = """
select distinct on (channel_id, service_id) channel_id, service_id, share, share_with from subscription
order by channel_id, service_id, rank desc"""


async def list_receivers(conn: Connection) -> list[Record]:
    """Every subscription that webhooks go to now, with its sealed secrets, the newest first."""
    return await conn.fetch(LIST_RECEIVERS_SQL)


async def list_sharing(conn: Connection) -> list[Record]:
    """What each service that is or was on a channel lets others see of its messages (C2)."""
    return await conn.fetch(LIST_SHARING_SQL)


FIND_DISPLAY_SQL = """
select display from subscription where channel_id = $1 and service_id = $2 and disconnected_at is null"""
LIST_CHANNEL_SHARING_SQL = """
select distinct on (service_id) service_id, share, share_with from subscription where channel_id = $1
order by service_id, rank desc"""


async def find_visibility(
    conn: Connection, channel_id: UUID, service_id: UUID
) -> tuple[str, dict[UUID | None, Sharing]]:
    """What a viewer asks to see on a channel, and what each author there shares (C2)."""
    display = await conn.fetchval(FIND_DISPLAY_SQL, channel_id, service_id)
    rows = await conn.fetch(LIST_CHANNEL_SHARING_SQL, channel_id)
    sharing: dict[UUID | None, Sharing] = {
        row["service_id"]: Sharing(row["share"], frozenset(row["share_with"])) for row in rows
    }
    return display or "masked", sharing

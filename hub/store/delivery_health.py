"""How the deliveries of subscriptions go. Reads small tables only, or a large one's first rows by its key."""

from collections.abc import Collection
from uuid import UUID

from hub.store.pool import Connection, Record

LIST_IDS_SQL = "select id from subscription where disconnected_at is null and id > $1 order by id limit $2"


async def list_ids(conn: Connection, after: UUID, limit: int) -> list[UUID]:
    """Current subscriptions of all services by age."""
    return [row["id"] for row in await conn.fetch(LIST_IDS_SQL, after, limit)]


# Every dispatcher that lives tells its part: the worst breaker and the sums are the truth.
LIST_HEALTH_SQL = """
with live as materialized (select live_dispatchers() as owner)
select u.id, u.service_id, v.name as service_name, u.channel_id, n.e164, u.is_parent, c.kind, u.endpoint_url,
       u.connected_at, u.state, u.paused_at, u.paused_reason, u.on_exhausted,
       s.dispatchers, s.breaker, s.retry_at, s.in_flight, s.events, s.seconds, p.parked,
       h.delivered, h.refused, h.failed, h.gone, h.last_delivered_at, h.last_error, h.last_error_at, h.failing_since
from subscription u
join service v on v.id = u.service_id
join channel c on c.id = u.channel_id
join number n on n.id = c.number_id
left join delivery_health h on h.subscription_id = u.id
cross join lateral (
    select count(*) as dispatchers,
           (array['closed', 'half_open', 'open'])[max(array_position(array['closed', 'half_open', 'open'], d.breaker))]
               as breaker,
           min(d.retry_at) as retry_at, sum(d.in_flight) as in_flight, sum(d.waiting + d.behind)::bigint as events,
           extract(epoch from clock_timestamp() - min(d.oldest_at))::float8 as seconds
    from delivery_state d join live on live.owner = d.owner where d.subscription_id = u.id
) s
cross join lateral (
    select count(*) as parked from (select from parked_lane l where l.subscription_id = u.id limit 10000) l
) p
where u.id = any($1::uuid[]) and u.disconnected_at is null order by u.id"""


async def list_health(conn: Connection, subscription_ids: Collection[UUID]) -> list[Record]:
    """These subscriptions, as far as they are current, and how they do; parked lanes are counted up to 10,000."""
    return await conn.fetch(LIST_HEALTH_SQL, subscription_ids)


LIST_EXPIRED_SQL = """
select u.id as subscription_id, x.after_event_id, x.upto_event_id, x.noted_at
from unnest($1::uuid[]) u (id)
cross join lateral (
    select * from expired_range r where r.subscription_id = u.id order by r.id desc limit 20
) x"""


async def list_expired(conn: Connection, subscription_ids: Collection[UUID]) -> list[Record]:
    """The last ranges of events that these subscriptions missed for good, the newest first."""
    return await conn.fetch(LIST_EXPIRED_SQL, subscription_ids)


RESET_FAILING_SQL = "update delivery_health set failing_since = null where subscription_id = $1"


async def reset_failing(conn: Connection, subscription_id: UUID) -> None:
    """The days of failures are counted anew."""
    await conn.execute(RESET_FAILING_SQL, subscription_id)


LIST_HEARERS_SQL = """
select u.id, u.service_id, v.name as service_name, n.e164
from subscription u
join service v on v.id = u.service_id
join channel c on c.id = u.channel_id
join number n on n.id = c.number_id
where u.disconnected_at is null and ($1::uuid is null or u.service_id = $1) and ($2::text is null or n.e164 = $2)"""


async def list_hearers(conn: Connection, service_id: UUID | None, e164: str | None) -> dict[UUID, Record]:
    """Current subscriptions of a service, or (None) of all, on a number or (None) on all: whose they are, and where."""
    return {row["id"]: row for row in await conn.fetch(LIST_HEARERS_SQL, service_id, e164)}

"""How things stand on numbers and channels, for a page that shows all of them at once."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from hub.store.pool import Connection, Record

# Without a service: every number. With one: those it is connected to, and of them its own channel only. Of many, those
# where something is wrong come before those where all is well.
LIST_STANDING_SQL = """
select n.id as number_id, n.e164, ch.id as channel_id, ch.kind, ch.parent_epoch, ch.owner_service_id,
       u.id as subscription_id, u.service_id, v.name as service_name, u.is_parent, u.parent_since, u.connected_at,
       u.state
from (
    select * from number x where $1::uuid is null or exists (
        select from channel c join subscription o on o.channel_id = c.id
        where c.number_id = x.id and o.service_id = $1 and o.disconnected_at is null)
    order by exists (
        select from channel c join subscription o on o.channel_id = c.id
        where c.number_id = x.id and o.disconnected_at is null and ($1::uuid is null or o.service_id = $1)
          and (o.state = 'paused' or exists (select from dead_letter d where d.subscription_id = o.id)
               or exists (select from parked_lane l where l.subscription_id = o.id)
               or exists (select from delivery_state t where t.subscription_id = o.id
                          and (t.breaker <> 'closed' or t.oldest_at < now() - interval '1 minute')))
    ) or exists (
        select from sender s join sender_health h on h.sender_id = s.id
        where s.number_id = x.id and s.is_active and h.state <> 'ok'
    ) desc, x.id limit $2) n
join channel ch on ch.number_id = n.id
left join subscription u on u.channel_id = ch.id and u.disconnected_at is null
left join service v on v.id = u.service_id
where $1::uuid is null or exists (
    select from subscription o where o.channel_id = ch.id and o.service_id = $1 and o.disconnected_at is null)
order by n.id, ch.kind = 'standalone', ch.id, u.rank"""
COUNT_OWN_NUMBERS_SQL = """
select count(distinct ch.number_id) from subscription s join channel ch on ch.id = s.channel_id
where s.service_id = $1 and s.disconnected_at is null"""
COUNT_NUMBERS_SQL = "select count(*) from number"
COUNT_SERVICES_SQL = "select count(*) from service where removed_at is null"
# Of what is to be sent only what is due counts; the oldest of each sender first, by the index on both.
LIST_BACKLOG_SQL = """
select s.id as sender_id, n.e164, s.medium, s.provider, b.waiting, b.oldest_at
from sender s join number n on n.id = s.number_id
cross join lateral (
    select count(*) as waiting, min(m.created_at) as oldest_at
    from (select message_id from outbox o where o.sender_id = s.id and o.not_before <= now() limit 1001) o
    join message m on m.id = o.message_id) b
where s.is_active and b.waiting > 0 order by b.oldest_at limit 100"""


async def list_standing(conn: Connection, service_id: UUID | None, limit: int) -> list[Record]:
    """Numbers by age with their channels and who is connected: a row for each connection, one for each channel that has
    none. Of more than `limit` numbers those in trouble, and the oldest.
    """
    return await conn.fetch(LIST_STANDING_SQL, service_id, limit)


async def count_everything(conn: Connection, service_id: UUID | None) -> tuple[int, int]:
    """Numbers, and services, of which a service sees its own only."""
    if service_id is not None:
        return await conn.fetchval(COUNT_OWN_NUMBERS_SQL, service_id), 1
    return await conn.fetchval(COUNT_NUMBERS_SQL), await conn.fetchval(COUNT_SERVICES_SQL)


async def list_backlog(conn: Connection) -> Sequence[Record]:
    """Senders for which messages wait: how many (1001: or more), and since when the oldest."""
    return await conn.fetch(LIST_BACKLOG_SQL)


# What flowed, in rows of ten minutes: by time and number for pictures, by number and service for sums; without the
# latencies, which cost most. A message received is one for its number, though each of the number's channels has it.
LIST_FLOWS_SQL = """
with one as materialized (
    select t.at, c.number_id, t.channel_id, t.service_id, t.received, t.accepted, t.delivered,
           t.failed + t.refused as failed,
           case when $2::uuid is null or t.service_id = $2 then t.webhooks end as webhooks,
           case when $2::uuid is null or t.service_id = $2 then t.retries end as retries
    from traffic t join channel c on c.id = t.channel_id
    where t.step = 600 and t.channel_id = any($1::uuid[]) and t.at >= $3
), heard as (
    select at, number_id, max(received) as received
    from (select at, number_id, channel_id, sum(received) as received from one group by 1, 2, 3) x group by 1, 2
)
select o.at, o.number_id, null::uuid as service_id, h.received::int, sum(o.accepted)::int as accepted,
       sum(o.delivered)::int as delivered, sum(o.failed)::int as failed, coalesce(sum(o.webhooks), 0)::int as webhooks,
       coalesce(sum(o.retries), 0)::int as retries
from one o join heard h using (at, number_id) group by 1, 2, 4
union all
select null, number_id, service_id, 0, sum(accepted)::int, sum(delivered)::int, sum(failed)::int,
       coalesce(sum(webhooks), 0)::int, coalesce(sum(retries), 0)::int
from one where service_id <> '00000000-0000-0000-0000-000000000000' group by number_id, service_id"""


async def list_flows(conn: Connection, channels: Sequence[UUID], viewer: UUID | None, since: datetime) -> list[Record]:
    """What flowed on these channels since a time; rows without a time are sums of a service on a number. A `viewer` is
    told of its own deliveries only.
    """
    return await conn.fetch(LIST_FLOWS_SQL, channels, viewer, since)

"""What stands behind a decision about deliveries: how much was given up, how much waits (rules A5, A6, G3)."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

REACH: Final = 10_000
"""Rows that are counted at most."""

COUNT_DEAD_SQL = """
select u.id, (select count(*) from (select from dead_letter d where d.subscription_id = u.id limit $2) x) as dead
from unnest($1::uuid[]) u (id)"""
COUNT_AUTOMATION_SQL = """
with senders as materialized (select id from sender where number_id = $1),
     queued as materialized (
         select o.message_id from senders s cross join lateral (
             select q.message_id from outbox q where q.sender_id = s.id limit $4) o),
     later as materialized (select message_id from schedule order by due_at limit $4)
select count(*) from (
    select m.id from queued join message m on m.id = queued.message_id
    where m.channel_id = $2 and m.author_service_id = $3 and m.origin <> 'agent'
    union all
    select m.id from later join message m on m.id = later.message_id
    where m.channel_id = $2 and m.author_service_id = $3) w"""
FIND_PLACE_SQL = """
select u.id, u.service_id, u.channel_id, s.name, n.e164
from subscription u join service s on s.id = u.service_id join channel c on c.id = u.channel_id
join number n on n.id = c.number_id where u.id = any($1::uuid[])"""


async def count_dead(conn: Connection, subscription_ids: Collection[UUID]) -> dict[UUID, int]:
    """How many events were given up for these subscriptions, each counted up to `REACH`."""
    rows = await conn.fetch(COUNT_DEAD_SQL, list(subscription_ids), REACH)
    return {row["id"]: row["dead"] for row in rows}


async def count_automation(conn: Connection, number_id: int, channel_id: UUID, service_id: UUID) -> int:
    """How many of a service's automated messages wait or are scheduled on a channel: what it loses with parenthood.
    Of long queues the first `REACH` are looked at.
    """
    found: int = await conn.fetchval(COUNT_AUTOMATION_SQL, number_id, channel_id, service_id, REACH)
    return found


async def find_places(conn: Connection, subscription_ids: Collection[UUID]) -> dict[UUID, Record]:
    """Whose these subscriptions are, and on which number."""
    return {row["id"]: row for row in await conn.fetch(FIND_PLACE_SQL, list(subscription_ids))}

"""What flowed, counted by step of time, channel and service: once each, from the event log and what dispatchers wrote
down, however late a transaction commits. Off the way of every message: the janitor calls it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from hub.domain.latency import BOUNDS, PLACES
from hub.store.deliveries import unpack
from hub.store.pool import Connection, Record

STEPS: Final[dict[int, timedelta]] = {60: timedelta(days=2), 600: timedelta(days=14), 3600: timedelta(days=400)}
"""Seconds of a row, and how long such rows are kept."""
OF_SHARD: Final = 100
"""Events of each shard that one call counts at most."""
FLUSHES: Final = 20
"""Flushes of accepted deliveries that one call counts at most."""
DELIVERIES: Final = 2000
"""No further flush is taken beyond so many: at the height of a storm one holds more than a thousand."""
ATTEMPTS: Final = 5000
PRUNE_BATCH: Final = 5000
_LATEST: Final = timedelta(minutes=10)
"""After so long no transaction that drew an id can still commit: the server ends those that stand still (`STALLED`),
and statements have their time-outs."""
_WIDEST: Final = 10_000
"""Ids that are looked for at most: a wider gap is what retention took, or a crash left out."""
_BACK: Final = timedelta(hours=24)
"""What a hub counts of the time before it began to count."""

# Counting -----------------------------------------------------------------------------------------------------------


def _spread(name: str) -> str:
    places = ", ".join(f"count(*) filter (where c.{name} = {place})" for place in range(PLACES))
    return f"case when count(c.{name}) > 0 then array[{places}] end"


_NUMBERS: Final = (
    "received",
    "accepted",
    "taken",
    "delivered",
    "failed",
    "refused",
    "webhooks",
    "retries",
    "answer_ms",
)
# The tail of every statement that counts; `counted` has a row for each thing that happened.
_ADD: Final = f"""
insert into traffic as t (step, at, channel_id, service_id, {", ".join(_NUMBERS)}, take_times, lag_times)
select s.step, date_bin(make_interval(secs => s.step), c.at, timestamptz '2000-01-01 00:00:00Z'), c.channel_id,
       coalesce(c.service_id, '00000000-0000-0000-0000-000000000000'),
       {", ".join(f"coalesce(sum(c.{name}), 0)" for name in _NUMBERS)}, {_spread("take")}, {_spread("lag")}
from counted c cross join (values (60), (600), (3600)) as s (step)
group by 1, 2, 3, 4 order by 1, 3, 2, 4
on conflict (step, channel_id, at, service_id) do update
    set {", ".join(f"{name} = t.{name} + excluded.{name}" for name in _NUMBERS)},
        take_times = add_counts(t.take_times, excluded.take_times),
        lag_times = add_counts(t.lag_times, excluded.lag_times)"""
_BOUNDS: Final = f"array[{', '.join(map(str, BOUNDS))}]::float8[]"

# A message is taken when its provider is first heard to have it, delivered when its customer's device first is: a later
# word may come first. What failed without its provider ever having had it was refused, by provider or rule.
COUNT_EVENTS_SQL = f"""
with took as materialized (
    select e.* from unnest($1::bigint[]) with ordinality as p (position, n)
    cross join lateral (
        select event.id, event.shard, event.type, event.channel_id, event.message_id, event.author_service_id,
               event.created_at, case when event.type = 'message.status' then event.data end as data
        from event where event.shard = (p.n - 1)::smallint and event.id > p.position order by event.id limit $2) e
), told as materialized (
    select t.shard, t.id, t.type, t.channel_id, t.message_id, t.author_service_id, t.created_at, m.*
    from took t left join lateral json_to_record(t.data::json -> 'message')
        as m (status text, status_times json, provider_id text) on t.data is not null
    where t.channel_id is not null and t.type in ('message.received', 'message.queued', 'message.status')
), judged as materialized (
    select t.created_at as at, t.channel_id, t.author_service_id as service_id,
           (t.type = 'message.received' and m.direction = 'inbound') as is_received,
           t.type = 'message.queued' as is_accepted,
           case t.status when 'sent' then true when 'delivered' then (t.status_times -> 'sent') is null
                when 'read' then (t.status_times -> 'sent') is null and (t.status_times -> 'delivered') is null
           end as is_taken,
           case t.status when 'delivered' then (t.status_times -> 'read') is null
                when 'read' then (t.status_times -> 'delivered') is null end as is_delivered,
           t.status = 'failed' and t.provider_id is not null as is_failed,
           t.status = 'failed' and t.provider_id is null as is_refused,
           case when t.status = 'sent' and m.send_at is null then t.created_at - m.created_at end as took
    from told t left join message m on m.id = t.message_id
), counted as (
    select at, channel_id, service_id, is_received::int as received, is_accepted::int as accepted,
           is_taken::int as taken, is_delivered::int as delivered, is_failed::int as failed,
           is_refused::int as refused, 0 as webhooks, 0 as retries, 0 as answer_ms,
           width_bucket(extract(epoch from took)::float8, {_BOUNDS}) as take, null::int as lag
    from judged where is_received or is_accepted or is_taken or is_delivered or is_failed or is_refused
), added as ({_ADD})
select shard, max(id) as position, count(*) as events from took group by shard"""
MARK_SQL = "select positions, delivered_id, attempt_id from traffic_mark for update"
BEGIN_SQL = """
update traffic_mark set positions = array_fill(event_id_before(now() - $1::interval), array[64]),
    delivered_id = coalesce((
        select d.id from delivered d where d.at < now() - $1::interval order by d.at desc limit 1), 0)
returning positions, delivered_id, attempt_id"""
SAVE_POSITIONS_SQL = "update traffic_mark set positions = $1"


async def count_events(conn: Connection, of_shard: int = OF_SHARD) -> int:
    """Count events of messages beyond those counted, at most so many of each shard; gives how many were looked at.

    Each shard has a position of its own: within a shard ids appear in order, while of two shards the lower id may
    appear long after the higher one.
    """
    mark = await _read_mark(conn)
    positions = list(mark["positions"])
    rows = await conn.fetch(COUNT_EVENTS_SQL, positions, of_shard)
    for row in rows:
        positions[row["shard"]] = row["position"]
    if rows:
        await conn.execute(SAVE_POSITIONS_SQL, positions)
    return sum(row["events"] for row in rows)


async def _read_mark(conn: Connection) -> Record:
    """How far was counted; locked, so that nothing is counted twice."""
    mark = await conn.fetchrow(MARK_SQL)
    assert mark is not None
    if mark["positions"] is None:
        mark = await conn.fetchrow(BEGIN_SQL, _BACK)
        assert mark is not None
    return mark


# Deliveries of a replay are deliveries, though how old their events are says nothing of how quick deliveries are.
COUNT_DELIVERIES_SQL = f"""
with counted as (
    select d.at, u.channel_id, u.service_id, 0 as received, 0 as accepted, 0 as taken, 0 as delivered, 0 as failed,
           0 as refused, 1 as webhooks, 0 as retries, d.ms as answer_ms, null::int as take,
           case when not exists (
               select from replay r join replay_shard s on s.replay_id = r.id and s.shard = e.shard
               where r.subscription_id = d.subscription_id and r.created_at <= d.at and s.upto >= e.id
                 and coalesce(s.finished_at, d.at) >= d.at - interval '1 minute')
           then width_bucket(extract(epoch from d.at - e.created_at)::float8, {_BOUNDS}) end as lag
    from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::int[]) as d (subscription_id, event_id, at, ms)
    join subscription u on u.id = d.subscription_id
    left join event e on e.id = d.event_id
)
{_ADD}"""
LIST_FLUSHES_SQL = """
select id, at, entries from delivered where id = any($1::bigint[])
union all
(select id, at, entries from delivered where id > $2 order by id limit $3)
order by id"""


async def count_deliveries(conn: Connection, flushes: int = FLUSHES) -> int:
    """Count accepted deliveries beyond those counted; gives how many flushes of them."""
    mark = (await _read_mark(conn))["delivered_id"]
    rows: list[Record] = []
    entries: list[tuple[UUID, int, datetime, int]] = []
    for row in await conn.fetch(LIST_FLUSHES_SQL, await _list_gaps(conn, "delivered"), mark, flushes):
        rows.append(row)
        entries += [(sub, event, row["at"], ms) for sub, event, _, ms in unpack(row["entries"])]
        if len(entries) >= DELIVERIES:
            break
    if entries:
        await conn.execute(COUNT_DELIVERIES_SQL, *map(list, zip(*entries, strict=True)))
    await _advance(conn, "delivered", mark, [row["id"] for row in rows])
    return sum(row["id"] > mark for row in rows)


COUNT_ATTEMPTS_SQL = f"""
with counted as (
    select a.at, u.channel_id, u.service_id, 0 as received, 0 as accepted, 0 as taken, 0 as delivered, 0 as failed,
           0 as refused, 0 as webhooks, 1 as retries, 0 as answer_ms, null::int as take, null::int as lag
    from attempt a join subscription u on u.id = a.subscription_id where a.id = any($1::bigint[])
)
{_ADD}"""
LIST_ATTEMPTS_SQL = """
select id from attempt where id = any($1::bigint[])
union all
(select id from attempt where id > $2 order by id limit $3)
order by id"""


async def count_attempts(conn: Connection, limit: int = ATTEMPTS) -> int:
    """Count deliveries that failed, beyond those counted; gives how many."""
    mark = (await _read_mark(conn))["attempt_id"]
    rows = await conn.fetch(LIST_ATTEMPTS_SQL, await _list_gaps(conn, "attempt"), mark, limit)
    ids = [row["id"] for row in rows]
    if ids:
        await conn.execute(COUNT_ATTEMPTS_SQL, ids)
    await _advance(conn, "attempt", mark, ids)
    return sum(key > mark for key in ids)


Source = Literal["delivered", "attempt"]
LIST_GAPS_SQL = "select id from traffic_gap where source = $1"
CLOSE_GAPS_SQL = (
    "delete from traffic_gap where source = $1 and (id = any($2::bigint[]) or seen_at < now() - $3::interval)"
)
OPEN_GAPS_SQL = "insert into traffic_gap (source, id) select $1, id from unnest($2::bigint[]) as g (id)"
SAVE_DELIVERED_SQL = "update traffic_mark set delivered_id = $1"
SAVE_ATTEMPT_SQL = "update traffic_mark set attempt_id = $1"


async def _list_gaps(conn: Connection, source: Source) -> list[int]:
    return [row["id"] for row in await conn.fetch(LIST_GAPS_SQL, source)]


async def _advance(conn: Connection, source: Source, mark: int, seen: Sequence[int]) -> None:
    """Note what was counted, and which ids below the new mark were not there: their transactions may still commit."""
    await conn.execute(CLOSE_GAPS_SQL, source, seen, _LATEST)
    beyond = [key for key in seen if key > mark]
    if not beyond:
        return
    missing = set(range(max(mark, beyond[-1] - _WIDEST) + 1, beyond[-1])).difference(beyond)
    if missing:
        await conn.execute(OPEN_GAPS_SQL, source, sorted(missing))
    await conn.execute(SAVE_DELIVERED_SQL if source == "delivered" else SAVE_ATTEMPT_SQL, beyond[-1])


PRUNE_SQL = """
delete from traffic t using (
    select step, channel_id, at, service_id from traffic
    where step = $1 and at < now() - $2::interval order by at limit $3
) old
where (t.step, t.channel_id, t.at, t.service_id) = (old.step, old.channel_id, old.at, old.service_id)"""


async def prune_traffic(conn: Connection) -> int:
    """Forget what is older than is kept of each step; gives the most that went of one."""
    gone = [await conn.execute(PRUNE_SQL, step, age, PRUNE_BATCH) for step, age in STEPS.items()]
    return max(int(status.rsplit(" ", 1)[1]) for status in gone)

"""Retention (rule H6): partitions made ahead, dropped when old and needed by nobody, and who is left behind by that."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

from hub.store.pool import Connection, translated

Table = Literal["event", "attempt", "click", "click_origin", "web_event"]
"""What is partitioned: the event log by ranges of ids, all others by day."""

SMALLEST: Final = 1_000_000
"""Ids of a partition of the event log, at least."""
BIGGEST: Final = 1_000_000_000
DAYS_AHEAD: Final = 7
PRUNE_BATCH: Final = 1000
"""Rows that one prune deletes at most: who gets fewer is done."""
REPLAY_BATCH: Final = 100
"""The same for replays, which have a row for each shard."""
_LONG: Final = 60.0
"""Seconds for the statement that looks through all conversations of a channel."""

# Partitions ---------------------------------------------------------------------------------------------------------

MAKE_PARTITIONS_SQL = "select make_partitions($1, $2, $3)"


async def make_partitions(conn: Connection) -> None:
    """Make the partitions that the coming days need: alone in a transaction, which it keeps short.
    Raises `Unavailable` where a lock is not to be had at once.
    """
    await conn.execute(MAKE_PARTITIONS_SQL, SMALLEST, DAYS_AHEAD, BIGGEST)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of the event log, and the last id it has room for."""

    name: str
    upto: int


# Ids follow time but for the length of a transaction, so the last event tells the age of all. Where a range was drawn
# and never used, what comes after it tells.
LIST_OLD_SQL = """
select p.name, p.high::bigint - 1 as upto, coalesce(
    (select e.created_at from event e where e.id >= p.low::bigint and e.id < p.high::bigint order by e.id desc limit 1),
    (select e.created_at from event e where e.id >= p.high::bigint order by e.id limit 1)
    ) < now() - $1::interval as is_old
from partitions_of('event') p
where not p.is_leaving and p.high::bigint <= (select last_value from event_id_seq)
order by p.high::bigint"""
LIST_OLD_DAYS_SQL = """
select p.name from partitions_of($1::text::regclass) p
where not p.is_leaving and p.high::timestamptz <= now() - $2::interval order by p.low"""


async def list_old(conn: Connection, age: timedelta) -> list[Partition]:
    """The partitions at the beginning of the log in which every event is older than this."""
    old = []
    for row in await conn.fetch(LIST_OLD_SQL, age):
        if not row["is_old"]:
            break
        old.append(Partition(row["name"], row["upto"]))
    return old


async def list_old_days(conn: Connection, table: Table, age: timedelta) -> list[str]:
    """Partitions of a table by day in which all is older than this: nothing that is to be done yet needs any of it."""
    return [row["name"] for row in await conn.fetch(LIST_OLD_DAYS_SQL, table, age)]


# Dropping -----------------------------------------------------------------------------------------------------------

LIST_LEAVING_SQL = "select p.name from partitions_of($1::text::regclass) p where p.is_leaving"
LIST_DETACHED_SQL = """
select c.oid::regclass::text as name from pg_class c join pg_class p on p.oid = $1::text::regclass
where c.relnamespace = p.relnamespace and c.relkind = 'r' and not c.relispartition
  and c.relname ~ ('^' || p.relname || '_[0-9]+$')
order by c.relname"""
BE_IMPATIENT_SQL = "set lock_timeout = '1s'"
BE_PATIENT_SQL = "reset lock_timeout"


async def drop_partition(conn: Connection, table: Table, name: str) -> None:
    """Drop a partition, outside of transactions. Nobody waits for it: where `drop table` would lock out all who read or
    write, this waits itself until those who may see the partition are done. Raises `Unavailable` where one of them
    takes long; the partition is out of sight then, and `finish_drops` removes it.
    """
    await detach_partition(conn, table, name)
    async with translated(), _impatient(conn):
        await conn.execute(f"drop table {name}")


async def finish_drops(conn: Connection, table: Table) -> None:
    """Remove what drops that were cut short have left. Raises as `drop_partition`."""
    await finish_detaching(conn, table)
    for name in await list_detached(conn, table):
        async with translated(), _impatient(conn):
            await conn.execute(f"drop table {name}")


async def detach_partition(conn: Connection, table: Table, name: str) -> None:
    """Take a partition out of sight, outside of transactions. Waits and raises as `drop_partition`."""
    async with translated(), _impatient(conn):
        await conn.execute(f"alter table {table} detach partition {name} concurrently")


async def finish_detaching(conn: Connection, table: Table) -> None:
    """Take those out of sight at which it was cut short. Raises as `drop_partition`."""
    async with translated(), _impatient(conn):
        for row in await conn.fetch(LIST_LEAVING_SQL, table):
            await conn.execute(f"alter table {table} detach partition {row['name']} finalize")


async def list_detached(conn: Connection, table: Table) -> list[str]:
    """Those that are out of sight, and still there."""
    async with translated():
        return [row["name"] for row in await conn.fetch(LIST_DETACHED_SQL, table)]


@asynccontextmanager
async def _impatient(conn: Connection) -> AsyncIterator[None]:
    await conn.execute(BE_IMPATIENT_SQL)
    try:
        yield
    finally:
        await conn.execute(BE_PATIENT_SQL)


KEEP_LOG_SQL = "select pg_advisory_xact_lock_shared(7002, 1)"
LOCK_LOG_SQL = "select pg_advisory_lock(7002, 1)"
UNLOCK_LOG_SQL = "select pg_advisory_unlock(7002, 1)"


async def keep_log(conn: Connection) -> None:
    """Nothing of the log is dropped until this transaction ends: for who chooses a place in it to begin at, before
    looking at the log.
    """
    await conn.execute(KEEP_LOG_SQL)


@asynccontextmanager
async def log_locked(conn: Connection) -> AsyncIterator[None]:
    """Nobody chooses a place in the log meanwhile: what is found to be needed by nobody stays so. Outside of
    transactions. Raises `Unavailable` where it is not to be had at once.
    """
    async with translated(), _impatient(conn):
        await conn.execute(LOCK_LOG_SQL)
    try:
        yield
    finally:
        async with translated():
            await conn.execute(UNLOCK_LOG_SQL)


FIND_NEEDED_SQL = "select lowest_needed($1, $2)"


async def find_needed(conn: Connection, upto: int, *, by_active: bool) -> int | None:
    """The lowest event up to this id that a connected subscription still needs, be it only of those that webhooks go to
    now; None: it may be dropped.
    """
    needed: int | None = await conn.fetchval(FIND_NEEDED_SQL, upto, by_active)
    return needed


# Those left behind --------------------------------------------------------------------------------------------------

LIST_LAGGARDS_SQL = """
select u.id from subscription u
where u.disconnected_at is null and (u.state = 'paused' or u.endpoint_url is null)
  and (exists (select from cursor c where c.subscription_id = u.id and c.position < $1)
       or exists (select from parked_lane p where p.subscription_id = u.id and p.first_event_id <= $1)
       or exists (select from replay r join replay_shard s on s.replay_id = r.id
                  where r.subscription_id = u.id and s.finished_at is null and s.position < least(s.upto, $1)))
order by u.id"""
LOCK_LAGGARD_SQL = """
select state from subscription
where id = $1 and disconnected_at is null and (state = 'paused' or endpoint_url is null) for no key update"""


async def list_laggards(conn: Connection, upto: int) -> list[UUID]:
    """Connected subscriptions that nothing is posted to, paused or pull-only, and that stand below this id."""
    return [row["id"] for row in await conn.fetch(LIST_LAGGARDS_SQL, upto)]


async def lock_laggard(conn: Connection, subscription_id: UUID) -> str | None:
    """Keep a laggard as it is to the end of the transaction; gives its state, None where it is no laggard any more."""
    state: str | None = await conn.fetchval(LOCK_LAGGARD_SQL, subscription_id)
    return state


# Looked for by conversation: the log has no index by channel, and other channels may fill most of it.
FIND_LOST_SQL = """
with me as materialized (select channel_id, service_id, event_types from subscription where id = $1)
select min(lost.after) from (
    select c.position as after
    from me
    cross join lateral (
        select me.channel_id as id union all select v.id from conversation v where v.channel_id = me.channel_id
    ) lane
    join cursor c on c.subscription_id = $1 and c.shard = lane_shard(lane.id)
    cross join lateral (
        select from event e
        where coalesce(e.conversation_id, e.channel_id) = lane.id and e.id > c.position and e.id <= $2
          and e.id <> all (c.done) and (me.event_types is null or e.type = any (me.event_types))
          and (e.audience is null or me.service_id = any (e.audience))
        limit 1
    ) one
    union all
    select p.first_event_id - 1 from parked_lane p where p.subscription_id = $1 and p.first_event_id <= $2
) lost"""


async def find_lost(conn: Connection, subscription_id: UUID, upto: int) -> int | None:
    """Behind which id events up to `upto` are lost to a subscription that would have heard them; None: nothing is."""
    after: int | None = await conn.fetchval(FIND_LOST_SQL, subscription_id, upto, timeout=_LONG)
    return after


MOVE_CURSORS_SQL = """
update cursor set position = $2, done = array(select d from unnest(done) d where d > $2)
where subscription_id = $1 and position < $2"""
MOVE_LANES_SQL = """
with head as (
    select p.lane, (select e.id from event e where coalesce(e.conversation_id, e.channel_id) = p.lane and e.id > $2
                    order by e.id limit 1) as id
    from parked_lane p where p.subscription_id = $1 and p.first_event_id <= $2
), ended as (
    delete from parked_lane p using head h where p.subscription_id = $1 and p.lane = h.lane and h.id is null
)
update parked_lane p set first_event_id = h.id, attempts = 0, next_attempt_at = now()
from head h where p.subscription_id = $1 and p.lane = h.lane and h.id is not null"""
MOVE_REPLAYS_SQL = """
update replay_shard s
set position = least(s.upto, $2), finished_at = case when s.upto <= $2 then now() end
from replay r
where r.id = s.replay_id and r.subscription_id = $1 and s.finished_at is null and s.position < least(s.upto, $2)"""
DROP_DEAD_SQL = "delete from dead_letter where subscription_id = $1 and event_id <= $2"


async def move_up(conn: Connection, subscription_id: UUID, upto: int) -> None:
    """Let a subscription stand behind this id at least: its cursors, its parked lanes (each at the first event that
    is left of it, to be tried at once) and its replays; without dead letters of what is gone.
    """
    for sql in (MOVE_CURSORS_SQL, MOVE_LANES_SQL, MOVE_REPLAYS_SQL, DROP_DEAD_SQL):
        await conn.execute(sql, subscription_id, upto)


# What is lost during one pause is one range, however often the log was cut meanwhile.
NOTE_EXPIRED_SQL = """
with grown as (
    update expired_range r set upto_event_id = $3, noted_at = now()
    from subscription u
    where r.id = (select max(id) from expired_range where subscription_id = $1)
      and u.id = r.subscription_id and r.noted_at >= u.paused_at
    returning r.after_event_id
), added as (
    insert into expired_range (subscription_id, after_event_id, upto_event_id)
    select $1, $2, $3 where not exists (select from grown) returning after_event_id
)
select after_event_id from grown union all select after_event_id from added"""


async def note_expired(conn: Connection, subscription_id: UUID, after: int, upto: int) -> int:
    """Write down that a paused subscription lost events behind `after`, up to `upto`; gives the id behind which it lost
    events since it was paused.
    """
    since: int = await conn.fetchval(NOTE_EXPIRED_SQL, subscription_id, after, upto)
    return since


# What goes row by row -----------------------------------------------------------------------------------------------

PRUNE_DEAD_SQL = """
delete from dead_letter where (subscription_id, event_id) in (
    select subscription_id, event_id from dead_letter where event_id <= $1 limit $2)"""
PRUNE_DELIVERED_SQL = """
delete from delivered where id in (
    select d.id from (select id, at from delivered order by id limit $2) d
    where d.at < now() - $1::interval and d.id <= (select min(checkpoint) from shard_lease))"""
PRUNE_RANGES_SQL = """
delete from expired_range where id in (
    select r.id from expired_range r join subscription u on u.id = r.subscription_id
    where r.noted_at < now() - $1::interval
      and (u.disconnected_at is not null or u.paused_at is null or u.paused_at > r.noted_at)
    limit $2)"""
PRUNE_REPLAYS_SQL = """
with old as materialized (
    select r.id from replay r
    where r.created_at < now() - $1::interval and not exists (
        select from replay_shard s
        where s.replay_id = r.id and (s.finished_at is null or s.finished_at >= now() - $1::interval))
    limit $2
), shards as (
    delete from replay_shard s using old where s.replay_id = old.id
)
delete from replay r using old where r.id = old.id"""


async def prune_dead(conn: Connection, upto: int) -> int:
    """Remove one batch of dead letters of events up to this id; gives how many."""
    return _count(await conn.execute(PRUNE_DEAD_SQL, upto, PRUNE_BATCH))


async def prune_delivered(conn: Connection, age: timedelta) -> int:
    """Forget one batch of deliveries older than this, but for those that a restart needs; gives how many."""
    return _count(await conn.execute(PRUNE_DELIVERED_SQL, age, PRUNE_BATCH))


async def prune_ranges(conn: Connection, age: timedelta) -> int:
    """Forget one batch of what was lost before this, but not during a pause that goes on; gives how many."""
    return _count(await conn.execute(PRUNE_RANGES_SQL, age, PRUNE_BATCH))


async def prune_replays(conn: Connection, age: timedelta) -> int:
    """Forget one batch of replays that ended before this; gives how many."""
    return _count(await conn.execute(PRUNE_REPLAYS_SQL, age, REPLAY_BATCH))


def _count(tag: str) -> int:
    return int(tag.split()[-1])


SIZES_SQL = """
select i.inhparent::regclass::text as name, count(*) as partitions,
       sum(pg_total_relation_size(i.inhrelid))::bigint as bytes
from pg_inherits i join pg_partitioned_table p on p.partrelid = i.inhparent group by i.inhparent"""


async def find_sizes(conn: Connection) -> dict[str, tuple[int, int]]:
    """Of each partitioned table: how many partitions, and their bytes."""
    return {row["name"]: (row["partitions"], row["bytes"]) for row in await conn.fetch(SIZES_SQL)}

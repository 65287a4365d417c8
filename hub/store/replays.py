"""Replays, and the places in the log that they are asked for by (rule G3)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.store.pool import Connection, Record

# Places in the log --------------------------------------------------------------------------------------------------

# Within a shard ids go up in order of commit, and times follow them but for the length of a transaction: so the place
# of a time is looked for by ids a minute around it.
FIND_STARTS_SQL = """
with low as materialized (select event_id_before($1::timestamptz) as id)
select s.shard::int as shard,
       coalesce((select e.prev_id from event e
                 where e.shard = s.shard and e.id > low.id and e.created_at >= $1 order by e.id limit 1),
                (select max(e.id) from event e where e.shard = s.shard), 0) as position
from low, generate_series(0, 63) s (shard)"""
FIND_ENDS_SQL = """
with high as materialized (select event_id_before($1::timestamptz + interval '2 minutes') as id)
select s.shard::int as shard,
       coalesce((select e.id from event e
                 where e.shard = s.shard and e.id <= high.id and e.created_at < $1 order by e.id desc limit 1),
                0) as position
from high, generate_series(0, 63) s (shard)"""


async def find_starts(conn: Connection, moment: datetime) -> dict[int, int]:
    """The position in each shard behind which its first event of that time or later stands; the head where there is
    none. No event of that time or later is at or below it, and every one beyond it is of that time or later but for
    those that were written within the same instant.
    """
    return {row["shard"]: row["position"] for row in await conn.fetch(FIND_STARTS_SQL, moment)}


async def find_ends(conn: Connection, moment: datetime) -> dict[int, int]:
    """The last event of each shard that is of an earlier time; 0 where there is none."""
    return {row["shard"]: row["position"] for row in await conn.fetch(FIND_ENDS_SQL, moment)}


# What was dropped is told by the bounds of the partitions: ids themselves have gaps.
FIND_LOG_START_SQL = """
select coalesce((select min(low::bigint) from partitions_of('event') where not is_leaving), 0) as id,
       (select created_at from event order by id limit 1) as at"""


@dataclass(frozen=True, slots=True)
class LogStart:
    """From which id on the log is kept, and the time of the first event that is there."""

    id: int
    at: datetime | None

    def has_lost(self, moment: datetime) -> bool:
        """Whether events of that time or later may have been dropped."""
        return self.id > 0 and self.at is not None and moment < self.at


async def find_log_start(conn: Connection) -> LogStart:
    """Where the log begins after what retention has dropped; id 0: it is complete."""
    row = await conn.fetchrow(FIND_LOG_START_SQL)
    assert row is not None
    return LogStart(row["id"], row["at"])


FIND_EVENTS_SQL = """
select id, shard from event
where id = any($1::bigint[]) and channel_id = $2 and (audience is null or $3 = any(audience))
  and ($4::uuid is null or coalesce(conversation_id, channel_id) = $4)"""


async def find_events(
    conn: Connection, ids: Collection[int], channel_id: UUID, service_id: UUID, lane: UUID | None
) -> dict[int, int]:
    """Those of these events that a service of this channel may hear, with their shards."""
    rows = await conn.fetch(FIND_EVENTS_SQL, ids, channel_id, service_id, lane)
    return {row["id"]: row["shard"] for row in rows}


# Replays ------------------------------------------------------------------------------------------------------------

ADD_REPLAY_SQL = """
insert into replay (id, subscription_id, asked_by, selection, lane, only_ids, since, until, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"""
ADD_SHARDS_SQL = """
insert into replay_shard (replay_id, shard, position, upto)
select $1, * from unnest($2::smallint[], $3::bigint[], $4::bigint[])"""


@dataclass(frozen=True, slots=True)
class ReplayDraft:
    """A replay to make. `spans`: for each shard the position behind which it begins and the last id it may reach."""

    id: UUID
    subscription_id: UUID
    asked_by: str
    selection: str
    spans: dict[int, tuple[int, int]]
    lane: UUID | None
    only_ids: Sequence[int] | None
    since: datetime | None
    until: datetime | None
    created_at: datetime


async def add_replay(conn: Connection, draft: ReplayDraft) -> None:
    """Ask the dispatchers for a second cursor over the log."""
    await conn.execute(
        ADD_REPLAY_SQL, draft.id, draft.subscription_id, draft.asked_by, draft.selection, draft.lane, draft.only_ids,
        draft.since, draft.until, draft.created_at,
    )  # fmt: skip
    positions, ends = zip(*draft.spans.values(), strict=True) if draft.spans else ((), ())
    await conn.execute(ADD_SHARDS_SQL, draft.id, list(draft.spans), list(positions), list(ends))


LIST_REPLAYS_SQL = """
select r.id, r.subscription_id, u.service_id, n.e164, r.asked_by, r.selection, r.created_at, r.cancelled_at,
       p.delivered, p.failed, p.shards, p.shards_left, p.finished_at
from replay r
join subscription u on u.id = r.subscription_id
join channel c on c.id = u.channel_id
join number n on n.id = c.number_id
cross join lateral (
    select coalesce(sum(s.delivered), 0)::bigint as delivered, coalesce(sum(s.failed), 0)::bigint as failed,
           count(*) as shards, count(*) filter (where s.finished_at is null) as shards_left,
           max(s.finished_at) as finished_at
    from replay_shard s where s.replay_id = r.id
) p
where ($1::uuid is null or (u.service_id = $1 and u.disconnected_at is null))
  and ($2::uuid is null or r.id = $2) and r.id < $3
order by r.id desc limit $4"""
_LAST = UUID(int=2**128 - 1)


async def list_replays(conn: Connection, service_id: UUID | None, before: UUID | None, limit: int) -> list[Record]:
    """Replays of a service's connections, or of all, the newest first."""
    return await conn.fetch(LIST_REPLAYS_SQL, service_id, None, before or _LAST, limit)


async def find_replay(conn: Connection, service_id: UUID | None, replay_id: UUID) -> Record | None:
    """One replay, as `list_replays` gives it."""
    return await conn.fetchrow(LIST_REPLAYS_SQL, service_id, replay_id, _LAST, 1)


CANCEL_SQL = """
update replay r set cancelled_at = $2
where r.id = $1 and exists (select from replay_shard s where s.replay_id = r.id and s.finished_at is null)"""
FINISH_SHARDS_SQL = """
update replay_shard s set finished_at = $2
from (
    select replay_id, shard from replay_shard where replay_id = $1 and finished_at is null order by shard for update
) o
where s.replay_id = o.replay_id and s.shard = o.shard"""


async def cancel_replay(conn: Connection, replay_id: UUID, now: datetime) -> None:
    """End a replay that runs; one that has ended stays as it is."""
    await conn.execute(CANCEL_SQL, replay_id, now)
    await conn.execute(FINISH_SHARDS_SQL, replay_id, now)


LIST_RUNNING_SQL = """
select r.id from replay r where r.subscription_id = $1
  and exists (select from replay_shard s where s.replay_id = r.id and s.finished_at is null)"""
FORGET_LANES_SQL = "delete from parked_lane where subscription_id = $1"
FORGET_DEAD_SQL = "delete from dead_letter where subscription_id = $1"


async def forget(conn: Connection, subscription_id: UUID, now: datetime) -> None:
    """What was to be delivered to a service that leaves: cancel its replays, drop its parked lanes and dead letters."""
    for row in await conn.fetch(LIST_RUNNING_SQL, subscription_id):
        await cancel_replay(conn, row["id"], now)
    await conn.execute(FORGET_LANES_SQL, subscription_id)
    await conn.execute(FORGET_DEAD_SQL, subscription_id)

"""Progress of deliveries: what was delivered, what failed, cursors, parked lanes, dead letters."""

import zlib
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

_MOST_MS: Final = 65_535


@dataclass(frozen=True, slots=True)
class Delivered:
    """One delivery that was accepted: HTTP status 2xx, and how long it took."""

    subscription_id: UUID
    shard: int
    event_id: int
    http_status: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that failed: `outcome` is refused (4xx), failed (the endpoint) or gone (410)."""

    subscription_id: UUID
    shard: int
    event_id: int
    at: datetime
    outcome: str
    http_status: int | None
    duration_ms: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class CursorRow:
    """Everything at or below `position` is settled, and so is `done` above it."""

    subscription_id: UUID
    shard: int
    position: int
    done: Sequence[int]


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A lane that waits `due` seconds; None: until somebody lets it go on."""

    subscription_id: UUID
    run: int
    lane: UUID
    shard: int
    first_event_id: int
    attempts: int
    due: float | None
    last_error: str


@dataclass(frozen=True, slots=True)
class DeadRow:
    """An event that one subscription will not get by itself."""

    subscription_id: UUID
    shard: int
    event_id: int
    attempts: int
    last_error: str


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """How far a replay came in one shard; the numbers are added to those before."""

    replay_id: UUID
    shard: int
    position: int
    delivered: int
    failed: int
    is_finished: bool


@dataclass(slots=True)
class Progress:
    """What a dispatcher has to write down, all of it in one transaction.

    `freed` are lanes that are parked no more, `revived` events whose dead letters are delivered after all: with their
    shards.
    """

    delivered: list[Delivered] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    cursors: dict[tuple[UUID, int], CursorRow] = field(default_factory=dict)
    parked: dict[tuple[UUID, UUID], ParkedRow] = field(default_factory=dict)
    freed: dict[tuple[UUID, UUID], int] = field(default_factory=dict)
    dead: dict[tuple[UUID, int], DeadRow] = field(default_factory=dict)
    replays: dict[tuple[UUID, int], ReplayRow] = field(default_factory=dict)
    revived: dict[tuple[UUID, int], int] = field(default_factory=dict)
    checkpoint: list[int] | None = None

    @property
    def shards(self) -> set[int]:
        """The shards it is about."""
        rows = (
            self.delivered, self.attempts, self.cursors.values(), self.parked.values(), self.dead.values(),
            self.replays.values(),
        )  # fmt: skip
        return {row.shard for part in rows for row in part} | {*self.freed.values(), *self.revived.values()}

    def without(self, shards: Collection[int]) -> "Progress":
        """All that is about other shards."""
        return Progress(
            [row for row in self.delivered if row.shard not in shards],
            [row for row in self.attempts if row.shard not in shards],
            {key: row for key, row in self.cursors.items() if row.shard not in shards},
            {key: row for key, row in self.parked.items() if row.shard not in shards},
            {key: shard for key, shard in self.freed.items() if shard not in shards},
            {key: row for key, row in self.dead.items() if row.shard not in shards},
            {key: row for key, row in self.replays.items() if row.shard not in shards},
            {key: shard for key, shard in self.revived.items() if shard not in shards},
            [shard for shard in self.checkpoint if shard not in shards] if self.checkpoint is not None else None,
        )


RECORD_SQL = f"select record_progress({', '.join(f'${n}' for n in range(1, 40))})"


async def record_progress(conn: Connection, owner: int, epochs: Mapping[int, int], progress: Progress) -> list[int]:
    """Write it all down, if all of its shards are still the owner's at these epochs; else nothing, and the shards that
    are not are given.
    """
    shards, p = sorted(progress.shards), progress
    parked = [
        (r.subscription_id, r.run, r.lane, r.shard, r.first_event_id, r.attempts, r.due, r.last_error)
        for r in p.parked.values()
    ]
    failed = [
        (a.subscription_id, a.shard, a.event_id, a.at, a.outcome, a.http_status, a.duration_ms, a.detail)
        for a in p.attempts
    ]
    cursors = [(c.subscription_id, c.shard, c.position, _array(c.done)) for c in p.cursors.values()]
    dead = [(d.subscription_id, d.event_id, d.attempts, d.last_error) for d in p.dead.values()]
    replays = [(r.replay_id, r.shard, r.position, r.delivered, r.failed, r.is_finished) for r in p.replays.values()]
    lost: list[int] = await conn.fetchval(
        RECORD_SQL,
        owner,
        shards,
        [epochs.get(shard, -1) for shard in shards],
        pack(p.delivered) if p.delivered else None,
        *_columns(failed, 8),
        *_columns(cursors, 4),
        *_columns(parked, 8),
        *_columns(list(p.freed), 2),
        *_columns(dead, 4),
        *_columns(replays, 6),
        *_columns(list(p.revived), 2),
        p.checkpoint,
    )
    return lost


def _array(numbers: Sequence[int]) -> str:
    """As PostgreSQL writes an array: rows of arrays of different lengths cannot be given as one argument."""
    return "{" + ",".join(map(str, numbers)) + "}"


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def pack(deliveries: Sequence[Delivered]) -> bytes:
    """Deliveries of one flush in few bytes: per subscription its id, a count, and the events' ids as distances with
    statuses and milliseconds; compressed.
    """
    groups: dict[UUID, list[Delivered]] = defaultdict(list)
    for delivery in deliveries:
        groups[delivery.subscription_id].append(delivery)
    parts = []
    for subscription_id, group in groups.items():
        group.sort(key=_event_id)
        first = group[0].event_id
        parts += [
            subscription_id.bytes,
            array("Q", [len(group), first]).tobytes(),
            array("I", [d.event_id - first for d in group]).tobytes(),
            bytes(d.http_status - 200 for d in group),
            array("H", [min(d.duration_ms, _MOST_MS) for d in group]).tobytes(),
        ]
    return zlib.compress(b"".join(parts), 1)


def _event_id(delivery: Delivered) -> int:
    return delivery.event_id


def unpack(entries: bytes, only: Collection[UUID] | None = None) -> Iterator[tuple[UUID, int, int, int]]:
    """What `pack` has packed: subscription, event, HTTP status, milliseconds; of these subscriptions."""
    data, at = zlib.decompress(entries), 0
    while at < len(data):
        subscription_id = UUID(bytes=data[at : at + 16])
        count, first = array("Q", data[at + 16 : at + 32])
        at += 32
        if only is not None and subscription_id not in only:
            at += 7 * count
            continue
        distances = array("I", data[at : at + 4 * count])
        statuses = data[at + 4 * count : at + 5 * count]
        durations = array("H", data[at + 5 * count : at + 7 * count])
        at += 7 * count
        for distance, status, duration in zip(distances, statuses, durations, strict=True):
            yield subscription_id, first + distance, 200 + status, duration


def find_packed(entries: bytes, wanted: Mapping[UUID, Collection[int]]) -> Iterator[tuple[UUID, int, int, int]]:
    """As `unpack`, of these events of these subscriptions alone; without looking at any other."""
    data, at = zlib.decompress(entries), 0
    while at < len(data):
        subscription_id = UUID(bytes=data[at : at + 16])
        count, first = array("Q", data[at + 16 : at + 32])
        at += 32
        if numbers := wanted.get(subscription_id):
            distances = array("I", data[at : at + 4 * count])
            for number in numbers:
                place = bisect_left(distances, number - first)
                if place < count and distances[place] == number - first:
                    (duration,) = array("H", data[at + 5 * count + 2 * place : at + 5 * count + 2 * place + 2])
                    yield subscription_id, number, 200 + data[at + 4 * count + place], duration
        at += 7 * count


LIST_CURSORS_SQL = """
select subscription_id, shard, position, done from cursor
where subscription_id = any($1::uuid[]) and shard = any($2::smallint[])"""
FIND_SHARDS_SQL = "select id, shard from event where id = any($1::bigint[])"
LIST_DELIVERED_SINCE_SQL = """
select entries from delivered
where id > (select min(checkpoint) from shard_lease where shard = any($1::smallint[])) order by id"""


async def find_cursors(
    conn: Connection, subscription_ids: Collection[UUID], shards: Collection[int]
) -> dict[UUID, dict[int, tuple[int, set[int]]]]:
    """For every subscription and shard the position, and what was settled above it, as the last owner left them."""
    delivered: dict[UUID, set[int]] = {key: set() for key in subscription_ids}
    for row in await conn.fetch(LIST_DELIVERED_SINCE_SQL, sorted(shards)):
        for subscription_id, event_id, _, _ in unpack(row["entries"], delivered):
            delivered[subscription_id].add(event_id)
    shard_of = {
        row["id"]: row["shard"] for row in await conn.fetch(FIND_SHARDS_SQL, list(set().union(*delivered.values())))
    }
    found: dict[UUID, dict[int, tuple[int, set[int]]]] = {}
    for row in await conn.fetch(LIST_CURSORS_SQL, list(subscription_ids), sorted(shards)):
        found.setdefault(row["subscription_id"], {})[row["shard"]] = (row["position"], set(row["done"]))
    for key, event_ids in delivered.items():
        for event_id in event_ids:
            cursor = found.get(key, {}).get(shard_of.get(event_id, -1))
            if cursor and event_id > cursor[0]:
                cursor[1].add(event_id)
    return found


LIST_PARKED_SQL = """
select subscription_id, lane, shard, first_event_id, attempts, last_error,
       extract(epoch from next_attempt_at - now())::float8 as due
from parked_lane where subscription_id = any($1::uuid[]) and shard = any($2::smallint[])"""


async def list_parked(conn: Connection, subscription_ids: Collection[UUID], shards: Collection[int]) -> list[Record]:
    """Parked lanes; `due` in seconds from now, infinite for those that are held."""
    return await conn.fetch(LIST_PARKED_SQL, list(subscription_ids), sorted(shards))


LIST_REPLAYS_SQL = """
select r.id, r.subscription_id, s.shard, s.position, s.upto, r.lane, r.only_ids,
       extract(epoch from r.since)::float8 as since, extract(epoch from r.until)::float8 as until
from replay_shard s join replay r on r.id = s.replay_id
where s.finished_at is null and s.shard = any($1::smallint[])"""


async def list_replays(conn: Connection, shards: Collection[int]) -> list[Record]:
    """Replays that are not finished in these shards."""
    return await conn.fetch(LIST_REPLAYS_SQL, sorted(shards))


COUNT_BEHIND_SQL = """
select p.shard, (
    select count(*) from (
        select from event e where e.shard = p.shard and e.id > p.position and e.channel_id = $3 limit $4) few) as events
from unnest($1::smallint[], $2::bigint[]) as p (shard, position)"""


async def count_behind(conn: Connection, positions: dict[int, int], channel_id: UUID, most: int) -> dict[int, int]:
    """Events of a channel above these positions, at most so many of each shard."""
    rows = await conn.fetch(COUNT_BEHIND_SQL, list(positions), list(positions.values()), channel_id, most)
    return {row["shard"]: row["events"] for row in rows}


SAVE_STATES_SQL = """
insert into delivery_state (subscription_id, owner, breaker, retry_at, in_flight, waiting, behind, oldest_at, parked)
select s.subscription_id, $1, s.breaker, now() + make_interval(secs => s.retry_in), s.in_flight, s.waiting, s.behind,
       to_timestamp(s.oldest), s.parked
from unnest($2::uuid[], $3::text[], $4::float8[], $5::int[], $6::int[], $7::bigint[], $8::float8[], $9::int[])
     s (subscription_id, breaker, retry_in, in_flight, waiting, behind, oldest, parked)
where exists (select from dispatcher d where d.id = $1)
on conflict (subscription_id, owner) do update
    set breaker = excluded.breaker, retry_at = excluded.retry_at, in_flight = excluded.in_flight,
        waiting = excluded.waiting, behind = excluded.behind, oldest_at = excluded.oldest_at, parked = excluded.parked,
        updated_at = now()"""


@dataclass(frozen=True, slots=True)
class State:
    """How a subscription does in one process; `retry_in` in seconds, `oldest` as a Unix time."""

    breaker: str
    retry_in: float | None
    in_flight: int
    waiting: int
    behind: int
    oldest: float | None
    parked: int


async def save_states(conn: Connection, owner: int, states: Sequence[tuple[UUID, State]]) -> None:
    """Show how subscriptions do."""
    rows = [(key, s.breaker, s.retry_in, s.in_flight, s.waiting, s.behind, s.oldest, s.parked) for key, s in states]
    await conn.execute(SAVE_STATES_SQL, owner, *_columns(rows, 8))


DROP_STATES_SQL = "delete from delivery_state where owner = $1 and subscription_id = any($2::uuid[])"


async def drop_states(conn: Connection, owner: int, subscription_ids: Sequence[UUID]) -> None:
    """Show nothing more of these."""
    await conn.execute(DROP_STATES_SQL, owner, subscription_ids)


SAVE_HEALTH_SQL = """
insert into delivery_health as h (subscription_id, delivered, refused, failed, gone, last_delivered_at, last_error,
                                  last_error_at, failing_since)
select n.*, case when n.last_delivered_at is null then n.last_error_at end
from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::text[],
            $8::timestamptz[])
     n (subscription_id, delivered, refused, failed, gone, last_delivered_at, last_error, last_error_at)
on conflict (subscription_id) do update
    set delivered = h.delivered + excluded.delivered, refused = h.refused + excluded.refused,
        failed = h.failed + excluded.failed, gone = h.gone + excluded.gone,
        last_delivered_at = coalesce(excluded.last_delivered_at, h.last_delivered_at),
        last_error = coalesce(excluded.last_error, h.last_error),
        last_error_at = coalesce(excluded.last_error_at, h.last_error_at),
        failing_since = case when excluded.last_delivered_at is not null then null
                             else coalesce(h.failing_since, excluded.last_error_at) end"""


@dataclass(slots=True)
class Tally:
    """What became of a subscription's deliveries since the last one was written."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    last_delivered_at: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None


async def save_health(conn: Connection, tallies: dict[UUID, Tally]) -> None:
    """Add to what is known of each subscription's deliveries; the subscriptions come sorted, against deadlocks."""
    rows = [
        (key, t.counts["delivered"], t.counts["refused"], t.counts["failed"], t.counts["gone"], t.last_delivered_at,
         t.last_error, t.last_error_at)
        for key, t in sorted(tallies.items())
    ]  # fmt: skip
    await conn.execute(SAVE_HEALTH_SQL, *_columns(rows, 8))


LIST_FAILING_SQL = """
select h.subscription_id from delivery_health h join subscription u on u.id = h.subscription_id
where u.state = 'active' and u.disconnected_at is null and u.endpoint_url is not null
  and h.failing_since < now() - make_interval(secs => $1) and h.last_error_at > now() - interval '25 hours'"""


async def list_failing(conn: Connection, seconds: float) -> list[UUID]:
    """Active subscriptions whose deliveries did nothing but fail for so long (G3)."""
    return [row["subscription_id"] for row in await conn.fetch(LIST_FAILING_SQL, seconds)]

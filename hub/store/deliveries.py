"""Progress of deliveries: cursors, attempts, dead letters."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class Attempt:
    """One finished attempt: `outcome` is delivered, refused (4xx), failed (the endpoint) or gone."""

    subscription_id: UUID
    shard: int
    event_id: int
    at: datetime
    outcome: str
    http_status: int | None
    duration_ms: int
    detail: str | None


COLUMNS: Final = ("subscription_id", "shard", "event_id", "at", "outcome", "http_status", "duration_ms", "detail")


async def add_attempts(conn: Connection, attempts: Sequence[Attempt]) -> None:
    """Append what happened."""
    if attempts:
        rows = [
            (a.subscription_id, a.shard, a.event_id, a.at, a.outcome, a.http_status, a.duration_ms, a.detail)
            for a in attempts
        ]
        await conn.copy_records_to_table("attempt", records=rows, columns=COLUMNS)


SAVE_CURSORS_SQL = """
update cursor set position = p.position
from unnest($1::uuid[], $2::smallint[], $3::bigint[]) as p (subscription_id, shard, position)
where cursor.subscription_id = p.subscription_id and cursor.shard = p.shard and cursor.position < p.position"""


async def save_cursors(conn: Connection, positions: Sequence[tuple[UUID, int, int]]) -> None:
    """Everything at or below these positions is done. A cursor never moves back."""
    if positions:
        await conn.execute(SAVE_CURSORS_SQL, *map(list, zip(*positions, strict=True)))


LIST_CURSORS_SQL = "select subscription_id, shard, position from cursor where subscription_id = any($1::uuid[])"
LIST_DONE_SQL = """
select c.subscription_id, a.event_id
from cursor c join attempt a on a.subscription_id = c.subscription_id and a.shard = c.shard and a.event_id > c.position
where c.subscription_id = any($1::uuid[]) and a.outcome = 'delivered'
union
select c.subscription_id, d.event_id from dead_letter d join cursor c on c.subscription_id = d.subscription_id
where c.subscription_id = any($1::uuid[]) and c.shard = 0"""


@dataclass(slots=True)
class Progress:
    """Where a subscription stands: a position per shard, and what was done above it."""

    positions: dict[int, int]
    done: set[int]


async def find_progress(conn: Connection, subscription_ids: Collection[UUID]) -> dict[UUID, Progress]:
    """The progress of subscriptions as the last process left it."""
    found: dict[UUID, Progress] = {}
    for row in await conn.fetch(LIST_CURSORS_SQL, subscription_ids):
        found.setdefault(row["subscription_id"], Progress({}, set())).positions[row["shard"]] = row["position"]
    for row in await conn.fetch(LIST_DONE_SQL, subscription_ids):
        found[row["subscription_id"]].done.add(row["event_id"])
    return found


ADD_DEAD_LETTER_SQL = """
insert into dead_letter (subscription_id, event_id, attempts, last_error) values ($1, $2, $3, $4)
on conflict do nothing"""


async def add_dead_letter(
    conn: Connection, subscription_id: UUID, event_id: int, attempts: int, last_error: str | None
) -> None:
    """Give an event up for one subscription (G3)."""
    await conn.execute(ADD_DEAD_LETTER_SQL, subscription_id, event_id, attempts, last_error)


LIST_ATTEMPTS_SQL = """
select a.subscription_id, a.event_id, a.at, a.outcome, a.http_status, a.duration_ms, a.detail, e.type, u.channel_id
from attempt a join subscription u on u.id = a.subscription_id left join event e on e.id = a.event_id
where u.service_id = $1 and a.at < $2 order by a.at desc limit $3"""


async def list_attempts(conn: Connection, service_id: UUID, before: datetime, limit: int) -> list[Record]:
    """What was attempted for a service, newest first."""
    return await conn.fetch(LIST_ATTEMPTS_SQL, service_id, before, limit)

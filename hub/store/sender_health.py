"""How senders are, as it was found last."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from hub.domain.sender_health import Health, Problem
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class SeenHealth:
    """A sender's health, and when its provider was asked last."""

    health: Health
    checked_at: datetime | None


# Making the row and locking it is one: there is none before the first news.
LOCK_HEALTH_SQL = """
insert into sender_health (sender_id, state) values ($1, 'ok')
on conflict (sender_id) do update set sender_id = excluded.sender_id
returning problems, facts, heard"""
SAVE_HEALTH_SQL = """
update sender_health
set state = $2, problems = $3, facts = $4, heard = $5,
    changed_at = case when state = $2 then changed_at else now() end
where sender_id = $1"""
CHECKED_SQL = "update sender_health set checked_at = $2 where sender_id = $1"


async def lock(conn: Connection, sender_id: int) -> Health:
    """A sender's health, locked; of several senders in the order of their ids, behind messages, before shards."""
    row = await conn.fetchrow(LOCK_HEALTH_SQL, sender_id)
    assert row is not None
    return _read(row)


async def save(conn: Connection, sender_id: int, health: Health) -> None:
    """Write the health of a locked sender."""
    problems = {
        code: {"detail": p.detail, "since": p.since, "source": p.source, "seen": p.seen}
        for code, p in health.problems.items()
    }
    await conn.execute(
        SAVE_HEALTH_SQL, sender_id, health.state, _json(problems), _json(dict(health.facts)), _json(dict(health.heard))
    )


async def note_check(conn: Connection, sender_id: int, at: datetime) -> None:
    """The provider was asked how this locked sender is."""
    await conn.execute(CHECKED_SQL, sender_id, at)


IS_UNWELL_SQL = "select exists (select from sender_health where sender_id = $1 and state <> 'ok')"
LIST_HEALTH_SQL = """
select sender_id, problems, facts, heard, checked_at from sender_health where sender_id = any($1::bigint[])"""


async def is_unwell(conn: Connection, sender_id: int) -> bool:
    """Whether anything is known to be wrong with a sender."""
    return bool(await conn.fetchval(IS_UNWELL_SQL, sender_id))


async def list_health(conn: Connection, sender_ids: Sequence[int]) -> dict[int, SeenHealth]:
    """How these senders are; of those not listed nothing is known yet."""
    rows = await conn.fetch(LIST_HEALTH_SQL, sender_ids)
    return {row["sender_id"]: SeenHealth(_read(row), row["checked_at"]) for row in rows}


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()


def _read(row: Record) -> Health:
    problems = {code: _problem(told) for code, told in orjson.loads(row["problems"]).items()}
    heard = {topic: datetime.fromisoformat(at) for topic, at in orjson.loads(row["heard"]).items()}
    return Health(problems, orjson.loads(row["facts"]), heard)


def _problem(told: dict[str, str]) -> Problem:
    times = datetime.fromisoformat(told["since"]), datetime.fromisoformat(told["seen"])
    return Problem(told["detail"], times[0], told["source"], times[1])

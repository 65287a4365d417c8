"""What happened to single messages: what the rules said of them, calls of providers, and their events' deliveries."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from hub.store.pool import Connection, Record

PRUNE_BATCH: Final = 1000
"""Rows that one prune deletes at most: who gets fewer is done."""

# What the rules said -------------------------------------------------------------------------------------------------

ADD_RULINGS_SQL = "insert into message_ruling (message_id, at, judged) values ($1, $2, $3)"
FIND_RULINGS_SQL = "select judged from message_ruling where message_id = $1"


async def add_rulings(conn: Connection, message_id: UUID, judged: Sequence[dict[str, Any]], at: datetime) -> None:
    """Note how a message was judged when it was accepted."""
    await conn.execute(ADD_RULINGS_SQL, message_id, at, orjson.dumps(judged).decode())


async def find_rulings(conn: Connection, message_id: UUID) -> list[dict[str, Any]] | None:
    """How a message was judged; None: it was not, or that is kept no longer."""
    judged = await conn.fetchval(FIND_RULINGS_SQL, message_id)
    return orjson.loads(judged) if judged is not None else None


# Calls of providers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One time that a message was taken in hand for its provider; `outcome` is taken, refused, not_taken or unknown."""

    message_id: UUID
    began_at: datetime
    attempt: int
    took_ms: int | None
    requests: int
    outcome: str
    code: str | None = None
    provider_code: str | None = None


ADD_CALL_SQL = """
insert into provider_call (message_id, began_at, attempt, took_ms, requests, outcome, code, provider_code)
values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing"""
LIST_CALLS_SQL = """
select began_at, attempt, took_ms, requests, outcome, code, provider_code from provider_call
where message_id = $1 order by began_at limit $2"""


async def add_call(conn: Connection, call: ProviderCall) -> None:
    """Note a call and what came of it; noted again, it is one."""
    await conn.execute(
        ADD_CALL_SQL, call.message_id, call.began_at, call.attempt, call.took_ms, call.requests, call.outcome,
        call.code, call.provider_code,
    )  # fmt: skip


async def list_calls(conn: Connection, message_id: UUID, limit: int) -> list[Record]:
    """The calls about a message, oldest first."""
    return await conn.fetch(LIST_CALLS_SQL, message_id, limit)


# Retention -----------------------------------------------------------------------------------------------------------

PRUNE_RULINGS_SQL = """
delete from message_ruling where message_id in (
    select message_id from message_ruling where at < now() - $1::interval order by at limit $2)"""
PRUNE_CALLS_SQL = """
delete from provider_call where (message_id, began_at) in (
    select message_id, began_at from provider_call where began_at < now() - $1::interval order by began_at limit $2)"""


async def prune_rulings(conn: Connection, age: timedelta) -> int:
    """Forget one batch of rulings older than this; gives how many."""
    return int((await conn.execute(PRUNE_RULINGS_SQL, age, PRUNE_BATCH)).split()[-1])


async def prune_calls(conn: Connection, age: timedelta) -> int:
    """Forget one batch of calls older than this; gives how many."""
    return int((await conn.execute(PRUNE_CALLS_SQL, age, PRUNE_BATCH)).split()[-1])


# Finding messages ----------------------------------------------------------------------------------------------------

FIND_BY_PROVIDER_ID_SQL = """
select m.id, m.conversation_id, m.channel_id, m.author_service_id, m.created_at from message m
where m.provider_id = $1 and m.direction = 'inbound'
union all
select m.id, m.conversation_id, m.channel_id, m.author_service_id, m.created_at from message m
where m.provider = any(array['meta', 'twilio']) and m.provider_id = $1 and m.direction = 'outbound'
order by created_at, id limit $2"""
FIND_ORPHANS_SQL = """
select provider, reported, status, provider_time, received_at from orphan_status
where provider = any(array['meta', 'twilio']) and provider_id = $1 order by id limit $2"""
FIND_KEYS_SQL = "select key, at from inbound_key where key = any($1::bytea[])"
FIND_QUARANTINED_SQL = """
select id, provider, reason, detail, state, times, received_at, last_received_at, replayed_at from quarantine
where item_key = any($1::bytea[]) order by id"""


async def find_by_provider_id(conn: Connection, provider_id: str, limit: int) -> list[Record]:
    """The messages that a provider calls so: one for each channel of the number."""
    return await conn.fetch(FIND_BY_PROVIDER_ID_SQL, provider_id, limit)


async def find_orphans(conn: Connection, provider_id: str, limit: int) -> list[Record]:
    """Statuses that came for a message nobody knows, oldest first."""
    return await conn.fetch(FIND_ORPHANS_SQL, provider_id, limit)


async def find_keys(conn: Connection, keys: Collection[bytes]) -> list[Record]:
    """When items of these keys were taken in."""
    return await conn.fetch(FIND_KEYS_SQL, list(keys))


async def find_quarantined(conn: Connection, keys: Collection[bytes]) -> list[Record]:
    """What of these keys is or was in quarantine."""
    return await conn.fetch(FIND_QUARANTINED_SQL, list(keys))

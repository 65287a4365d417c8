"""Who holds a conversation, and for whom it waits (rules D1, D4). Leases run by the database's clock (H6)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

LEASE: Final = timedelta(minutes=15)
"""How long a pick-up lasts, unless it is renewed (D1)."""


@dataclass(frozen=True, slots=True)
class Pickup:
    """An agent of a service who holds a conversation; `is_live` while the lease lasts."""

    conversation_id: UUID
    service_id: UUID
    service_name: str
    agent_id: str
    agent_name: str | None
    since: datetime
    expires_at: datetime
    is_live: bool


LIST_PICKUPS_SQL = """
select p.conversation_id, p.service_id, s.name as service_name, p.agent_id, p.agent_name, p.since, p.expires_at,
       p.expires_at > clock_timestamp() as is_live
from pickup p join service s on s.id = p.service_id
where p.conversation_id = any($1::uuid[]) order by p.since, p.service_id"""


async def list_pickups(conn: Connection, conversation_ids: Collection[UUID]) -> dict[UUID, list[Pickup]]:
    """Who holds these conversations, the longest-standing first; those whose lease is over, too."""
    found: dict[UUID, list[Pickup]] = {}
    if conversation_ids:
        for row in await conn.fetch(LIST_PICKUPS_SQL, list(conversation_ids)):
            found.setdefault(row["conversation_id"], []).append(Pickup(*row))
    return found


HOLD_SQL = """
insert into pickup (conversation_id, service_id, agent_id, agent_name, since, expires_at)
select $1, $2, $3, $4, now.at, now.at + $5 from (select clock_timestamp() as at offset 0) as now
on conflict (conversation_id, service_id) do update
set agent_id = excluded.agent_id, agent_name = excluded.agent_name, expires_at = excluded.expires_at,
    since = case when pickup.agent_id = excluded.agent_id then pickup.since else excluded.since end"""


async def hold(
    conn: Connection, conversation_id: UUID, service_id: UUID, agent_id: str, agent_name: str | None
) -> None:
    """This agent holds the locked conversation for its service from now on, or holds it longer."""
    await conn.execute(HOLD_SQL, conversation_id, service_id, agent_id, agent_name, LEASE)


RELEASE_SQL = """
delete from pickup p using unnest($1::uuid[], $2::uuid[]) as r (conversation_id, service_id)
where p.conversation_id = r.conversation_id and p.service_id = r.service_id"""


async def release(conn: Connection, held: Sequence[Pickup]) -> None:
    """Take pick-ups of locked conversations back."""
    if held:
        await conn.execute(RELEASE_SQL, [p.conversation_id for p in held], [p.service_id for p in held])


LIST_EXPIRED_SQL = """
select conversation_id from pickup where expires_at <= clock_timestamp() order by expires_at limit $1"""


async def list_expired(conn: Connection, limit: int) -> set[UUID]:
    """Conversations of the pick-ups whose lease was over first."""
    return {row["conversation_id"] for row in await conn.fetch(LIST_EXPIRED_SQL, limit)}


# By an array, so that each is looked up: a join may walk all conversations, while the channel is locked.
LIST_CONVERSATIONS_SQL = """
select id from conversation
where id = any(array(
    select conversation_id from pickup where service_id = $2
    union select conversation_id from passed_conversation where from_service_id = $2
    union select conversation_id from passed_conversation where to_service_id = $2)) and channel_id = $1
order by id"""


async def list_conversations(conn: Connection, channel_id: UUID, service_id: UUID) -> list[UUID]:
    """Conversations of a channel that a service has picked up, or that were passed to or from it, by id."""
    return [row["id"] for row in await conn.fetch(LIST_CONVERSATIONS_SQL, channel_id, service_id)]


SET_WAITING_SQL = """
insert into passed_conversation (conversation_id, from_service_id, to_service_id, agent_name, note, at)
values ($1, $2, $3, $4, $5, $6)
on conflict (conversation_id) do update
set from_service_id = excluded.from_service_id, to_service_id = excluded.to_service_id,
    agent_name = excluded.agent_name, note = excluded.note, at = excluded.at"""
SETTLE_SQL = "delete from passed_conversation where conversation_id = $1 and to_service_id = $2 returning true"
SETTLE_ALL_SQL = """
delete from passed_conversation
where conversation_id = any($1::uuid[]) and $2 in (from_service_id, to_service_id)"""
LIST_WAITING_SQL = """
select w.conversation_id, w.from_service_id, f.name as from_name, w.to_service_id, t.name as to_name, w.agent_name,
       w.note, w.at
from passed_conversation w
join service f on f.id = w.from_service_id
join service t on t.id = w.to_service_id
where w.conversation_id = any($1::uuid[])"""


async def set_waiting(
    conn: Connection, conversation_id: UUID, sender: UUID, receiver: UUID, agent_name: str | None, note: str | None,
    now: datetime,
) -> None:  # fmt: skip
    """Let a locked conversation wait for `receiver`, and for nobody else."""
    await conn.execute(SET_WAITING_SQL, conversation_id, sender, receiver, agent_name, note, now)


async def settle(conn: Connection, conversation_id: UUID, receiver: UUID) -> bool:
    """A locked conversation waits for this service no more; whether it did."""
    return bool(await conn.fetchval(SETTLE_SQL, conversation_id, receiver))


async def settle_all(conn: Connection, conversation_ids: Collection[UUID], service_id: UUID) -> None:
    """What was passed to or from this service, of these locked conversations, waits no more."""
    if conversation_ids:
        await conn.execute(SETTLE_ALL_SQL, list(conversation_ids), service_id)


async def list_waiting(conn: Connection, conversation_ids: Collection[UUID]) -> dict[UUID, Record]:
    """Those of these conversations that wait for a service, with who passed them on."""
    if not conversation_ids:
        return {}
    return {row["conversation_id"]: row for row in await conn.fetch(LIST_WAITING_SQL, list(conversation_ids))}

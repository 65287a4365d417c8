"""Who looks at a conversation or types just now (rule D1): leases of seconds, for live streams and nowhere else."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

LEASE: Final = timedelta(seconds=30)
"""How long a presence lasts, unless it is renewed (D1)."""
PRUNE_BATCH: Final = 10_000

# One after the other, so that changes become visible in their order and nobody who follows them passes one over.
LOCK_CHANGES_SQL = "select pg_advisory_xact_lock(7010, 0)"
SET_PRESENCE_SQL = """
insert into presence (conversation_id, service_id, agent_id, agent_name, channel_id, state, since, expires_at, change)
values ($1, $2, $3, $4, $5, $6, clock_timestamp(), clock_timestamp() + $7, nextval('presence_change_seq'))
on conflict (conversation_id, service_id, agent_id) do update
set agent_name = excluded.agent_name, state = excluded.state, expires_at = excluded.expires_at,
    change = excluded.change,
    since = case when presence.state = excluded.state and presence.expires_at > clock_timestamp()
                 then presence.since else excluded.since end
returning expires_at"""


async def set_presence(
    conn: Connection, conversation_id: UUID, channel_id: UUID, service_id: UUID, agent_id: str,
    agent_name: str | None, state: str,
) -> Record:  # fmt: skip
    """Note what an agent does; gives until when it counts. Call it last: it locks presences to the end of the
    transaction.
    """
    await conn.execute(LOCK_CHANGES_SQL)
    row = await conn.fetchrow(
        SET_PRESENCE_SQL, conversation_id, service_id, agent_id, agent_name, channel_id, state, LEASE
    )
    assert row is not None
    return row


_COLUMNS: Final = """
p.conversation_id, p.service_id, s.name as service_name, p.agent_id, p.agent_name, p.channel_id, p.state, p.since,
p.expires_at, p.change, n.e164, c.medium"""
# Nobody is there any more for a service that has left.
_TABLES: Final = """
presence p join service s on s.id = p.service_id join conversation c on c.id = p.conversation_id
join number n on n.id = c.number_id
join subscription u on u.channel_id = p.channel_id and u.service_id = p.service_id and u.disconnected_at is null"""
LIST_LIVE_SQL = f"""
select {_COLUMNS} from {_TABLES}
where p.channel_id = any($1::uuid[]) and p.expires_at > clock_timestamp() and p.state <> 'left' order by p.change"""
LIST_PRESENT_SQL = f"""
select {_COLUMNS} from {_TABLES}
where p.conversation_id = $1 and p.expires_at > clock_timestamp() and p.state <> 'left' order by p.change"""


async def list_live(conn: Connection, channel_ids: Collection[UUID]) -> list[Record]:
    """Who is there now, on these channels."""
    return await conn.fetch(LIST_LIVE_SQL, list(channel_ids))


async def list_present(conn: Connection, conversation_id: UUID) -> list[Record]:
    """Who is there now, at one conversation."""
    return await conn.fetch(LIST_PRESENT_SQL, conversation_id)


FIND_PULSE_SQL = """
select (select version from roster_version) as version,
       (select case when is_called then last_value else 0 end from presence_change_seq) as last_change"""


async def find_pulse(conn: Connection) -> tuple[int, int]:
    """The roster's version, and the last change that was drawn, committed or not."""
    row = await conn.fetchrow(FIND_PULSE_SQL)
    assert row is not None
    return row["version"], row["last_change"]


IS_QUIET_SQL = "select pg_try_advisory_xact_lock_shared(7010, 0)"
LIST_CHANGES_SQL = f"""
select {_COLUMNS} from {_TABLES}
where p.change > $1 and p.expires_at > clock_timestamp() order by p.change limit $2"""


async def list_changes(conn: Connection, after: int, drawn: int, limit: int) -> tuple[list[Record], int]:
    """What changed after this change on all channels, and where to go on; `drawn` as `find_pulse` gave it before. Not
    in a transaction: each statement must see what was committed until then.
    """
    is_quiet = await conn.fetchval(IS_QUIET_SQL)  # then whatever was drawn is committed, or never will be
    rows = await conn.fetch(LIST_CHANGES_SQL, after, limit)
    seen = rows[-1]["change"] if rows else after
    return rows, max(seen, drawn) if is_quiet and len(rows) < limit else seen


PRUNE_PRESENCE_SQL = """
delete from presence where ctid in (
    select ctid from presence where expires_at < clock_timestamp() - interval '1 minute' limit $1)"""


async def prune_presence(conn: Connection) -> int:
    """Forget who was there; gives how many."""
    status: str = await conn.execute(PRUNE_PRESENCE_SQL, PRUNE_BATCH)
    return int(status.rsplit(" ", 1)[1])

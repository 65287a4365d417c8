"""Sessions of the console: found by the hash of a token, ended by time, by hand or with the key (rule H3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from hub.store.pool import Connection, Record

PRUNE_BATCH: Final = 1000
"""Rows that one prune deletes at most: who gets fewer is done."""


@dataclass(frozen=True, slots=True)
class SessionDraft:
    """A session as it begins: of a service's key, or of the operator's, of which `operator_proof` is kept."""

    token_hash: bytes
    key_id: UUID | None
    operator_proof: bytes | None
    csrf: str


ADD_SESSION_SQL = """
insert into console_session (token_hash, key_id, operator_proof, csrf, expires_at)
values ($1, $2, $3, $4, now() + $5::interval)"""
# A service's rights are those it has now, not those it had when somebody logged in.
FIND_SESSION_SQL = """
select c.csrf, c.notice, c.operator_proof, c.expires_at,
       s.id, s.name, s.scopes, s.plan, s.product, s.upgraded_from_standalone
from console_session c
left join api_key k on k.id = c.key_id and k.revoked_at is null
left join service s on s.id = k.service_id and s.removed_at is null
where c.token_hash = $1 and c.expires_at > now() and (c.key_id is null or s.id is not null)"""
SET_NOTICE_SQL = "update console_session set notice = $2 where token_hash = $1"
END_SESSION_SQL = "delete from console_session where token_hash = $1"
LIST_LIVE_SQL = """
select c.token_hash, c.operator_proof from console_session c
left join api_key k on k.id = c.key_id and k.revoked_at is null
left join service s on s.id = k.service_id and s.removed_at is null
where c.token_hash = any($1::bytea[]) and c.expires_at > now()
  and (c.key_id is null or (s.id is not null and 'read' = any(s.scopes)))"""
PRUNE_SESSIONS_SQL = """
delete from console_session where token_hash in (
    select token_hash from console_session where expires_at < now() limit $1)"""


async def add_session(conn: Connection, draft: SessionDraft, lasts: timedelta) -> None:
    """Begin a session."""
    await conn.execute(ADD_SESSION_SQL, draft.token_hash, draft.key_id, draft.operator_proof, draft.csrf, lasts)


async def find_session(conn: Connection, token_hash: bytes) -> Record | None:
    """A session that has not ended, with the service as it is now; its `id` is None where it is the operator's, whose
    key the caller has to compare with `operator_proof`.
    """
    return await conn.fetchrow(FIND_SESSION_SQL, token_hash)


async def set_notice(conn: Connection, token_hash: bytes, notice: str | None) -> None:
    """Keep what the next page is to say, or forget it."""
    await conn.execute(SET_NOTICE_SQL, token_hash, notice)


async def end_session(conn: Connection, token_hash: bytes) -> None:
    """End a session, if there is one."""
    await conn.execute(END_SESSION_SQL, token_hash)


async def list_live(conn: Connection, token_hashes: Sequence[bytes]) -> dict[bytes, bytes | None]:
    """Which of these sessions may still read, with their `operator_proof`."""
    rows = await conn.fetch(LIST_LIVE_SQL, token_hashes)
    return {row["token_hash"]: row["operator_proof"] for row in rows}


async def prune_sessions(conn: Connection) -> int:
    """Forget one batch of sessions whose time is over; gives how many."""
    return int((await conn.execute(PRUNE_SESSIONS_SQL, PRUNE_BATCH)).split()[-1])

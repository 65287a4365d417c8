"""Services and their API keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from hub.store.pool import Connection, Record

ADD_SERVICE_SQL = """
insert into service (id, name, plan, product, upgraded_from_standalone, scopes) values ($1, $2, $3, $4, $5, $6)"""
ADD_KEY_SQL = "insert into api_key (id, service_id, secret_hash, hint) values ($1, $2, $3, $4)"
FIND_SERVICE_SQL = "select * from service where id = $1 and removed_at is null"
LIST_SERVICES_SQL = "select * from service where id > $1 and removed_at is null order by id limit $2"
LOCK_SERVICE_SQL = "select * from service where id = $1 and removed_at is null for no key update"
SHARE_SERVICE_SQL = "select true from service where id = $1 and removed_at is null for share"
FIND_BY_KEY_SQL = """
select s.id, s.name, s.scopes, s.plan, s.product, s.upgraded_from_standalone, k.id as key_id
from api_key k join service s on s.id = k.service_id
where k.secret_hash = $1 and k.revoked_at is null and s.removed_at is null"""


@dataclass(frozen=True, slots=True)
class ServiceDraft:
    """A service as it is to be."""

    id: UUID
    name: str
    plan: str
    product: str | None
    upgraded_from_standalone: bool
    scopes: Sequence[str]


async def add_service(conn: Connection, draft: ServiceDraft) -> None:
    """Register a service."""
    await conn.execute(ADD_SERVICE_SQL, *_columns(draft))


def _columns(draft: ServiceDraft) -> tuple[object, ...]:
    return draft.id, draft.name, draft.plan, draft.product, draft.upgraded_from_standalone, draft.scopes


async def add_key(conn: Connection, key_id: UUID, service_id: UUID, secret_hash: bytes, hint: str) -> None:
    """Give a service another API key."""
    await conn.execute(ADD_KEY_SQL, key_id, service_id, secret_hash, hint)


async def find_service(conn: Connection, service_id: UUID) -> Record | None:
    """A service that was not removed."""
    return await conn.fetchrow(FIND_SERVICE_SQL, service_id)


async def lock_service(conn: Connection, service_id: UUID) -> Record | None:
    """The same, locked, because it is changed."""
    return await conn.fetchrow(LOCK_SERVICE_SQL, service_id)


async def share_service(conn: Connection, service_id: UUID) -> bool:
    """Lock a service so that it is not removed meanwhile, before its number is locked; False where it was removed."""
    return bool(await conn.fetchval(SHARE_SERVICE_SQL, service_id))


async def list_services(conn: Connection, after: UUID, limit: int) -> list[Record]:
    """Services by age."""
    return await conn.fetch(LIST_SERVICES_SQL, after, limit)


async def find_by_key(conn: Connection, secret_hash: bytes) -> Record | None:
    """The service that an API key belongs to."""
    return await conn.fetchrow(FIND_BY_KEY_SQL, secret_hash)


SET_SERVICE_SQL = """
update service set name = $2, plan = $3, product = $4, upgraded_from_standalone = $5, scopes = $6
where id = $1"""
REMOVE_SERVICE_SQL = "update service set removed_at = now() where id = $1 and removed_at is null returning name"


async def set_service(conn: Connection, draft: ServiceDraft) -> None:
    """Write down what is different about a locked service."""
    await conn.execute(SET_SERVICE_SQL, *_columns(draft))


async def remove_service(conn: Connection, service_id: UUID) -> str | None:
    """Remove a service, which keeps its messages and history; gives its name, None where it was removed before.

    It connects to nothing from then on: whoever connects it holds `share_service`.
    """
    name: str | None = await conn.fetchval(REMOVE_SERVICE_SQL, service_id)
    return name


FIND_KEY_SQL = "select id, hint, created_at from api_key where id = $1"
LIST_KEYS_SQL = """
select id, hint, created_at from api_key
where service_id = $1 and revoked_at is null and id > $2 order by id limit $3"""
REVOKE_KEY_SQL = """
update api_key set revoked_at = now() where id = $1 and service_id = $2 and revoked_at is null returning hint"""
REVOKE_KEYS_SQL = "update api_key set revoked_at = now() where service_id = $1 and revoked_at is null"


async def find_key(conn: Connection, key_id: UUID) -> Record | None:
    """An API key, as far as it is kept."""
    return await conn.fetchrow(FIND_KEY_SQL, key_id)


async def list_keys(conn: Connection, service_id: UUID, after: UUID, limit: int) -> list[Record]:
    """The valid keys of a service by age."""
    return await conn.fetch(LIST_KEYS_SQL, service_id, after, limit)


async def revoke_key(conn: Connection, service_id: UUID, key_id: UUID) -> str | None:
    """Make one key of a service invalid; gives its hint, None where there is no such valid key."""
    hint: str | None = await conn.fetchval(REVOKE_KEY_SQL, key_id, service_id)
    return hint


async def revoke_keys(conn: Connection, service_id: UUID) -> None:
    """Make every key of a service invalid."""
    await conn.execute(REVOKE_KEYS_SQL, service_id)

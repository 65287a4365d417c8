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
FIND_BY_KEY_SQL = """
select s.id, s.name, s.scopes, s.plan, s.product, s.upgraded_from_standalone, k.id as key_id
from api_key k join service s on s.id = k.service_id
where k.secret_hash = $1 and k.revoked_at is null and s.removed_at is null"""


@dataclass(frozen=True, slots=True)
class ServiceDraft:
    """A service to be registered."""

    id: UUID
    name: str
    plan: str
    product: str | None
    upgraded_from_standalone: bool
    scopes: Sequence[str]


async def add_service(conn: Connection, draft: ServiceDraft) -> None:
    """Register a service."""
    await conn.execute(
        ADD_SERVICE_SQL, draft.id, draft.name, draft.plan, draft.product, draft.upgraded_from_standalone, draft.scopes
    )


async def add_key(conn: Connection, key_id: UUID, service_id: UUID, secret_hash: bytes, hint: str) -> None:
    """Give a service another API key."""
    await conn.execute(ADD_KEY_SQL, key_id, service_id, secret_hash, hint)


async def find_service(conn: Connection, service_id: UUID) -> Record | None:
    """A service that was not removed."""
    return await conn.fetchrow(FIND_SERVICE_SQL, service_id)


async def list_services(conn: Connection, after: UUID, limit: int) -> list[Record]:
    """Services by age."""
    return await conn.fetch(LIST_SERVICES_SQL, after, limit)


async def find_by_key(conn: Connection, secret_hash: bytes) -> Record | None:
    """The service that an API key belongs to."""
    return await conn.fetchrow(FIND_BY_KEY_SQL, secret_hash)

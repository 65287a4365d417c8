"""Verbs of the operator: change a service, give and revoke its keys, remove it (rules A5, H3)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from hub.actions.disconnect import leave
from hub.actions.register import OPERATOR, give_key
from hub.domain.errors import NotFound
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.store import audit, numbers, services, subscriptions
from hub.store.pool import Connection, Record
from hub.store.services import ServiceDraft

_FIELDS: Final = ("name", "plan", "product", "upgraded_from_standalone", "scopes")


async def find_service(conn: Connection, service_id: UUID) -> Record:
    """A service. Raises `NotFound`."""
    return _known(await services.find_service(conn, service_id))


def _known(service: Record | None) -> Record:
    if service is None:
        raise _unknown()
    return service


def _unknown() -> NotFound:
    return NotFound("There is no such service, or it was removed (rule A5): take an id of GET /v1/admin/services.")


async def change_service(conn: Connection, service_id: UUID, wanted: Mapping[str, Any]) -> Record:
    """Change these fields of a service. Its connections stay as they are: eligibility is judged at connect (A3).
    Raises `NotFound`.
    """
    now = _known(await services.lock_service(conn, service_id))
    fields = {name: wanted.get(name, now[name]) for name in _FIELDS}
    fields["scopes"] = sorted(set(fields["scopes"]))
    changed = {name: value for name, value in fields.items() if value != now[name]}
    if changed:
        await services.set_service(conn, ServiceDraft(service_id, **fields))
        await _add_audit(conn, "service.changed", service_id, now["name"], changed)
    return await find_service(conn, service_id)


async def add_key(conn: Connection, service_id: UUID) -> tuple[Record, str]:
    """A further API key for a service: it and its text, which is not kept (H3). Raises `NotFound`."""
    if not await services.share_service(conn, service_id):
        raise _unknown()
    key_id, key = await give_key(conn, service_id)
    made = await services.find_key(conn, key_id)
    assert made is not None
    name = (await find_service(conn, service_id))["name"]
    await _add_audit(conn, "key.added", service_id, name, {"key": public_id("key", key_id)})
    return made, key


async def revoke_key(conn: Connection, service_id: UUID, key_id: UUID) -> None:
    """Make one key of a service invalid at once (H3). Raises `NotFound`."""
    name = (await find_service(conn, service_id))["name"]
    if await services.revoke_key(conn, service_id, key_id) is None:
        raise NotFound(
            "This service has no such valid key (rule H3): GET /v1/admin/services/{id}/keys lists those it has."
        )
    await _add_audit(conn, "key.revoked", service_id, name, {"key": public_id("key", key_id)})


async def remove_service(conn: Connection, service_id: UUID, now: datetime) -> list[Event]:
    """Remove a service: its keys are revoked and it leaves every number, as in `disconnect` (A5). What it wrote stays.
    Raises `NotFound`.
    """
    name = await services.remove_service(conn, service_id)
    if name is None:
        raise _unknown()
    await services.revoke_keys(conn, service_id)
    for home in await subscriptions.list_homes(conn, service_id):
        await numbers.lock_number(conn, home["e164"])
    homes = await subscriptions.list_homes(conn, service_id)  # fewer, perhaps: it may have left one meanwhile
    await _add_audit(conn, "service.removed", service_id, name, {"numbers": [home["e164"] for home in homes]})
    return await leave(conn, service_id, homes, OPERATOR, now)


async def _add_audit(conn: Connection, action: str, service_id: UUID, name: str, details: Mapping[str, Any]) -> None:
    text = orjson.dumps({"service": public_id("svc", service_id), **details}).decode()
    await audit.add_audit(conn, OPERATOR, action, subject=name, details=text)

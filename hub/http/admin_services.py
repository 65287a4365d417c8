"""The operator's API: services, their API keys, and taking them off numbers (rules A3, A5, H3)."""

from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from hub.actions.disconnect import disconnect
from hub.actions.manage_service import add_key, change_service, find_service, remove_service, revoke_key
from hub.actions.register import OPERATOR, register_service
from hub.domain.ids import public_id
from hub.http.admin_schemas import ServiceChangeIn, ServiceIn
from hub.http.answers.services import KeyMade, Keys, Service, ServiceMade, Services
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.operations import operation
from hub.http.params import E164, LIMIT, SERVICE, after_id, in_path
from hub.http.problems import answer
from hub.http.schemas import read_json
from hub.store import services
from hub.store.pool import Record

_AFTER: Final = after_id("svc")
_AFTER_KEY: Final = after_id("key")
_KEY: Final = in_path("key", "the key", "key_id")


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, handler in (
        ("POST", "", post_service),
        ("GET", "", list_services),
        ("GET", "/{id}", get_service),
        ("PATCH", "/{id}", patch_service),
        ("DELETE", "/{id}", delete_service),
        ("DELETE", "/{id}/numbers/{e164}", remove_connection),
        ("POST", "/{id}/keys", post_key),
        ("GET", "/{id}/keys", list_keys),
        ("DELETE", "/{id}/keys/{key_id}", delete_key),
    ):
        app.router.add_route(method, f"/v1/admin/services{path}", operator(handler))


@operation(body=ServiceIn, answers={201: ServiceMade})
async def post_service(request: web.Request) -> web.Response:
    """Register a service; its API key is shown this once."""
    wanted = ServiceIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        made, key = await register_service(conn, **wanted.model_dump())
    return answer({**_service_view(made), "api_key": key}, status=201)


@operation(query=(_AFTER, LIMIT), answers={200: Services})
async def list_services(request: web.Request) -> web.Response:
    """Services by age."""
    limit, after = LIMIT.read(request), _AFTER.read(request)
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await services.list_services(conn, after, limit)
    items = [_service_view(row) for row in rows]
    return answer({"items": items, "next": items[-1]["id"] if len(rows) == limit else None})


@operation(path=(SERVICE,), answers={200: Service})
async def get_service(request: web.Request) -> web.Response:
    """One service."""
    async with request.app[CONTEXT].database.reading() as conn:
        row = await find_service(conn, SERVICE.read(request))
    return answer(_service_view(row))


@operation(path=(SERVICE,), body=ServiceChangeIn, answers={200: Service})
async def patch_service(request: web.Request) -> web.Response:
    """Change what is named; connections stay as they are."""
    wanted = ServiceChangeIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await change_service(conn, SERVICE.read(request), wanted.model_dump(exclude_unset=True))
    return answer(_service_view(row))


@operation(path=(SERVICE,), answers={204: None})
async def delete_service(request: web.Request) -> web.Response:
    """Remove a service from all numbers, and its keys."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        events = await remove_service(conn, SERVICE.read(request), datetime.now(UTC))
    context.publish(events)
    context.refresh()
    return web.Response(status=204)


@operation(path=(SERVICE, E164), answers={204: None}, codes=("not_connected",))
async def remove_connection(request: web.Request) -> web.Response:
    """Take a service off one number."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        service_id = (await find_service(conn, SERVICE.read(request)))["id"]
        events = await disconnect(conn, service_id, E164.read(request), OPERATOR, datetime.now(UTC))
    context.publish(events)
    context.refresh()
    return web.Response(status=204)


@operation(path=(SERVICE,), answers={201: KeyMade})
async def post_key(request: web.Request) -> web.Response:
    """A further API key; it is shown this once."""
    async with request.app[CONTEXT].database.transaction() as conn:
        made, key = await add_key(conn, SERVICE.read(request))
    return answer({**_key_view(made), "api_key": key}, status=201)


@operation(path=(SERVICE,), query=(_AFTER_KEY, LIMIT), answers={200: Keys})
async def list_keys(request: web.Request) -> web.Response:
    """A service's valid keys by age, each by its last letters."""
    limit, after = LIMIT.read(request), _AFTER_KEY.read(request)
    async with request.app[CONTEXT].database.reading() as conn:
        service_id = (await find_service(conn, SERVICE.read(request)))["id"]
        items = [_key_view(row) for row in await services.list_keys(conn, service_id, after, limit)]
    return answer({"items": items, "next": items[-1]["id"] if len(items) == limit else None})


@operation(path=(SERVICE, _KEY), answers={204: None})
async def delete_key(request: web.Request) -> web.Response:
    """Make a key invalid."""
    async with request.app[CONTEXT].database.transaction() as conn:
        await revoke_key(conn, SERVICE.read(request), _KEY.read(request))
    return web.Response(status=204)


def _service_view(row: Record) -> dict[str, Any]:
    return {
        "id": public_id("svc", row["id"]),
        "name": row["name"],
        "plan": row["plan"],
        "product": row["product"],
        "upgraded_from_standalone": row["upgraded_from_standalone"],
        "scopes": row["scopes"],
        "created_at": row["created_at"],
    }


def _key_view(row: Record) -> dict[str, Any]:
    return {"id": public_id("key", row["id"]), "hint": row["hint"], "created_at": row["created_at"]}

"""The operator's API: services, their API keys, and taking them off numbers (rules A3, A5, H3)."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiohttp import web

from hub.actions.disconnect import disconnect
from hub.actions.manage_service import add_key, change_service, find_service, remove_service, revoke_key
from hub.actions.register import OPERATOR, register_service
from hub.domain.ids import parse_id, public_id
from hub.http.admin_schemas import ServiceChangeIn, ServiceIn
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import limit_of, read_json
from hub.store import services
from hub.store.pool import Record

_NONE = UUID(int=0)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, handler in (
        ("POST", "", post_service),
        ("GET", "", list_services),
        ("GET", "/{id}", get_service),
        ("PATCH", "/{id}", patch_service),
        ("DELETE", "/{id}", delete_service),
        ("DELETE", "/{id}/numbers/{e164}", delete_connection),
        ("POST", "/{id}/keys", post_key),
        ("GET", "/{id}/keys", list_keys),
        ("DELETE", "/{id}/keys/{key_id}", delete_key),
    ):
        app.router.add_route(method, f"/v1/admin/services{path}", operator(handler))


async def post_service(request: web.Request) -> web.Response:
    """Register a service; its API key is shown this once."""
    wanted = ServiceIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        made, key = await register_service(conn, **wanted.model_dump())
    return answer({**_service_view(made), "api_key": key}, status=201)


async def list_services(request: web.Request) -> web.Response:
    """Services by age."""
    limit = limit_of(request)
    after = parse_id("svc", request.query["after"]) if "after" in request.query else _NONE
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await services.list_services(conn, after, limit)
    items = [_service_view(row) for row in rows]
    return answer({"items": items, "next": items[-1]["id"] if len(rows) == limit else None})


async def get_service(request: web.Request) -> web.Response:
    """One service."""
    async with request.app[CONTEXT].database.reading() as conn:
        row = await find_service(conn, _service_id(request))
    return answer(_service_view(row))


async def patch_service(request: web.Request) -> web.Response:
    """Change what is named; connections stay as they are."""
    wanted = ServiceChangeIn.model_validate((await read_json(request))[1])
    async with request.app[CONTEXT].database.transaction() as conn:
        row = await change_service(conn, _service_id(request), wanted.model_dump(exclude_unset=True))
    return answer(_service_view(row))


async def delete_service(request: web.Request) -> web.Response:
    """Remove a service from all numbers, and its keys."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        events = await remove_service(conn, _service_id(request), datetime.now(UTC))
    context.publish(events)
    context.refresh()
    return web.Response(status=204)


async def delete_connection(request: web.Request) -> web.Response:
    """Take a service off one number."""
    context = request.app[CONTEXT]
    async with context.database.transaction() as conn:
        service_id = (await find_service(conn, _service_id(request)))["id"]
        events = await disconnect(conn, service_id, request.match_info["e164"], OPERATOR, datetime.now(UTC))
    context.publish(events)
    context.refresh()
    return web.Response(status=204)


async def post_key(request: web.Request) -> web.Response:
    """A further API key; it is shown this once."""
    async with request.app[CONTEXT].database.transaction() as conn:
        made, key = await add_key(conn, _service_id(request))
    return answer({**_key_view(made), "api_key": key}, status=201)


async def list_keys(request: web.Request) -> web.Response:
    """A service's valid keys by age, each by its last letters."""
    limit = limit_of(request)
    after = parse_id("key", request.query["after"]) if "after" in request.query else _NONE
    async with request.app[CONTEXT].database.reading() as conn:
        service_id = (await find_service(conn, _service_id(request)))["id"]
        items = [_key_view(row) for row in await services.list_keys(conn, service_id, after, limit)]
    return answer({"items": items, "next": items[-1]["id"] if len(items) == limit else None})


async def delete_key(request: web.Request) -> web.Response:
    """Make a key invalid."""
    key_id = parse_id("key", request.match_info["key_id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        await revoke_key(conn, _service_id(request), key_id)
    return web.Response(status=204)


def _service_id(request: web.Request) -> UUID:
    return parse_id("svc", request.match_info["id"])


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

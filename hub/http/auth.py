"""Who is asking: a service by its API key, or the operator by the admin key (rules E3, H3)."""

import hmac
from collections.abc import Awaitable, Callable
from math import ceil
from time import monotonic

from aiohttp import web

from hub.actions.roster import Caller
from hub.domain.eligibility import is_eligible
from hub.domain.errors import Forbidden, TooMany, Unauthorized
from hub.http.context import CONTEXT
from hub.http.operations import carry
from hub.http.pace import Pace
from hub.store import services
from hub.store.sealing import hash_api_key

ServiceHandler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def bearer(request: web.Request) -> str:
    """The key of the request. Raises `Unauthorized`."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized("Send an API key as 'Authorization: Bearer <key>' (rule H3).")
    return key.strip()


def is_operator(request: web.Request) -> bool:
    """Whether the request carries the admin key."""
    given = hash_api_key(bearer(request))
    return hmac.compare_digest(given, hash_api_key(request.app[CONTEXT].admin_key))


def operator(handler: Handler) -> Handler:
    """Only with the admin key."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if not is_operator(request):
            raise Forbidden(
                "This needs the operator's key (rule H3): PARTYLINE_ADMIN_KEY, or the file admin_key under DATA_DIR.",
                code="operator_only",
            )
        return await handler(request)

    return carry(handler, guarded, "operator")


def service(handler: ServiceHandler, scope: str | None = None) -> Handler:
    """With a service's key that has this scope; None: any valid key."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        caller = await _caller(request)
        if scope is not None:
            require(caller, scope)
        return await handler(request, caller)

    return carry(handler, guarded, "service", scope)


async def check_key(request: web.Request) -> None:
    """Any key will do: the operator's, or a service's. Raises `Unauthorized`, `TooMany`."""
    if not is_operator(request):
        await _caller(request)


def require(caller: Caller, scope: str) -> None:
    """Raises `Forbidden` where the key lacks a scope (E3)."""
    if scope not in caller.scopes:
        raise Forbidden(
            f"This key lacks the scope {scope!r} (rule E3): have the operator give it to the service.",
            code="missing_scope",
            scope=scope,
        )


async def _caller(request: web.Request) -> Caller:
    context, key_hash = request.app[CONTEXT], hash_api_key(bearer(request))
    if context.request_pace:
        _heed(context.request_pace, key_hash)
    async with context.database.reading() as conn:
        row = await services.find_by_key(conn, key_hash)
    if row is None and is_operator(request):
        raise Unauthorized("This is the operator's key, which is for /v1/admin/ only (rule H3): send a service's.")
    if row is None:
        raise Unauthorized("This API key is not valid (rule H3): ask the operator for another.")
    eligible = is_eligible(
        context.eligibility,
        plan=row["plan"],
        product=row["product"],
        upgraded_from_standalone=row["upgraded_from_standalone"],
    )
    return Caller(row["id"], row["name"], frozenset(row["scopes"]), eligible)


def _heed(pace: Pace, key_hash: bytes) -> None:
    """Before the key is looked up: whoever asks too often does not reach the database. Raises `TooMany` (H4)."""
    now = monotonic()
    if pace.take(key_hash, now):
        return
    wait = max(1, ceil(pace.wait_of(key_hash, now)))
    raise TooMany(
        f"This API key asks more than {pace.rate:g} times a second (rule H4): nothing was done, ask again in {wait} s.",
        code="too_many_requests",
        limit="requests_per_second",
        most=int(pace.rate),
        retry_after=wait,
    )

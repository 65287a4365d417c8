"""Tracked links for messages that the hub does not send (rule F)."""

import base64
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import web

from hub.actions.idempotency import claim_idempotency
from hub.actions.make_link import LinkRequest, make_links
from hub.actions.roster import Caller
from hub.actions.track_links import links_off, short_links
from hub.domain.rewriting import ShortLinks
from hub.http.answers import links as answers
from hub.http.auth import service
from hub.http.context import CONTEXT
from hub.http.link_schemas import LinkBatchIn, LinkIn, address_of
from hub.http.operations import Body, operation
from hub.http.params import IDEMPOTENCY_KEY
from hub.http.problems import answer
from hub.http.schemas import read_json
from hub.store import outbox

log = structlog.get_logger()


def add_routes(app: web.Application) -> None:
    """Put this path into the application."""
    app.router.add_post("/v1/links", service(post_links, "profiles"))


@operation(
    headers=(IDEMPOTENCY_KEY,),
    body=Body(LinkIn | LinkBatchIn),
    answers={201: answers.MadeLink | answers.MadeLinks},
    codes=("links_off",),
)
async def post_links(request: web.Request, caller: Caller) -> web.Response:
    """Make one link, or many in one transaction: 201 with their short URLs, which are told this once."""
    context = request.app[CONTEXT]
    raw, body = await read_json(request)
    host = short_links(context.tracking)
    if host is None:
        raise links_off()
    wanted = _read(body, host)
    key = IDEMPOTENCY_KEY.find(request)
    async with context.database.transaction() as conn:
        if key and (known := await claim_idempotency(conn, caller.service_id, request.path, key, raw)):
            first = context.sealer.open(base64.b64decode(known.answer))
            return web.Response(body=first.encode(), status=known.status, content_type="application/json")
        made = await make_links(conn, caller.service_id, wanted, context.tracking, datetime.now(UTC))
        response = answer({"links": made} if "links" in body else made[0], status=201)
        if key:
            # Sealed: of a token the database keeps nothing but its hash.
            assert isinstance(response.body, bytes)
            kept = base64.b64encode(context.sealer.seal(response.body.decode())).decode()
            await outbox.set_answer(conn, caller.service_id, request.path, key, 201, kept)
    log.info("links.made", service=str(caller.service_id), links=len(made))
    return response


def _read(body: dict[str, Any], host: ShortLinks) -> list[LinkRequest]:
    if "links" in body:
        return [_asked(one) for one in LinkBatchIn.model_validate(body, context=host).links]
    return [_asked(LinkIn.model_validate(body, context=host))]


def _asked(one: LinkIn) -> LinkRequest:
    return LinkRequest(
        target=one.url,
        address=address_of(one.address) if one.address else None,
        medium=one.medium,
        campaign=one.campaign,
        utm=one.utm.params(one.campaign) if one.utm else {},
    )

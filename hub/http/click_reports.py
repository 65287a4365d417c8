"""The adapter API: what became of tracked links, and an end to them (rules C1, H5)."""

from datetime import UTC, datetime
from uuid import UUID

from aiohttp import web

from hub.actions.click_reports import CampaignPage, disable_link, report_campaign, report_link, report_message
from hub.actions.roster import Caller
from hub.domain.errors import Invalid
from hub.domain.ids import parse_id
from hub.http.auth import operator, service
from hub.http.context import CONTEXT
from hub.http.problems import answer
from hub.http.schemas import limit_of
from hub.store.click_reports import Campaign


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, of_service, of_operator in (
        ("GET", "links/{id}", get_link, get_any_link),
        ("DELETE", "links/{id}", delete_link, delete_any_link),
        ("GET", "messages/{id}/links", list_of_message, list_of_any_message),
        ("GET", "campaigns/{name}/links", list_of_campaign, list_of_any_campaign),
    ):
        app.router.add_route(method, f"/v1/{path}", service(of_service, "profiles"))
        app.router.add_route(method, f"/v1/admin/{path}", operator(of_operator))


async def get_link(request: web.Request, caller: Caller) -> web.Response:
    """A link, its state, and its clicks and visits."""
    return await _link(request, caller.service_id)


async def get_any_link(request: web.Request) -> web.Response:
    """The same for the operator, masked."""
    return await _link(request, None)


async def _link(request: web.Request, viewer: UUID | None) -> web.Response:
    link_id = parse_id("lnk", request.match_info["id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await report_link(conn, viewer, link_id, datetime.now(UTC)))


async def delete_link(request: web.Request, caller: Caller) -> web.Response:
    """Disable a link of one's own: it answers 410 from now on."""
    return await _disable(request, caller.service_id)


async def delete_any_link(request: web.Request) -> web.Response:
    """The same for the operator, whoever made it."""
    return await _disable(request, None)


async def _disable(request: web.Request, service_id: UUID | None) -> web.Response:
    link_id = parse_id("lnk", request.match_info["id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        await disable_link(conn, service_id, link_id)
    return web.Response(status=204)


async def list_of_message(request: web.Request, caller: Caller) -> web.Response:
    """The links of a message, each with its clicks and visits, and all together."""
    return await _message(request, caller.service_id)


async def list_of_any_message(request: web.Request) -> web.Response:
    """The same for the operator, masked."""
    return await _message(request, None)


async def _message(request: web.Request, viewer: UUID | None) -> web.Response:
    message_id = parse_id("msg", request.match_info["id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await report_message(conn, viewer, message_id, datetime.now(UTC)))


async def list_of_campaign(request: web.Request, caller: Caller) -> web.Response:
    """What became of a campaign of one's own: by message, page by page; on the first page in all, too."""
    return await _campaign(request, Campaign(caller.service_id, request.match_info["name"]))


async def list_of_any_campaign(request: web.Request) -> web.Response:
    """The same for the operator, who says whose campaign it is."""
    if "service_id" not in request.query:
        raise Invalid("say whose campaign it is: service_id=svc_... in the query (rule C1)")
    service_id = parse_id("svc", request.query["service_id"])
    return await _campaign(request, Campaign(service_id, request.match_info["name"], is_whole=True))


async def _campaign(request: web.Request, campaign: Campaign) -> web.Response:
    after, limit = _after(request), limit_of(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        page: CampaignPage = await report_campaign(conn, campaign, after, limit)
    return answer({"campaign": campaign.name, "items": page.items, "total": page.total, "next": page.following})


def _after(request: web.Request) -> UUID | None:
    """The message, or the link that was made by itself, that the last page ended with."""
    text = request.query.get("after")
    if text is None:
        return None
    return parse_id("lnk" if text.startswith("lnk_") else "msg", text)

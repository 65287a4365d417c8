"""The adapter API: what became of tracked links, and an end to them (rules C1, H5)."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web

from hub.actions.click_reports import CampaignPage, disable_link, report_campaign, report_link, report_message
from hub.actions.roster import Caller
from hub.domain.ids import parse_id, public_id
from hub.http.answers.click_reports import (
    AnyCampaigns,
    CampaignReport,
    Campaigns,
    LinkReport,
    MessageLinks,
)
from hub.http.auth import operator, service
from hub.http.context import CONTEXT
from hub.http.operations import operation
from hub.http.params import LIMIT, MESSAGE, Parameter, identifier, in_path, word, word_in_path
from hub.http.problems import answer
from hub.store.campaigns import CampaignName, CampaignPlace, list_campaigns
from hub.store.click_reports import Campaign

_LINK: Final = in_path("lnk", "the link")
_NAME: Final = word_in_path("name", "the campaign", "spring")
_AFTER: Final[Parameter[UUID]] = Parameter(
    "after",
    "the `next` of the page before: the message, or the link that was made by itself, that it ended with",
    {"type": "string", "pattern": "^(msg|lnk)_[0-9a-f]{32}$"},
    lambda given: parse_id("lnk" if given.startswith("lnk_") else "msg", given),
    codes=("not_found",),
)
_OWNED_BY: Final = identifier("svc", "service_id", "of this service alone")
_AFTER_NAME: Final = word("after", "the `next` of the page before")


def _place(given: str) -> CampaignPlace:
    service_id, _, name = given.partition(",")
    return CampaignPlace(parse_id("svc", service_id), name)


_AFTER_ANY: Final = Parameter(
    "after",
    "the `next` of the page before",
    {"type": "string", "pattern": "^svc_[0-9a-f]{32},"},
    _place,
    codes=("not_found", "invalid_request"),
)
_OWNER: Final = replace(
    identifier("svc", "service_id", "whose campaign it is (rule C1)"),
    is_required=True,
    codes=("invalid_request", "not_found"),
)


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, of_service, of_operator in (
        ("GET", "links/{id}", get_link, get_any_link),
        ("DELETE", "links/{id}", delete_link, delete_any_link),
        ("GET", "messages/{id}/links", list_links_of_message, list_links_of_any_message),
        ("GET", "campaigns", list_own_campaigns, list_any_campaigns),
        ("GET", "campaigns/{name}/links", list_links_of_campaign, list_links_of_any_campaign),
    ):
        app.router.add_route(method, f"/v1/{path}", service(of_service, "profiles"))
        app.router.add_route(method, f"/v1/admin/{path}", operator(of_operator))


@operation(path=(_LINK,), answers={200: LinkReport})
async def get_link(request: web.Request, caller: Caller) -> web.Response:
    """A link, its state, and its clicks and visits."""
    return await _link(request, caller.service_id)


@operation(path=(_LINK,), answers={200: LinkReport})
async def get_any_link(request: web.Request) -> web.Response:
    """Any link, its state, and its clicks and visits. Masked: where it leads is its author's affair."""
    return await _link(request, None)


async def _link(request: web.Request, viewer: UUID | None) -> web.Response:
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await report_link(conn, viewer, _LINK.read(request), datetime.now(UTC)))


@operation(path=(_LINK,), answers={204: None}, codes=("not_author",))
async def delete_link(request: web.Request, caller: Caller) -> web.Response:
    """Disable a link of one's own: it answers 410 from now on."""
    return await _disable(request, caller.service_id)


@operation(path=(_LINK,), answers={204: None})
async def delete_any_link(request: web.Request) -> web.Response:
    """Disable any link: it answers 410 from now on. The audit trail tells of it."""
    return await _disable(request, None)


async def _disable(request: web.Request, service_id: UUID | None) -> web.Response:
    async with request.app[CONTEXT].database.transaction() as conn:
        await disable_link(conn, service_id, _LINK.read(request))
    return web.Response(status=204)


@operation(path=(MESSAGE,), answers={200: MessageLinks})
async def list_links_of_message(request: web.Request, caller: Caller) -> web.Response:
    """The links of a message, each with its clicks and visits, and all together."""
    return await _message(request, caller.service_id)


@operation(path=(MESSAGE,), answers={200: MessageLinks})
async def list_links_of_any_message(request: web.Request) -> web.Response:
    """The links of any message, each with its clicks and visits, and all together. Masked."""
    return await _message(request, None)


async def _message(request: web.Request, viewer: UUID | None) -> web.Response:
    async with request.app[CONTEXT].database.transaction() as conn:
        return answer(await report_message(conn, viewer, MESSAGE.read(request), datetime.now(UTC)))


@operation(query=(_AFTER_NAME, LIMIT), answers={200: Campaigns})
async def list_own_campaigns(request: web.Request, caller: Caller) -> web.Response:
    """The service's campaigns that have links, by name."""
    place, limit = CampaignPlace(caller.service_id, _AFTER_NAME.find(request) or ""), LIMIT.read(request)
    async with request.app[CONTEXT].database.reading() as conn:
        found, following = await list_campaigns(conn, caller.service_id, place, limit, is_whole=False)
    return answer({"items": [_campaigned(one) for one in found], "next": following.name if following else None})


@operation(query=(_OWNED_BY, _AFTER_ANY, LIMIT), answers={200: AnyCampaigns})
async def list_any_campaigns(request: web.Request) -> web.Response:
    """Campaigns of all services that have links, or of one, by service and name."""
    owner, place, limit = _OWNED_BY.find(request), _AFTER_ANY.find(request) or CampaignPlace(), LIMIT.read(request)
    async with request.app[CONTEXT].database.reading() as conn:
        found, following = await list_campaigns(conn, owner, place, limit, is_whole=True)
    items = [
        _campaigned(one) | {"service": {"id": public_id("svc", one.service_id), "name": one.service_name}}
        for one in found
    ]
    after = f"{public_id('svc', following.service_id)},{following.name}" if following else None
    return answer({"items": items, "next": after})


def _campaigned(campaign: CampaignName) -> dict[str, Any]:
    return {"name": campaign.name, "first_at": campaign.first_at, "last_at": campaign.last_at}


@operation(path=(_NAME,), query=(_AFTER, LIMIT), answers={200: CampaignReport})
async def list_links_of_campaign(request: web.Request, caller: Caller) -> web.Response:
    """What became of a campaign of one's own. By message, page by page; on the first page in all, too."""
    return await _campaign(request, Campaign(caller.service_id, _NAME.read(request)))


@operation(path=(_NAME,), query=(_OWNER, _AFTER, LIMIT), answers={200: CampaignReport})
async def list_links_of_any_campaign(request: web.Request) -> web.Response:
    """What became of a campaign of any service. What it sent on channels that it has left is in it, too."""
    return await _campaign(request, Campaign(_OWNER.read(request), _NAME.read(request), is_whole=True))


async def _campaign(request: web.Request, campaign: Campaign) -> web.Response:
    after, limit = _AFTER.find(request), LIMIT.read(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        page: CampaignPage = await report_campaign(conn, campaign, after, limit)
    return answer({"campaign": campaign.name, "items": page.items, "total": page.total, "next": page.following})

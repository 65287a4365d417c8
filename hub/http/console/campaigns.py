"""The console: campaigns as funnels from message to person, their links, and the clicks of each (rules K, C1, H5)."""

from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from aiohttp import web
from markupsafe import Markup

from hub.actions.click_reports import CampaignPage, disable_link, report_campaign, report_link, report_message
from hub.domain.errors import Invalid, NotFound
from hub.domain.ids import parse_id, public_id
from hub.http.console import charts
from hub.http.console.fields import PAGE, Fields, asked, next_url
from hub.http.console.pages import form, page, render, see_other
from hub.http.console.session import Viewer
from hub.http.context import CONTEXT
from hub.store import people, services
from hub.store.click_reports import Campaign
from hub.store.people import Sent

URL: Final = "/console/campaigns"
KINDS: Final = {
    "person": "people",
    "preview": "previews of a messenger",
    "prefetch": "fetched ahead by a browser",
    "crawler": "crawlers",
    "head": "asked for headers only",
    "unknown": "who sent no name",
}
"""Verdicts of the classifier as people read them."""


def add_routes(app: web.Application) -> None:
    """Put these pages into the application."""
    app.router.add_get(URL, page(show_campaigns, "profiles"))
    app.router.add_get(f"{URL}/{{name}}", page(show_campaign, "profiles"))
    app.router.add_get("/console/links/{id}", page(show_link, "profiles"))
    app.router.add_get("/console/messages/{id}/links", page(show_message_links, "profiles"))
    app.router.add_post("/console/links/{id}/disable", form(post_disable, "profiles"))


# Campaigns ----------------------------------------------------------------------------------------------------------


async def show_campaigns(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """One's own campaigns by name; the operator's are everybody's, by service."""
    after = _place(request)
    async with request.app[CONTEXT].database.transaction() as conn:
        rows = await people.list_campaigns(conn, viewer.service_id, after, PAGE)
    items = [
        {
            "name": row["campaign"],
            "service": row["service_name"],
            "url": url_of(row["campaign"], row["service_id"] if viewer.is_operator else None),
            "first_at": _time_of(row["first_id"]),
            "last_at": _time_of(row["last_id"]),
        }
        for row in rows
        if row["is_in_reach"]
    ]
    following = None
    if len(rows) == PAGE:
        last = rows[-1]
        following = next_url(request, after=f"{public_id('svc', last['service_id'])} {last['campaign']}")
    return render(
        request,
        viewer,
        "campaigns.html",
        title="Campaigns",
        items=items,
        next_url=following,
        is_first=after is None,
    )


def _place(request: web.Request) -> tuple[UUID, str] | None:
    text = request.query.get("after", "")
    if not text:
        return None
    service_id, _, name = text.partition(" ")
    if "\x00" in name:
        raise Invalid("after is the place a page ended at: begin with the first page again.")
    return parse_id("svc", service_id), name


def url_of(name: str, service_id: UUID | None) -> str:
    """Where a campaign is shown; the operator says whose."""
    whose = f"?service={public_id('svc', service_id)}" if service_id else ""
    return f"{URL}/{quote(name, safe='')}{whose}"


def _time_of(id: UUID) -> datetime:  # noqa: A002  what else
    """When an id was made."""
    return datetime.fromtimestamp((id.int >> 80) / 1000, UTC)


async def show_campaign(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """One campaign: how many are left from step to step, and by message who came."""
    name, after = request.match_info["name"], _after(request)
    service_id = viewer.service_id or _whose(request)
    campaign = Campaign(service_id, name, is_whole=viewer.is_operator)
    async with request.app[CONTEXT].database.transaction() as conn:
        sent = await people.count_sent(conn, campaign)
        found: CampaignPage | None
        service = await services.find_service(conn, service_id)
        try:
            found = await report_campaign(conn, campaign, after, PAGE)
        except NotFound:
            if not sent.accepted:
                raise
            found = None
    total = found.total if found else None  # the first page's alone
    following = next_url(request, after=found.following) if found and found.following else None
    return render(
        request, viewer, "campaign.html", title=f"Campaign {name}", name=name, service=service, sent=sent, total=total,
        items=found.items if found else [], next_url=following, is_first=after is None,
        funnel=_funnel(sent, total), verdicts=_verdicts(total["clicks"]) if total else Markup(),
    )  # fmt: skip


def _whose(request: web.Request) -> UUID:
    text = asked(request, "service")
    if text is None:
        raise Invalid("Say whose campaign it is: pick it from the list of campaigns.")
    return parse_id("svc", text)


def _after(request: web.Request) -> UUID | None:
    text = asked(request, "after")
    if text is None:
        return None
    return parse_id("lnk" if text.startswith("lnk_") else "msg", text)


def _funnel(sent: Sent, total: dict[str, Any] | None) -> Markup:
    """Messages, then people; a step that nobody can know of is said to be unknown."""
    steps: list[tuple[str, float | None]] = []
    if sent.accepted:
        steps += [("Accepted", sent.accepted), ("Sent", sent.sent), ("Delivered", sent.delivered)]
        steps.append(("Read (WhatsApp)", sent.read if sent.on_whatsapp else None))
    if total:
        steps += [
            ("Clicked by people", total["clicks"]["unique"]),
            ("Visited the site", total["visits"]),
            ("Identified", total["identified"]),
        ]
    return charts.funnel("From message to person", steps)


def _verdicts(clicks: dict[str, Any]) -> Markup:
    """Requests to links by who made them."""
    counts: dict[str, int] = {}
    for verdict in clicks["verdicts"]:
        name = KINDS.get(verdict["kind"], verdict["kind"].replace("_", " "))
        counts[name] = counts.get(name, 0) + verdict["clicks"]
    return charts.bar_chart("Clicks by who it was", list(counts.items()), "clicks")


# Links --------------------------------------------------------------------------------------------------------------


async def show_link(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """One link: where it leads, as far as the viewer may see, and what became of it."""
    link_id = parse_id("lnk", request.match_info["id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        link = await report_link(conn, viewer.service_id, link_id, datetime.now(UTC))
    return render(request, viewer, "link.html", title="A tracked link", link=link, verdicts=_verdicts(link["clicks"]))


async def show_message_links(request: web.Request, viewer: Viewer) -> web.StreamResponse:
    """The links of one message."""
    message_id = parse_id("msg", request.match_info["id"])
    async with request.app[CONTEXT].database.transaction() as conn:
        report = await report_message(conn, viewer.service_id, message_id, datetime.now(UTC))
    return render(request, viewer, "message_links.html", title="Links of a message", report=report)


async def post_disable(request: web.Request, viewer: Viewer, fields: Fields) -> web.StreamResponse:
    """Let a link lead nowhere any more; asks first."""
    link_id = parse_id("lnk", request.match_info["id"])
    back = f"/console/links/{request.match_info['id']}"
    if "confirmed" not in fields:
        return render(
            request, viewer, "confirm.html", title="Disable this link?", action=request.path,
            fields={"confirmed": "yes"}, button="Disable it", back=back, names=[],
            losses=[
                "Whoever opens it from now on is told that it is gone (410).",
                "It cannot be enabled again; what was counted stays.",
            ],
        )  # fmt: skip
    async with request.app[CONTEXT].database.transaction() as conn:
        await disable_link(conn, viewer.service_id, link_id)
    return see_other(request, back, notice="Disabled: it leads nowhere from now on.")

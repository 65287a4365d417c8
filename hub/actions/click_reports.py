"""Reading: what became of tracked links, by link, message and campaign (rules C1, C2, H5)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.actions.register import OPERATOR
from hub.domain.errors import Forbidden, NotFound
from hub.domain.ids import public_id
from hub.domain.masking import PolicyBook, may_see_content, project_link
from hub.domain.stitching import link_life
from hub.store import audit, click_reports, conversations, messages, visibility
from hub.store.click_reports import Campaign
from hub.store.pool import Connection, Record

_NO_LINK: Final = (
    "There is no such link, or it was sent on a channel this service is not connected to (rule A4): take an id of"
    " GET /v1/messages/{id}/links, or the one that POST /v1/links gave out."
)
_WHOLE: Final = UUID(int=0)
"""The part that stands for all of a message."""


@dataclass(frozen=True, slots=True)
class CampaignPage:
    """Part of a campaign's report: of some messages, and (on the first page) of all; `following` is where to go on."""

    items: list[dict[str, Any]]
    total: dict[str, Any] | None
    following: str | None


async def report_link(conn: Connection, viewer: UUID | None, link_id: UUID, now: datetime) -> dict[str, Any]:
    """A link, what state it is in, and what became of it; None is the operator. Raises `NotFound`."""
    row = await _find_link(conn, viewer, link_id)
    (view,) = await _view(conn, viewer, [row], await _count(conn, [(row["id"], row["id"])]), now)
    return view


async def report_message(conn: Connection, viewer: UUID | None, message_id: UUID, now: datetime) -> dict[str, Any]:
    """The same of each link of a message, and of all together. Raises `NotFound`."""
    message = await messages.find_message(conn, message_id)
    if message is None or not await _reaches(conn, viewer, message["conversation_id"]):
        raise NotFound(
            "There is no such message on a channel this service is connected to (rule A4): take an id of a timeline."
        )
    rows = await click_reports.list_of_message(conn, message_id)
    numbers = await _count(conn, [*((row["id"], row["id"]) for row in rows), *((row["id"], _WHOLE) for row in rows)])
    items = await _view(conn, viewer, rows, numbers, now)
    total = {"links": len(rows), **_named(numbers.get(_WHOLE), "bound")}
    return {"message_id": public_id("msg", message_id), "items": items, "total": total}


async def report_campaign(conn: Connection, campaign: Campaign, after: UUID | None, limit: int) -> CampaignPage:
    """What became of the links of a campaign, by message in the order in which they were written; and of all of them,
    where the first page is asked for. A link that was made by itself stands by itself. Raises `NotFound`.
    """
    total = await _total(conn, campaign) if after is None else None
    rows = await click_reports.list_of_campaign(conn, campaign, after or _WHOLE, limit)
    parts = dict.fromkeys(row["part"] for row in rows)
    numbers = await _count(conn, [(row["id"], row["part"]) for row in rows])
    links: dict[UUID, list[Record]] = {part: [] for part in parts}
    for row in rows:
        links[row["part"]].append(row)
    items = [_campaign_item(links[part], numbers.get(part)) for part in parts]
    is_full = len(parts) == limit
    return CampaignPage(items, total, _key(rows[-1]) if is_full else None)


async def disable_link(conn: Connection, service_id: UUID | None, link_id: UUID) -> None:
    """Let a link lead nowhere from now on; None is the operator, of whom the audit trail tells. What is disabled
    already stays so. Raises `NotFound`, `Forbidden` (`not_author`).
    """
    row = await click_reports.find_link(conn, link_id)
    if row is None or (service_id is not None and row["service_id"] != service_id):
        await _find_link(conn, service_id, link_id)
        raise Forbidden(
            "Only the service that made a link may disable it (rule C1); ask that service, or the operator.",
            code="not_author",
        )
    if await click_reports.disable(conn, link_id) and service_id is None:
        subject, channel_id = public_id("lnk", link_id), row["channel_id"]
        await audit.add_audit(conn, OPERATOR, "link.disabled", channel_id=channel_id, subject=subject)


# Reach --------------------------------------------------------------------------------------------------------------


async def _find_link(conn: Connection, viewer: UUID | None, link_id: UUID) -> Record:
    row = await click_reports.find_link(conn, link_id)
    if row is None or not await _may_know(conn, viewer, row):
        raise NotFound(_NO_LINK)
    return row


async def _may_know(conn: Connection, viewer: UUID | None, row: Record) -> bool:
    if viewer is None:
        return True
    if row["channel_id"] is None:
        return bool(row["service_id"] == viewer)
    return await click_reports.is_connected(conn, row["channel_id"], viewer)


async def _reaches(conn: Connection, viewer: UUID | None, conversation_id: UUID) -> bool:
    return viewer is None or await conversations.find_in_reach(conn, conversation_id, viewer) is not None


# Views --------------------------------------------------------------------------------------------------------------


async def _view(
    conn: Connection, viewer: UUID | None, rows: Sequence[Record], numbers: Mapping[UUID, dict[str, Any]], now: datetime
) -> list[dict[str, Any]]:
    channels = {row["channel_id"] for row in rows if row["service_id"] not in {None, viewer} and row["channel_id"]}
    policies = await visibility.read_policies(conn, channels) if channels and viewer else {}
    return [
        project_link(_describe(row, numbers.get(row["id"]), now), is_full=_is_full(row, viewer, policies))
        for row in rows
    ]


def _is_full(row: Record, viewer: UUID | None, policies: PolicyBook) -> bool:
    return may_see_content(policies, row["channel_id"], viewer, row["service_id"], row["written_at"])


def _describe(row: Record, numbers: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    return {
        "id": public_id("lnk", row["id"]),
        "message_id": public_id("msg", row["message_id"]) if row["message_id"] else None,
        "medium": row["medium"],
        "target": row["target"],
        "place": row["place"],
        "campaign": row["campaign"],
        "created_at": row["created_at"],
        "state": _state(row, now),
        "disabled_at": row["disabled_at"],
        "is_personal": row["contact_id"] is not None,
        "suspect": row["is_suspect"],
        **_named(numbers, "bound"),
    }


def _state(row: Record, now: datetime) -> str:
    if row["disabled_at"]:
        return "disabled"
    life = link_life(row["created_at"], now)
    return "redirects" if life == "identifies" and row["contact_id"] is None else life


def _campaign_item(links: Sequence[Record], numbers: Mapping[str, Any] | None) -> dict[str, Any]:
    message_id = links[0]["message_id"]
    named: dict[str, Any] = {"message_id": public_id("msg", message_id) if message_id else None}
    if message_id is None:
        named["link_id"] = public_id("lnk", links[0]["id"])
    return {**named, "links": len(links), **_named(numbers, "identified")}


def _key(row: Record) -> str:
    return public_id("msg" if row["message_id"] else "lnk", row["part"])


# Numbers ------------------------------------------------------------------------------------------------------------


async def _total(conn: Connection, campaign: Campaign) -> dict[str, Any]:
    counted = await click_reports.count_campaign(conn, campaign)
    if not counted["links"]:
        raise NotFound("There is no link of such a campaign that this service has sent: check its name.")
    clicks = await click_reports.count_campaign_clicks(conn, campaign)
    visits = await click_reports.count_campaign_visits(conn, campaign)
    numbers = _numbers(clicks, visits[0] if visits else None)
    return {"messages": counted["messages"], "links": counted["links"], **_named(numbers, "identified")}


async def _count(conn: Connection, wanted: Sequence[tuple[UUID, UUID]]) -> dict[UUID, dict[str, Any]]:
    """The numbers of links (first) counted together by part (second)."""
    links, parts = [link for link, _ in wanted], [part for _, part in wanted]
    clicks: dict[UUID, list[Record]] = {}
    for row in await click_reports.count_clicks(conn, links, parts):
        clicks.setdefault(row["part"], []).append(row)
    visits = {row["part"]: row for row in await click_reports.count_visits(conn, links, parts)}
    return {part: _numbers(clicks.get(part, ()), visits.get(part)) for part in clicks.keys() | visits.keys()}


def _numbers(clicks: Iterable[Record], visits: Record | None) -> dict[str, Any]:
    """Verdicts, the most frequent first; of people there is one."""
    verdicts = list(clicks)
    people = [row for row in verdicts if row["kind"] == "person"]
    return {
        "clicks": {
            "people": sum(row["clicks"] for row in people),
            "unique": sum(row["visitors"] for row in people),
            "first_at": min((row["first_at"] for row in people), default=None),
            "last_at": max((row["last_at"] for row in people), default=None),
            "verdicts": [{name: row[name] for name in ("kind", "reason", "clicks")} for row in verdicts],
        },
        **{name: visits[name] if visits else 0 for name in ("visits", "bound", "identified")},
    }


def _named(numbers: Mapping[str, Any] | None, who: str) -> dict[str, Any]:
    """Clicks and visits, and who they turned out to be: browsers that were `bound`, or contacts `identified`."""
    found = numbers or _numbers((), None)
    return {name: found[name] for name in ("clicks", "visits", who)}

"""Reading: conversations as one service sees them; all of a contact's, with its visits, as one timeline (C1, C3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.actions import describe
from hub.actions.look import View, view_messages
from hub.actions.pass_on import waiting_view
from hub.actions.view_contact import visit_view
from hub.domain import window
from hub.domain.errors import NotFound
from hub.domain.ids import public_id
from hub.domain.masking import PolicyBook, may_see_content, project_holder
from hub.domain.media_links import MediaLinks
from hub.domain.timeline import CLICKS, THE_END, VISITS, mark, merged, unmark
from hub.store import contact_views, contacts, conversations, people, pickups, visibility, web_timeline
from hub.store.pool import Connection, Record

_LOWEST: Final = -(2**62)
"""The place before all messages of a conversation, those from before its number was connected included."""


async def view_conversations(conn: Connection, viewer: UUID | None, rows: Sequence[Record]) -> list[dict[str, Any]]:
    """Conversations within the viewer's reach: who holds them, for whom they wait, until when one may write freely. The
    operator (None) is a stranger to every service.
    """
    ids = [row["id"] for row in rows]
    people = await contacts.list_contacts(conn, {row["contact_id"] for row in rows})
    heard = await conversations.list_last_customer_at(conn, ids)
    held = await pickups.list_pickups(conn, ids)
    waiting = await pickups.list_waiting(conn, ids)
    views = []
    for row in rows:
        live = [pickup for pickup in held.get(row["id"], ()) if pickup.is_live]
        holders = [project_holder(describe.holder(pickup), viewer) for pickup in live]
        views.append(
            {
                "id": public_id("cnv", row["id"]),
                "channel_id": public_id("chn", row["channel_id"]),
                "number": row["e164"],
                "medium": row["medium"],
                "contact": describe.contact(people[row["contact_id"]]),
                "last_sequence": row["last_sequence"],
                "last_customer_at": row["last_customer_at"],
                "reply_window_expires_at": window.expires_at(row["medium"], heard[row["id"]]),
                "picked_up_by": holders[0] if holders else None,
                "pickups": holders,
                "held_by": row["held_by"],
                "waiting_for": waiting_view(waiting[row["id"]], viewer) if row["id"] in waiting else None,
                "created_at": row["created_at"],
            }
        )
    return views


@dataclass(frozen=True, slots=True)
class Timeline:
    """A page of a contact's timeline. `before` and `after` are places to go on from, at its older and newer end."""

    conversations: list[dict[str, Any]]
    items: list[dict[str, Any]]
    before: dict[UUID, int]
    after: dict[UUID, int]


@dataclass(frozen=True, slots=True)
class _Item:
    """Something that happened: in a conversation, or (`VISITS`, `CLICKS`) on the web; `place` is its place there."""

    lane: UUID
    place: int
    at: datetime
    row: Record

    @property
    def order(self) -> tuple[datetime, UUID]:
        """Older things first."""
        return self.at, self.row["id"]


async def read_timeline(
    conn: Connection, viewer: UUID | None, contact_id: UUID, place: Mapping[UUID, int] | None, limit: int, *,
    is_forward: bool, with_web: bool, links: MediaLinks,
) -> Timeline:  # fmt: skip
    """Messages of all conversations with a contact, and with what was merged into it, on the viewer's channels, or for
    the operator (None), a stranger to every author, on all; and,
    `with_web`, its visits and clicks: after a place, oldest first, or before it, newest first. No place: from the
    beginning, or from the end. Raises `NotFound` where none is in reach.
    """
    ids = [row["id"] for row in await contact_views.list_person(conn, contact_id)]
    reached = {row["id"]: row for row in await _list_reached(conn, viewer, ids)}
    if not reached and not (with_web and await _may_see(conn, viewer, ids)):
        raise NotFound(
            "There is no such contact with a conversation on a channel this service is connected to (rules A4, C3):"
            " take the contact's id of a conversation of GET /v1/conversations."
        )
    begin = {key: _begin(row, place, is_forward=is_forward) for key, row in reached.items()}
    found = await conversations.list_messages(conn, begin, limit, is_forward=is_forward)
    lists = [[_Item(key, row["sequence"], _time_of(row), row) for row in rows] for key, rows in found.items()]
    web: dict[UUID, int] = {}
    if with_web:
        web = {lane: _begin_on_web(lane, place, is_forward=is_forward) for lane in (VISITS, CLICKS)}
        begin |= web
        lists += await _read_web(conn, ids, web, limit, is_forward=is_forward)
    items = merged(lists, lambda item: item.order, limit, is_forward=is_forward)
    end = begin | {item.lane: item.place for item in items}
    if is_forward:
        before, after = {key: at + 1 for key, at in begin.items()}, end
    else:
        before, after = end, {key: max(at - 1, 0 if key in web else _LOWEST) for key, at in begin.items()}
    views = await view_conversations(conn, viewer, list(reached.values()))
    return Timeline(views, await _view_items(conn, View(viewer, links), items), before, after)


async def _list_reached(conn: Connection, viewer: UUID | None, contact_ids: Sequence[UUID]) -> list[Record]:
    if viewer is None:
        return await people.list_talks(conn, contact_ids)
    return await web_timeline.list_conversations(conn, viewer, contact_ids)


async def _may_see(conn: Connection, viewer: UUID | None, contact_ids: Sequence[UUID]) -> bool:
    return bool(contact_ids) if viewer is None else await contact_views.may_see(conn, viewer, contact_ids)


def _time_of(row: Record) -> datetime:
    """When a message was accepted; one from before its number was connected, when it was written."""
    at: datetime = row["provider_time"] if row.get("history") and row["provider_time"] else row["created_at"]
    return at


def _begin(row: Record, place: Mapping[UUID, int] | None, *, is_forward: bool) -> int:
    """Where to begin in one conversation. One that began after the place was given out lies after it altogether."""
    if place is not None:
        return place.get(row["id"], _LOWEST)
    return _LOWEST if is_forward else row["last_sequence"] + 1


def _begin_on_web(lane: UUID, place: Mapping[UUID, int] | None, *, is_forward: bool) -> int:
    """The same among visits, or clicks; a place that was given out to who could not see them lies before them all."""
    if place is not None:
        return place.get(lane, 0)
    return 0 if is_forward else THE_END


async def _read_web(
    conn: Connection, people: Sequence[UUID], begin: Mapping[UUID, int], limit: int, *, is_forward: bool
) -> list[list[_Item]]:
    visits = await web_timeline.list_visits(conn, people, unmark(begin[VISITS]), limit, is_forward=is_forward)
    clicks = await web_timeline.list_clicks(conn, people, unmark(begin[CLICKS]), limit, is_forward=is_forward)
    return [
        [_Item(lane, mark(row["at"], row["id"]), row["at"], row) for row in rows]
        for lane, rows in ((VISITS, visits), (CLICKS, clicks))
    ]


async def _view_items(conn: Connection, view: View, items: Sequence[_Item]) -> list[dict[str, Any]]:
    said = [item.row for item in items if item.lane not in {VISITS, CLICKS}]
    messages = dict(zip((row["id"] for row in said), await view_messages(conn, view, said), strict=True))
    channels = {item.row["channel_id"] for item in items if item.lane == CLICKS and item.row["channel_id"]}
    policies = await visibility.read_policies(conn, channels) if channels else {}
    views = []
    for item in items:
        if item.lane == VISITS:
            views.append(visit_view(item.row) | {"visitor_id": public_id("vis", item.row["visitor_id"])})
        elif item.lane == CLICKS:
            views.append(click_view(item.row, is_target_shown=_may_see_target(item.row, view.service_id, policies)))
        else:
            views.append(messages[item.row["id"]] | {"conversation_id": public_id("cnv", item.lane)})
    return views


def click_view(row: Record, *, is_target_shown: bool) -> dict[str, Any]:
    """A click that a visit followed; where to is the affair of the link's author, and of those it shares with (C1)."""
    link: dict[str, Any] = {"id": public_id("lnk", row["link_id"])}
    if is_target_shown and row["target"]:
        link["target"] = row["target"]
    message_id = row["message_id"]
    return {
        "type": "link.click",
        "at": row["at"],
        "link": link,
        "message_id": public_id("msg", message_id) if message_id else None,
        "visitor_id": public_id("vis", row["visitor_id"]),
    }


def _may_see_target(row: Record, viewer: UUID | None, policies: PolicyBook) -> bool:
    """One that is in no message is shared with nobody."""
    if row["channel_id"] is None:
        return bool(row["service_id"] == viewer)
    return may_see_content(policies, row["channel_id"], viewer, row["service_id"], row["written_at"])

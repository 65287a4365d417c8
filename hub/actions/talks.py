"""Reading: conversations as people look through them, with the last that was said, as the viewer may see it (C1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from hub.actions.look import View, view_messages
from hub.actions.presence import presence_view
from hub.actions.timeline import view_conversations
from hub.domain.errors import NotFound
from hub.domain.ids import event_id, public_id
from hub.store import conversations, numbers, overview, presence, subscriptions, talks
from hub.store.pool import Connection, Record

PAGE: Final = 30
Which = Literal["moved", "all", "waiting", "held"]
_END: Final = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which conversations: of one number or of all, from a place on (an event's number, or a conversation's id); `who`:
    for whom they wait, or who holds them.
    """

    which: Which
    number: str | None
    before_event: int | None
    before: UUID | None
    who: UUID | None


@dataclass(frozen=True, slots=True)
class Found:
    """A page of them, and the place to go on from."""

    items: list[dict[str, Any]]
    next: str | None


async def list_talks(conn: Connection, view: View, wanted: Wanted) -> Found:
    """A page of conversations within reach, each with its last message."""
    reach = None
    if view.service_id or wanted.number:
        reach = [row["channel_id"] for row in await talks.list_channels(conn, view.service_id, wanted.number)]
    if wanted.which == "moved":
        before = wanted.before_event or await talks.find_end(conn)
        rows = await talks.list_moved(conn, before, reach, PAGE)
        return Found(await _view(conn, view, rows), _next_of_moved(rows, before))
    place = wanted.before or _END
    match wanted.which:
        case "held":
            rows = await talks.list_held(conn, place, reach, wanted.who, PAGE)
        case "waiting":
            rows = await talks.list_waiting(conn, place, reach, view.service_id or wanted.who, PAGE)
        case _:
            rows = await talks.list_all(conn, place, reach, PAGE)
    following = public_id("cnv", rows[-1]["id"]) if len(rows) == PAGE else None
    return Found(await _view(conn, view, rows), following)


def _next_of_moved(rows: Sequence[Record], before: int) -> str | None:
    """A page that is not full has looked through all that it looks through; below that there may be more."""
    if len(rows) == PAGE:
        return event_id(rows[-1]["event_id"])
    return event_id(before - talks.SPAN) if before > talks.SPAN else None


async def _view(conn: Connection, view: View, rows: Sequence[Record]) -> list[dict[str, Any]]:
    views = await view_conversations(conn, view.service_id, rows)
    last = await conversations.list_messages(
        conn, {row["id"]: row["last_sequence"] + 1 for row in rows}, 1, is_forward=False
    )
    said = [found[0] for found in last.values()]
    shown = dict(zip((row["conversation_id"] for row in said), await view_messages(conn, view, said), strict=True))
    return [{**item, "last": shown.get(row["id"])} for item, row in zip(views, rows, strict=True)]


async def find_talk(conn: Connection, view: View, conversation_id: UUID) -> Record:
    """A conversation within reach. Raises `NotFound`."""
    if view.service_id is None:
        row = await overview.find_conversation(conn, conversation_id)
    else:
        row = await conversations.find_in_reach(conn, conversation_id, view.service_id)
    if row is None:
        raise NotFound("There is no such conversation, or it is on a channel this key's service is not connected to.")
    return row


async def list_present(conn: Connection, view: View, conversation_id: UUID) -> list[dict[str, Any]]:
    """Who looks at a conversation or types there just now."""
    rows = await presence.list_present(conn, conversation_id)
    return [presence_view(row, view.service_id or _END) for row in rows]


async def find_automation(conn: Connection, view: View, talk: Record) -> dict[str, Any]:
    """Who may automate on the channel of a conversation, at which epoch, and whether the viewer may (A9)."""
    channels = await numbers.list_channels(conn, talk["number_id"])
    channel = next(row for row in channels if row["id"] == talk["channel_id"])
    members = await subscriptions.list_members(conn, talk["channel_id"])
    parent = subscriptions.parent_of(members, channel["parent_epoch"])
    return {
        "kind": channel["kind"],
        "epoch": channel["parent_epoch"],
        "parent": parent.view() if parent else None,
        "members": [{"service_id": public_id("svc", row["service_id"]), "name": row["name"]} for row in members],
    }

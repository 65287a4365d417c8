"""Reading: conversations as one service sees them, and all of a contact's as one timeline (rules C1, C3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hub.actions import describe
from hub.actions.look import View, view_messages
from hub.actions.pass_on import waiting_view
from hub.domain import window
from hub.domain.errors import NotFound
from hub.domain.ids import public_id
from hub.domain.masking import project_holder
from hub.domain.timeline import merged
from hub.store import contacts, conversations, pickups
from hub.store.pool import Connection, Record


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


async def read_timeline(
    conn: Connection, viewer: UUID, contact_id: UUID, place: Mapping[UUID, int] | None, limit: int, *, is_forward: bool
) -> Timeline:
    """Messages of all conversations with a contact on the viewer's channels: after a place, oldest first, or before it,
    newest first. No place: from the beginning, or from the end. Raises `NotFound` where none is in reach.
    """
    reached = {row["id"]: row for row in await conversations.list_of_contact(conn, viewer, contact_id)}
    if not reached:
        raise NotFound(
            "There is no such contact with a conversation on a channel this service is connected to (rules A4, C3):"
            " take the contact's id of a conversation of GET /v1/conversations."
        )
    begin = {key: _begin(row, place, is_forward=is_forward) for key, row in reached.items()}
    found = await conversations.list_messages(conn, begin, limit, is_forward=is_forward)
    rows = merged(found.values(), lambda row: (row["created_at"], row["id"]), limit, is_forward=is_forward)
    end = begin | {row["conversation_id"]: row["sequence"] for row in rows}
    if is_forward:
        before, after = {key: at + 1 for key, at in begin.items()}, end
    else:
        before, after = end, {key: max(at - 1, 0) for key, at in begin.items()}
    items = [
        view | {"conversation_id": public_id("cnv", row["conversation_id"])}
        for row, view in zip(rows, await view_messages(conn, View(viewer), rows), strict=True)
    ]
    return Timeline(await view_conversations(conn, viewer, list(reached.values())), items, before, after)


def _begin(row: Record, place: Mapping[UUID, int] | None, *, is_forward: bool) -> int:
    """Where to begin in one conversation. One that began after the place was given out lies after it altogether."""
    if place is not None:
        return place.get(row["id"], 0)
    return 0 if is_forward else row["last_sequence"] + 1

"""Reading: messages as one service may see them (rules C1, C2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from hub.actions import describe
from hub.domain.masking import Sharing, may_see_content, project_message, without_payloads
from hub.store import messages, subscriptions
from hub.store.pool import Connection, Record


@dataclass(frozen=True, slots=True)
class View:
    """Who looks, and at which channel."""

    service_id: UUID
    channel_id: UUID


async def view_messages(conn: Connection, view: View, rows: Sequence[Record]) -> list[dict[str, Any]]:
    """These messages of one channel as the viewer sees them."""
    display, sharing = await subscriptions.find_visibility(conn, view.channel_id, view.service_id)
    histories = await messages.list_statuses(conn, [row["id"] for row in rows if row["status"]])
    asked = {row["id"]: key for row in rows if (key := _answered(row))}
    authors = await messages.find_authors(conn, set(asked.values()))
    nameless = {row["conversation_id"] for row in rows if row["id"] in asked and asked[row["id"]][1] not in authors}
    unnamed = await messages.find_unnamed_authors(conn, nameless)
    items = []
    for row in rows:
        author = row["author_service_id"]
        is_full = may_see_content(view.service_id, display, author, sharing.get(author, Sharing()))
        whole = describe.message(dict(row), [dict(entry) for entry in histories.get(row["id"], ())])
        item = project_message(whole, is_full=is_full)
        asked_by = None
        if row["id"] in asked:
            asked_by = authors.get(asked[row["id"]][1]) or unnamed.get(row["conversation_id"])
        if asked_by is not None and asked_by != view.service_id:
            item = without_payloads(item)
        items.append(item)
    return items


def _answered(row: Record) -> tuple[str, str] | None:
    """Which of our messages a tapped button belongs to: provider and provider id."""
    if row["direction"] != "inbound" or row["type"] not in {"button", "interactive"}:
        return None
    reply_to = orjson.loads(row["content"]).get("reply_to") or {}
    target = reply_to.get("provider_id")
    return (row["provider"], target) if target else None

"""Templates as the API shows them, and how fresh the list is (rule E10)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from hub.domain.errors import Conflict, NotFound
from hub.store import numbers, subscriptions, templates
from hub.store.pool import Connection, Record

FRESH: Final = timedelta(minutes=10)
"""How long a list is shown without asking the provider again."""
LEAST: Final = timedelta(minutes=1)
"""How long it is shown at least, whoever asks for a newer one."""


async def find_template_senders(conn: Connection, e164: str, service_id: UUID) -> list[Record]:
    """The active senders of a number that the service is connected to. Raises `NotFound`, `Conflict`."""
    number = await numbers.find_number(conn, e164)
    if number is None:
        raise NotFound("this number is not registered with the hub")
    if await subscriptions.find_subscription(conn, number["id"], service_id) is None:
        raise Conflict("this service is not connected to the number: connect first", code="not_connected")
    return await templates.list_senders(conn, number["id"])


def is_due(refreshed_at: datetime | None, now: datetime, *, is_asked: bool) -> bool:
    """Whether the provider is to be asked for its list."""
    return refreshed_at is None or now - refreshed_at > (LEAST if is_asked else FRESH)


async def view_templates(
    conn: Connection, senders: Sequence[Record], after: tuple[int, str], limit: int
) -> tuple[list[dict[str, Any]], tuple[int, str] | None]:
    """A page of templates, and where the next begins."""
    by_id = {sender["id"]: sender for sender in senders}
    rows = await templates.list_templates(conn, list(by_id), after, limit)
    place = (rows[-1]["sender_id"], rows[-1]["external_id"]) if len(rows) == limit else None
    return [_view(row, by_id[row["sender_id"]]) for row in rows], place


def _view(row: Record, sender: Record) -> dict[str, Any]:
    return {
        "sender": {"medium": sender["medium"], "provider": sender["provider"]},
        "id": row["external_id"],
        "name": row["name"],
        "language": row["language"],
        "category": row["category"],
        "status": row["status"],
        "content": orjson.loads(row["content"]),
    }

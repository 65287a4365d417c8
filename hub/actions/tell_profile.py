"""Telling of what happens to profiles, to the services that may know of them (rule H5)."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from hub.actions.announce import Place, channel_event
from hub.domain.events import EventDraft
from hub.store import profile_reach
from hub.store.pool import Connection


async def profile_drafts(
    conn: Connection, kind: str, contact_ids: Collection[UUID], now: datetime, **data: Any
) -> list[EventDraft]:
    """An event about the profiles of these contacts, once for each channel with somebody who may know: its services
    with the scope `profiles` where it has a conversation with any of them; elsewhere those alone that know the contact
    by an identify call of their own. Such events take no sequence number.
    """
    rows = await profile_reach.list_hearers(conn, contact_ids)
    places = [(Place(row["number_id"], row["e164"], row["channel_id"]), row["services"]) for row in rows]
    return [channel_event(kind, place, now, audience=services, **data) for place, services in places]

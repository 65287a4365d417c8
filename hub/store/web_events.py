"""What trackers report: pages that were viewed, and what was done there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from hub.store.pool import Connection


@dataclass(frozen=True, slots=True)
class WebEvent:
    """An event of a tracker. `type`: `page` or `engaged`; `visitor_id` None: without consent."""

    id: UUID
    at: datetime
    received_at: datetime
    type: str
    visitor_id: UUID | None
    session: str
    site: str
    url: str
    title: str | None = None
    referrer: str | None = None


ADD_SQL = """
insert into web_event (id, at, received_at, type, visitor_id, session, site, url, title, referrer)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"""


async def add(conn: Connection, events: Sequence[WebEvent]) -> None:
    """Store these; their times must be of yesterday or later, for which there are partitions."""
    rows = [
        (e.id, e.at, e.received_at, e.type, e.visitor_id, e.session, e.site, e.url, e.title, e.referrer) for e in events
    ]
    await conn.executemany(ADD_SQL, rows)

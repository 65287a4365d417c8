"""Verb: note what a browser did on a tracked site, and whose it thereby turns out to be.

A batch of a tracker is cut into visits: what one visitor did in one session on one site. Where somebody also declares
something in a batch, `land` comes before it and `note` after: either can be run again if the other fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from hub.actions.consents import refuses_to_be_tracked
from hub.actions.stitch_clicks import stitch_clicks
from hub.domain.bindings import open_binding
from hub.domain.events import Event
from hub.domain.ids import new_id
from hub.domain.tracking import ConsentMode, Tracking
from hub.store import bindings, landings, used_tokens, visitors, web_events
from hub.store.landings import Shown
from hub.store.pool import Connection
from hub.store.web_events import WebEvent

_KEY_KEPT: Final = timedelta(days=1)
"""For how long a key stays used: as long as pages wait for their clicks."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An event of a tracker, fit to be kept. `kind`: of a page, how it was come to; None: somebody engaged with it."""

    url: str
    age: timedelta
    kind: Literal["load", "route", "restore"] | None
    title: str | None = None
    referrer: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """What a visitor did. `visitor_id` None: without consent. `is_returning`: its cookie came with the request.

    `receipts` and `key` (hashes of them) are what its first document load shows.
    """

    visitor_id: UUID | None
    is_returning: bool
    site: str
    session: str
    received_at: datetime
    receipts: Sequence[bytes] = ()
    key: bytes | None = None
    events: list[Seen] = field(default_factory=list)

    @property
    def proofs(self) -> list[bytes]:
        """All that its first document load shows."""
        return [*self.receipts, *([self.key] if self.key else [])]

    def at(self, seen: Seen) -> datetime:
        """When it happened, by the hub's clock."""
        return self.received_at - seen.age


async def note(conn: Connection, visit: Visit, mode: ConsentMode) -> None:
    """Store what was seen: as nobody's, where the browser is known to be somebody's who refused to be tracked."""
    visitor_id = None if await _is_refused(conn, visit, mode) else visit.visitor_id
    await web_events.add(
        conn,
        [
            WebEvent(
                id=new_id(),
                at=visit.at(seen),
                received_at=visit.received_at,
                type="page" if seen.kind else "engaged",
                visitor_id=visitor_id,
                session=visit.session,
                site=visit.site,
                url=seen.url,
                title=seen.title,
                referrer=seen.referrer,
            )
            for seen in visit.events
        ],
    )


async def _is_refused(conn: Connection, visit: Visit, mode: ConsentMode) -> bool:
    if visit.visitor_id is None:
        return False
    current = open_binding((await bindings.list_bindings(conn, [visit.visitor_id]))[visit.visitor_id])
    return current is not None and await refuses_to_be_tracked(conn, current.contact_id, mode)


async def land(conn: Connection, visit: Visit, tracking: Tracking, now: datetime) -> list[Event]:
    """Store the visitor, and the page that a click ended on, and decide whose browser that makes it. Call it last: it
    logs events.
    """
    if visit.visitor_id is None:
        return []
    first = next((seen for seen in visit.events if seen.kind == "load"), None)
    if first and visit.proofs:
        await landings.lock_proofs(conn, visit.proofs)
    is_news = await visitors.touch(conn, visit.visitor_id, now, is_returning=visit.is_returning)
    proofs = await _show(conn, visit, visit.visitor_id, first) if first else []
    if is_news and visit.is_returning:
        proofs += await landings.confirm_shown(conn, visit.visitor_id)
    clicks = await landings.find_clicks(conn, proofs, now) if proofs else []
    return await stitch_clicks(conn, clicks, tracking, now)


async def _show(conn: Connection, visit: Visit, visitor_id: UUID, load: Seen) -> list[bytes]:
    """Keep a document load with what it shows, if anything; gives that."""
    key = visit.key if visit.key and await _may_use(conn, visit.key, visitor_id, visit.received_at) else None
    shown = Shown(
        visitor_id, visit.is_returning, visit.site, visit.session, visit.at(load), visit.received_at,
        visit.receipts, key,
    )  # fmt: skip
    if shown.proofs:
        await landings.add_shown(conn, shown)
        await visitors.add_twins(conn, visitor_id, shown.receipts)
    return shown.proofs


async def _may_use(conn: Connection, key: bytes, visitor_id: UUID, now: datetime) -> bool:
    """Whether a key was not used yet, but by this very browser, whose tracker tries again."""
    is_first = await used_tokens.use(conn, key, now + _KEY_KEPT)
    return is_first or await landings.has_shown(conn, key, visitor_id)

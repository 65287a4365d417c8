"""Pulling: what a service would hear by webhooks, read from the log by a cursor of its own (rules G4, A10, A11, C1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Final, TypeAlias
from uuid import UUID

from hub.actions.audience import Viewer, body, viewer_of
from hub.domain.errors import Conflict, Invalid, NotFound
from hub.domain.events import Event
from hub.domain.media_links import MediaLinks
from hub.domain.positions import SHARDS, Positions
from hub.store import event_log, numbers, subscriptions, visibility
from hub.store.pool import Connection

MOST_READ: Final = 5000
"""Events looked at for one page, whoever they are for."""
MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of content after which a page is full."""
_STEP: Final = 500


@dataclass(frozen=True, slots=True)
class Reader:
    """Who pulls: a service, for all its numbers or for one."""

    service_id: UUID
    e164: str | None = None


class Begin(Enum):
    """Where a reader without a cursor begins."""

    START = auto()
    """Where its subscriptions began to hear."""
    HEAD = auto()
    """After all there is."""


Place: TypeAlias = Positions | datetime | Begin
"""Where a page begins: where the last one ended, at a time, or else."""


@dataclass(frozen=True, slots=True)
class Item:
    """An event as its webhook would carry it: `body` is the very same bytes."""

    type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """What was found, and where to go on; nothing is left to find now unless `has_more`.

    `expired`: of the events after the first id up to the second, retention has dropped some that were not read.
    """

    items: Sequence[Item]
    positions: Positions
    has_more: bool
    expired: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class _Listener:
    """A subscription of the reader; `start` is where it began to hear, for each shard."""

    viewer: Viewer
    start: Sequence[int] | None

    def hears(self, event: Event, since: datetime | None) -> bool:
        """Whether the event is for it: what came before it connected only where that is asked for (A10)."""
        if since is not None and event.at < since:
            return False
        if since is None and self.start is not None and event.id <= self.start[event.shard]:
            return False
        return self.viewer.wants(event)


async def read_page(
    conn: Connection, reader: Reader, place: Place, limit: int, links: MediaLinks | None = None
) -> Page:
    """The next events, oldest first, at most `limit`. To be called first in its transaction, so that who may see what
    is judged at the moment the events are read at. Raises `NotFound`, `Conflict` (not_connected), `Invalid`.
    """
    await event_log.hold_snapshot(conn)
    listeners = await _list_listeners(conn, reader)
    begin = await _find_begin(conn, reader, place)
    found, at, has_more = await _collect(conn, listeners, begin, limit)
    policies = await visibility.read_policies(conn, listeners) if found else {}
    items = [Item(event.type, body(event, viewer, policies, links)) for event, viewer in found]
    dropped = await event_log.find_hole(conn, begin.highest)
    positions = Positions(tuple(max(position, dropped) for position in at), begin.since)
    return Page(items, positions, has_more, (begin.highest, dropped) if dropped else None)


async def _list_listeners(conn: Connection, reader: Reader) -> dict[UUID, _Listener]:
    rows = await subscriptions.list_viewers(conn, reader.service_id, reader.e164)
    if not rows:
        if reader.e164 is not None and await numbers.find_number(conn, reader.e164) is None:
            raise NotFound("This number is not registered with the hub (rule A1): check it, or leave it out.")
        what = "any number" if reader.e164 is None else "this number"
        raise Conflict(f"This service is not connected to {what} (rule A4): connect it first.", code="not_connected")
    return {row["channel_id"]: _Listener(viewer_of(row), row["start_positions"]) for row in rows}


async def _find_begin(conn: Connection, reader: Reader, place: Place) -> Positions:
    if isinstance(place, Positions):
        last, _ = await event_log.find_pulse(conn)
        if place.highest > last:
            raise Invalid("this cursor is ahead of the event log: it is another hub's", code="invalid_cursor")
        return place
    if isinstance(place, datetime):
        return Positions((await event_log.find_before(conn, place),) * SHARDS, place)
    if place is Begin.START:
        starts = await subscriptions.list_starts(conn, reader.service_id, reader.e164)
        if starts:
            return Positions(tuple(map(min, zip(*starts, strict=True))))
    heads = await event_log.find_heads(conn)
    return Positions(tuple(heads[shard] for shard in range(SHARDS)))


async def _collect(
    conn: Connection, listeners: dict[UUID, _Listener], begin: Positions, limit: int
) -> tuple[list[tuple[Event, Viewer]], list[int], bool]:
    """Events for these listeners, the positions behind them, and whether there may be more. What is nobody's is passed
    over for good, so that it is not looked at again.
    """
    found: list[tuple[Event, Viewer]] = []
    at, channels = list(begin.at), list(listeners)
    read = size = 0
    step = limit + 1
    while read < MOST_READ:
        events = await event_log.list_unread(conn, at, channels, step)
        if not events:
            return found, at, False
        for event in events:
            listener = listeners.get(event.channel_id) if event.channel_id else None
            if listener is not None and listener.hears(event, begin.since):
                if len(found) == limit or size > MOST_BYTES:
                    return found, at, True
                found.append((event, listener.viewer))
                size += len(event.data)
            at[event.shard] = event.id
        read += len(events)
        step = min(2 * step, _STEP)
    return found, at, True

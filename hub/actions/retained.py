"""How far back the event log goes, and where a time or an id is in it."""

from datetime import datetime

from hub.domain.errors import Conflict
from hub.domain.ids import event_id
from hub.store import event_log, replays, retention
from hub.store.pool import Connection
from hub.store.replays import LogStart


async def find_start(conn: Connection, moment: datetime | None) -> dict[int, int]:
    """The position in each shard before its first event of that time or later; None: its head. Raises as
    `check_time`.
    """
    if moment is None:
        return await event_log.find_heads(conn)
    await retention.keep_log(conn)
    await check_time(conn, moment)
    return await replays.find_starts(conn, moment)


async def check_time(conn: Connection, moment: datetime) -> None:
    """Raises `Conflict` (`events_expired`) where the log may have dropped events of this time or later."""
    start = await replays.find_log_start(conn)
    if start.has_lost(moment):
        raise _expired(start)


async def check_id(conn: Connection, first: int) -> None:
    """Raises `Conflict` (`events_expired`) where the log has dropped the ids from this one on."""
    start = await replays.find_log_start(conn)
    if first < start.id:
        raise _expired(start)


def _expired(start: LogStart) -> Conflict:
    return Conflict(
        "the log no longer has all of these events",
        code="events_expired",
        oldest_event_id=event_id(start.id),
        oldest_at=start.at,
    )

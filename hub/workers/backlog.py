"""What waits, as metrics: set once a minute by whichever process keeps house."""

from typing import Final

from prometheus_client import Gauge

from hub.store.backlog import find_backlog
from hub.store.pool import Connection

WAITING = Gauge(
    "partyline_outbox_messages",
    "Messages in the queue to the providers (100000: or more)",
    multiprocess_mode="livemostrecent",
)
OLDEST = Gauge(
    "partyline_outbox_oldest_seconds", "Age of the oldest of them; 0: none", multiprocess_mode="livemostrecent"
)
DEAD = Gauge(
    "partyline_dead_letters",
    "Events given up, not replayed nor discarded (1000: or more)",
    multiprocess_mode="livemostrecent",
)

GAUGES: Final = (WAITING, OLDEST, DEAD)


async def count(conn: Connection) -> None:
    """Set the gauges."""
    backlog = await find_backlog(conn)
    WAITING.set(backlog.waiting)
    OLDEST.set(max(backlog.oldest.total_seconds(), 0))
    DEAD.set(backlog.dead)

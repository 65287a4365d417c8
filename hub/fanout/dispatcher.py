"""The dispatcher: follows the event log and hands every event to the outlets of its channel.

Events committed by this process come straight from memory; each knows its predecessor in the shard, so a gap (another
process committed in between) is seen and read from PostgreSQL instead. One dispatcher at a time owns the deliveries.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Gauge

from hub.domain.errors import Unavailable
from hub.domain.events import ROSTER_EVENTS, Event
from hub.fanout.client import DeliveryClient
from hub.fanout.outlet import Outlet, Report
from hub.fanout.receivers import Receiver, Roster, load_roster
from hub.store import deliveries, event_log, leases
from hub.store.pool import Database, Dedicated
from hub.store.routes import find_version
from hub.store.sealing import Sealer

log = structlog.get_logger()

POLL: Final = 0.05
"""Seconds between looks at the log for what other processes committed."""
FLUSH: Final = 0.05
"""Seconds between batches of attempts written down: what a kill may repeat."""
CURSORS: Final = 1.0
"""Seconds between writes of cursors, and between looks for changed subscriptions."""
GRACE: Final = 4.0
"""Seconds that posts in flight get when the dispatcher is stopped."""
LAST_FLUSH: Final = 2.0
"""Seconds the last write gets then; what it would have said is delivered again."""
READ: Final = 100
"""Events read of one shard at a time when catching up."""

UNDONE = Gauge("partyline_deliveries_undone", "Events read and not yet done, all subscriptions")


class Dispatcher:
    """Delivers events to every subscription while it holds the ownership."""

    def __init__(self, database: Database, sealer: Sealer, client: DeliveryClient, *, concurrency: int) -> None:
        self._database = database
        self._sealer = sealer
        self._client = client
        self._concurrency = concurrency
        self._roster = Roster({}, {})
        self._outlets: dict[UUID, Outlet] = {}
        self._tail: dict[int, int] | None = None
        self._ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._report = Report()
        self._is_stale = True
        self._version = -1

    def publish(self, events: Sequence[Event]) -> None:
        """Take events that this process has just committed."""
        if self._tail is None:
            return
        for event in events:
            if event.prev_id == self._tail[event.shard]:
                self._follow(event)
            elif event.id > self._tail[event.shard]:
                self._wake.set()

    def refresh(self) -> None:
        """A subscription was changed: look before the next delivery."""
        self._is_stale = True
        self._ready.clear()
        self._wake.set()

    def _follow(self, event: Event) -> None:
        assert self._tail is not None
        self._tail[event.shard] = event.id
        for outlet in self._outlets.values():
            outlet.offer(event)
        if event.type in ROSTER_EVENTS:
            self.refresh()

    async def run(self) -> None:
        """Wait for the ownership, then deliver until cancelled or until the ownership is lost."""
        owner = await self._database.dedicated()
        try:
            await leases.own(owner.conn, leases.DISPATCHER)
            log.info("dispatcher.started")
            await self._start()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow_log())
                tasks.create_task(self._keep_books(owner))
        finally:
            await self._stop()
            await owner.close()

    async def _start(self) -> None:
        async with self._database.reading() as conn:
            self._tail = await event_log.find_heads(conn)
        await self._reload()

    async def _stop(self) -> None:
        """Let posts in flight finish, within the time a shutdown has, and write down how far everything came."""
        self._tail = None
        for outlet in self._outlets.values():
            outlet.start_draining()
        self._ready.set()  # who waits for a new roster shall see that it is over
        drains = [asyncio.create_task(outlet.drain()) for outlet in self._outlets.values()]
        if drains:
            await asyncio.wait(drains, timeout=GRACE)
        for task, outlet in zip(drains, self._outlets.values(), strict=True):
            task.cancel()
            await outlet.stop()
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(LAST_FLUSH):
                await self._flush(with_cursors=True)
        self._outlets = {}
        self._ready.clear()

    async def _follow_log(self) -> None:
        """Read what did not come from memory: for the tail, and for outlets that are behind it."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL):  # wait_for may lose a cancellation to a wake (Python 3.11)
                    await self._wake.wait()
            self._wake.clear()
            if self._is_stale:
                await self._reload()
            await self._read_tail()
            await self._catch_up()

    async def _read_tail(self) -> None:
        assert self._tail is not None
        async with self._database.reading() as conn:
            events = await event_log.list_after(conn, self._tail, READ)
            version = await find_version(conn)
        if version != self._version:  # asked after the events: what changed before them is known before they go out
            await self._reload()
        for event in events:
            if event.id > self._tail[event.shard]:
                self._follow(event)
        if events:
            self._wake.set()

    async def _catch_up(self) -> None:
        assert self._tail is not None
        for outlet in list(self._outlets.values()):
            behind = {shard: position for shard, position in outlet.read.items() if position < self._tail[shard]}
            if not behind or not outlet.has_room:
                continue
            async with self._database.reading() as conn:
                events = await event_log.list_after(conn, behind, READ)
            for event in events:
                if event.id > outlet.read[event.shard]:
                    outlet.take(event)
            if events:
                self._wake.set()

    async def _reload(self) -> None:
        """Bring outlets in line with the subscriptions."""
        self._is_stale = False
        async with self._database.reading() as conn:
            self._version = await find_version(conn)
            roster = await load_roster(conn, self._sealer)
            added = [key for key in roster.receivers if key not in self._outlets]
            progress = await deliveries.find_progress(conn, added) if added else {}
        self._roster = roster
        for key in [key for key in self._outlets if key not in roster.receivers]:
            await self._close_outlet(key)
        for key, receiver in roster.receivers.items():
            if key in self._outlets:
                self._outlets[key].receiver = receiver
            elif key in progress:
                self._outlets[key] = self._outlet(receiver, progress[key])
        if not self._is_stale:
            self._ready.set()

    async def _close_outlet(self, key: UUID) -> None:
        await self._outlets[key].stop()
        await self._flush(with_cursors=True)
        del self._outlets[key]

    def _outlet(self, receiver: Receiver, progress: deliveries.Progress) -> Outlet:
        return Outlet(
            receiver,
            progress,
            self._client,
            self._body,
            self._ready,
            self._report,
            concurrency=self._concurrency,
        )

    def _body(self, event: Event, receiver: Receiver) -> bytes:
        return self._roster.body(event, receiver)

    async def _keep_books(self, owner: Dedicated) -> None:
        """Write down what happened, and notice that the ownership is lost."""
        elapsed = 0.0
        while True:
            await asyncio.sleep(FLUSH)
            elapsed += FLUSH
            is_due = elapsed >= CURSORS
            await self._flush(with_cursors=is_due)
            if is_due:
                elapsed = 0.0
                await leases.confirm(owner.conn)
                self._is_stale = True
                UNDONE.set(sum(outlet.undone for outlet in self._outlets.values()))

    async def _flush(self, *, with_cursors: bool) -> None:
        """Write down what happened. Cursors go with everything that happened before they moved, in one transaction:
        a dead letter must not get lost behind its cursor.
        """
        attempts, self._report.attempts = self._report.attempts, []
        dead, self._report.dead_letters = self._report.dead_letters, []
        moved = [(outlet, outlet.take_dirty()) for outlet in self._outlets.values()] if with_cursors else []
        positions = [(outlet.receiver.id, shard, at) for outlet, rows in moved for shard, at in rows]
        if not attempts and not dead and not positions:
            return
        try:
            async with self._database.transaction() as conn:
                await deliveries.add_attempts(conn, attempts)
                for letter in dead:
                    await deliveries.add_dead_letter(
                        conn, letter.subscription_id, letter.event_id, letter.attempts, letter.last_error
                    )
                await deliveries.save_cursors(conn, positions)
        except BaseException:
            self._report.attempts[:0] = attempts
            self._report.dead_letters[:0] = dead
            for outlet, rows in moved:
                outlet.dirty.update(shard for shard, _ in rows)
            raise

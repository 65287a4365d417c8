"""The dispatcher: holds shards of the event log and hands their events to the outlets, one per subscription.

Events committed by this process come straight from memory; each knows its predecessor in the shard, so a gap (another
process committed in between) is seen and read from PostgreSQL instead. Any number of dispatchers share the shards; what
they write down is refused for a shard that somebody else has taken.
"""

import asyncio
import math
import time
from collections.abc import Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

import structlog

from hub.actions.pausing import pause
from hub.domain.events import ROSTER_EVENTS, Event
from hub.domain.media_links import MediaLinks
from hub.fanout.books import Books
from hub.fanout.client import DeliveryClient
from hub.fanout.lane import ReplayRun
from hub.fanout.lanes import PAGE, WINDOW
from hub.fanout.outlet import Outlet, Permit
from hub.fanout.receivers import Receiver, Roster, load_roster
from hub.store import deliveries, event_log, leases
from hub.store.pool import Connection, Database, Dedicated, TryAgain, translated
from hub.store.sealing import Sealer

log = structlog.get_logger()

POLL: Final = 0.015
"""Seconds between looks for what other processes committed."""
IDLE_POLL: Final = 0.05
"""The same while nothing happens."""
IDLE: Final = 2.0
"""Seconds without an event after which nothing happens."""
SURE: Final = 0.25
"""Seconds between looks that trust nothing that was published here."""
LATE: Final = 1.0
"""Seconds that ids which were drawn elsewhere are looked for at every turn: they may be committed later."""
FLUSH: Final = 0.05
"""Seconds between batches written down: what a kill may repeat."""
HOLD: Final = 0.5
"""Seconds between renewals of the lease, and looks for shards that are free."""
CHECKPOINT: Final = 15.0
"""Seconds between writes of all cursors: bounds what a takeover has to read."""
SHOW: Final = 1.0
"""Seconds between writes of how subscriptions do."""
LEASE_MARGIN: Final = 5.0
"""Seconds by which a lease outlives the longest delivery."""
FAILING: Final = 5 * 86_400.0
"""Seconds of nothing but failures after which a subscription is paused (G3)."""
GRACE: Final = 4.0
"""Seconds that deliveries in flight get when the dispatcher is stopped."""
LAST_FLUSH: Final = 2.0
"""Seconds the last write gets then; what it would have said is delivered again."""
READ: Final = 100
"""Events read of one shard at a time."""
MOST_BEHIND: Final = 1000
"""Events of one shard that are counted at takeover, to tell how far behind a subscription is."""
LOADS: Final = 20
"""Parked lanes of one subscription that are read at one turn."""


class Dispatcher:
    """Delivers the events of the shards it holds to every subscription."""

    def __init__(
        self, database: Database, sealer: Sealer, client: DeliveryClient, *, concurrency: int, timeout: float = 15.0,
        links: MediaLinks | None = None,
    ) -> None:  # fmt: skip
        self._database = database
        self._sealer = sealer
        self._links = links
        self._client = client
        self._concurrency = concurrency
        self._lease = timeout + LEASE_MARGIN
        self._permit = Permit(timeout)
        self._roster = Roster({}, {})
        self._outlets: dict[UUID, Outlet] = {}
        self._tail: dict[int, int] = {}
        self._epochs: dict[int, int] = {}
        self._books = Books()
        self._number = 0
        self._writer: Dedicated | None = None
        self._wake = asyncio.Event()
        self._changing = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._is_stale = True
        self._version = -1
        self._forget_the_tail()

    def _forget_the_tail(self) -> None:
        self._top = 0
        self._suspect = 0
        self._late_until = 0.0
        self._read_at = 0.0
        self._published_at = 0.0
        self._followed_at = 0.0
        self._hold_at = 0.0
        self._show_at = 0.0

    # From memory ----------------------------------------------------------------------------------------------------

    def publish(self, events: Sequence[Event]) -> None:
        """Take events that this process has just committed."""
        if not self._tail:
            return
        self._published_at = time.monotonic()
        for event in events:
            self._top = max(self._top, event.id)
            tail = self._tail.get(event.shard)
            if tail is None:
                continue
            if event.prev_id == tail:
                self._follow(event)
            elif event.id > tail:
                self._read_at = 0.0
                self._wake.set()

    def refresh(self) -> None:
        """A subscription was changed: look before the next delivery."""
        self._is_stale = True
        self._permit.ready.clear()
        self._wake.set()

    def _follow(self, event: Event) -> None:
        self._tail[event.shard] = event.id
        for outlet in self._outlets.values():
            outlet.offer(event)
        if event.type in ROSTER_EVENTS:
            self.refresh()

    # Life -----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until cancelled. Raises `Unavailable` where the database is away."""
        while True:
            try:
                await self._serve()
            except* leases.GivenUp:
                log.warning("dispatcher.given_up", dispatcher=self._number)

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:
            self._writer, reader = [await self._connect(stack) for _ in range(2)]
            stack.push_async_callback(self._stop)
            async with translated():
                self._number = await leases.join(self._writer.conn, self._lease)
                log.info("dispatcher.started", dispatcher=self._number)
                await self._reload(reader)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow_log(reader))
                tasks.create_task(self._keep_books())

    async def _connect(self, stack: AsyncExitStack) -> Dedicated:
        link = await self._database.dedicated()
        stack.push_async_callback(link.close)
        return link

    async def _stop(self) -> None:
        """Let what is in flight finish, within the time a shutdown has, and write down how far everything came."""
        assert self._writer is not None
        self._tail = {}
        for outlet in self._outlets.values():
            outlet.start_draining()
        self._permit.ready.set()  # who waits for a new roster shall see that it is over
        drains = [asyncio.create_task(outlet.drain()) for outlet in self._outlets.values()]
        if drains:
            await asyncio.wait(drains, timeout=GRACE)
        for task, outlet in zip(drains, self._outlets.values(), strict=True):
            task.cancel()
            await outlet.stop()
        try:
            async with asyncio.timeout(LAST_FLUSH), translated():
                await self._flush(is_checkpoint=True)
                await leases.leave(self._writer.conn, self._number)
        except Exception as error:  # others take over what was not written, and repeat it
            log.warning("dispatcher.last_flush_failed", dispatcher=self._number, error=type(error).__name__)
        self._outlets, self._epochs, self._books = {}, {}, Books()
        self._permit.ready.clear()
        self._is_stale = True
        self._forget_the_tail()

    # Shards ---------------------------------------------------------------------------------------------------------

    async def _hold(self) -> None:
        """Renew the lease; take what is free, drop what is lost, give away what is more than a fair share."""
        assert self._writer is not None
        asked_at = time.monotonic()
        async with self._writing:
            holding = await leases.keep(self._writer.conn, self._number, self._lease)
        self._permit.lease_until = asked_at + self._lease
        self._drop([shard for shard, epoch in self._epochs.items() if holding.epochs.get(shard) != epoch])
        gained = {shard: epoch for shard, epoch in holding.epochs.items() if shard not in self._epochs}
        if gained:
            await self._gain(self._writer.conn, gained)
        surplus = sorted(self._epochs)[holding.fair_share :]
        for outlet in self._outlets.values():
            outlet.lanes.leave(surplus)  # none: what was to be given away is kept after all
        if surplus:
            await self._give_away(self._writer.conn, surplus)

    async def _gain(self, conn: Connection, gained: dict[int, int]) -> None:
        async with self._changing, self._writing:
            heads = await event_log.find_heads(conn)
            await self._begin(conn, list(self._outlets.values()), gained, heads)
            self._epochs |= gained
            self._tail |= {shard: heads[shard] for shard in gained}
            await self._take_replays(conn, list(self._epochs))
        self._books.checkpoint_at = self._read_at = 0.0
        self._wake.set()
        log.info("dispatcher.gained", dispatcher=self._number, shards=len(gained), holds=len(self._epochs))

    async def _begin(
        self, conn: Connection, outlets: Collection[Outlet], shards: Collection[int], heads: dict[int, int]
    ) -> None:
        """Bring outlets to where these shards were left."""
        by_id = {outlet.receiver.id: outlet for outlet in outlets}
        if not by_id:
            return
        cursors = await deliveries.find_cursors(conn, list(by_id), shards)
        parked = await deliveries.list_parked(conn, list(by_id), shards)
        for key, outlet in by_id.items():
            mine = cursors.get(key, {})
            late = {shard: position for shard, (position, _) in mine.items() if position < heads[shard]}
            behind = await deliveries.count_behind(conn, late, outlet.receiver.viewer.channel_id, MOST_BEHIND)
            for shard, (position, done) in mine.items():
                outlet.lanes.add_shard(shard, position, done, behind.get(shard, 0))
        now = time.monotonic()
        for row in parked:
            lanes = by_id[row["subscription_id"]].lanes
            if row["shard"] in lanes.fronts:
                lanes.add_parked(
                    row["lane"], row["shard"], row["first_event_id"], row["attempts"], now + row["due"],
                    row["last_error"] or "", now,
                )  # fmt: skip

    async def _take_replays(self, conn: Connection, shards: Collection[int]) -> None:
        """Begin the replays that are new, end those that are cancelled."""
        alive: dict[UUID, set[tuple[UUID, int]]] = {key: set() for key in self._outlets}
        for row in await deliveries.list_replays(conn, shards):
            outlet = self._outlets.get(row["subscription_id"])
            if outlet is None or row["shard"] not in outlet.lanes.fronts:
                continue
            part = row["id"], row["shard"]
            alive[outlet.receiver.id].add(part)
            if part not in outlet.lanes.replays and part not in outlet.lanes.changes.replays:
                ids = frozenset(row["only_ids"]) if row["only_ids"] is not None else None
                run = ReplayRun(*part, row["position"], row["upto"], row["lane"], ids, row["since"], row["until"])
                outlet.lanes.add_replay(run)
        for key, outlet in self._outlets.items():
            outlet.lanes.keep_replays(alive[key])

    def _drop(self, lost: Collection[int]) -> None:
        """Forget shards that somebody else has."""
        if not lost:
            return
        log.warning("dispatcher.lost", dispatcher=self._number, shards=len(lost))
        for shard in lost:
            self._epochs.pop(shard, None)
            self._tail.pop(shard, None)
            for outlet in self._outlets.values():
                outlet.lanes.drop_shard(shard)
        self._books.forget(lost)

    async def _give_away(self, conn: Connection, surplus: list[int]) -> None:
        """Once nothing is in flight there, write down where it stands, and let go."""
        idle = self._idle(surplus)
        if not idle:
            return
        await self._flush(is_checkpoint=True)
        async with self._changing, self._writing:
            idle = self._idle(idle)  # a new subscription may have begun there meanwhile
            for shard in idle:
                self._epochs.pop(shard, None)
                self._tail.pop(shard, None)
                for outlet in self._outlets.values():
                    outlet.lanes.drop_shard(shard)
            await leases.release(conn, self._number, idle)
        log.info("dispatcher.gave_away", dispatcher=self._number, shards=len(idle), holds=len(self._epochs))

    def _idle(self, shards: Collection[int]) -> list[int]:
        return [shard for shard in shards if all(outlet.lanes.is_idle(shard) for outlet in self._outlets.values())]

    # Reading --------------------------------------------------------------------------------------------------------

    async def _follow_log(self, reader: Dedicated) -> None:
        """Read what did not come from memory: for the tail, for outlets behind it, for parked lanes and replays."""
        while True:
            is_idle = time.monotonic() - self._followed_at > IDLE
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    IDLE_POLL if is_idle else POLL
                ):  # wait_for may lose a cancellation to a wake (Python 3.11)
                    await self._wake.wait()
            self._wake.clear()
            async with translated():
                await self._look(reader)

    async def _look(self, reader: Dedicated) -> None:
        conn = reader.conn
        last, version = await event_log.find_pulse(conn)
        if self._is_stale or version != self._version:
            await self._reload(reader)
        if self._must_read(last, time.monotonic()):
            await self._read_tail(reader)
            self._top = max(self._top, last)
        for outlet in list(self._outlets.values()):
            await self._catch_up(conn, outlet)
            await self._load_parked(conn, outlet)
            await self._feed_replays(conn, outlet)
            if outlet.lanes.queued:
                outlet.staff()

    def _must_read(self, last: int, now: float) -> bool:
        """Whether the log may hold what was not published here. An id that was drawn and is not published yet is this
        process's own, more often than not: it is waited for, one turn.
        """
        if last > self._top:
            is_foreign = self._top < self._suspect or now - self._published_at > SURE
            self._suspect = last
            if is_foreign:
                self._late_until = now + LATE
        if now >= self._late_until and now - self._read_at < SURE:
            return False
        self._read_at = now
        return True

    async def _read_tail(self, reader: Dedicated) -> None:
        if not self._tail:
            return
        events = await event_log.list_after(reader.conn, self._tail, READ)
        if not events:
            return
        _, version = await event_log.find_pulse(reader.conn)
        if version != self._version:  # asked after the events: what changed before them is known before they go out
            await self._reload(reader)
        for event in events:
            if event.id > self._tail.get(event.shard, event.id):
                self._follow(event)
        self._followed_at = time.monotonic()
        if len(events) >= READ:
            self._read_at = 0.0  # there may be more
        self._wake.set()

    async def _catch_up(self, conn: Connection, outlet: Outlet) -> None:
        lanes = outlet.lanes
        room = WINDOW - lanes.undone
        if not lanes.late or not lanes.has_room or room < WINDOW // 4:
            return
        # A shard that is being taken over has fronts already, and no tail yet: it is judged when it has.
        read = {shard: lanes.fronts[shard].read for shard in lanes.late & self._tail.keys()}
        late = {shard: at for shard, at in read.items() if at < self._tail[shard]}
        for shard in read.keys() - late.keys():
            lanes.fronts[shard].behind = 0
            lanes.late.discard(shard)
        if not late:
            return
        events = await event_log.list_after(conn, late, min(READ, room // len(late) + 1))
        for event in events:
            outlet.catch_up(event)
        if events:
            self._wake.set()

    async def _load_parked(self, conn: Connection, outlet: Outlet) -> None:
        lanes, viewer = outlet.lanes, outlet.receiver.viewer
        for lane in lanes.due(time.monotonic(), LOADS):
            parked = lane.parked
            assert parked is not None
            upto = parked.last_id  # more may be covered while the log is read
            events = await event_log.list_lane(conn, lane.key, parked.first_id, upto, PAGE)
            read = events[-1].id if len(events) == PAGE else upto
            lanes.load(lane, events, [viewer.wants(event) for event in events], read, time.monotonic())

    async def _feed_replays(self, conn: Connection, outlet: Outlet) -> None:
        lanes, viewer = outlet.lanes, outlet.receiver.viewer
        for run in lanes.hungry():
            if lanes.replays.get((run.id, run.shard)) is not run:
                continue  # its shard went while another's events were read
            run.is_loading = True
            upto = min(run.upto, lanes.fronts[run.shard].read)
            if run.lane is not None:
                events = await event_log.list_lane(conn, run.lane, run.read + 1, upto, PAGE)
            else:
                events = await event_log.list_shard(conn, run.shard, run.read, upto, PAGE)
            read = events[-1].id if len(events) == PAGE else upto
            lanes.feed(run, events, [viewer.wants(event) for event in events], read)

    # Subscriptions --------------------------------------------------------------------------------------------------

    async def _reload(self, reader: Dedicated) -> None:
        """Bring outlets in line with the subscriptions."""
        self._is_stale = False
        conn = reader.conn
        async with self._changing:
            _, version = await event_log.find_pulse(conn)
            self._roster = await load_roster(conn, self._sealer, self._links)
            self._version = version
            await self._close_old()
            added = [self._outlet(key) for key in self._roster.receivers if key not in self._outlets]
            self._outlets |= {outlet.receiver.id: outlet for outlet in added}
            if self._epochs:
                await self._begin(conn, added, list(self._epochs), dict(self._tail))
                for outlet in added:
                    for shard in [shard for shard in outlet.lanes.fronts if shard not in self._epochs]:
                        outlet.lanes.drop_shard(shard)  # lost meanwhile
                async with self._writing:  # what is under way to the database is not read half
                    await self._take_replays(conn, list(self._epochs))
                    await self._release_held(conn)
        if not self._is_stale:
            self._permit.ready.set()

    def _outlet(self, key: UUID) -> Outlet:
        return Outlet(
            self._roster.receivers[key], self._client, self._body, self._permit, self._books.report,
            concurrency=self._concurrency,
        )  # fmt: skip

    def _body(self, event: Event, receiver: Receiver) -> bytes:
        return self._roster.body(event, receiver)

    async def _close_old(self) -> None:
        """End the outlets of subscriptions that ended, were paused, or began anew."""
        ended = []
        for key, outlet in self._outlets.items():
            receiver = self._roster.receivers.get(key)
            if receiver is None or receiver.run != outlet.receiver.run:
                ended.append(outlet)
            else:
                outlet.receiver, outlet.lanes.holds = receiver, receiver.holds
        if not ended:
            return
        for outlet in ended:
            await outlet.stop()
        await _whole(self._flush(is_checkpoint=True))
        for outlet in ended:
            del self._outlets[outlet.receiver.id]
            outlet.forget_metrics()
        async with self._writing:
            assert self._writer is not None
            gone = [outlet.receiver.id for outlet in ended]
            await deliveries.drop_states(self._writer.conn, self._number, gone)

    async def _release_held(self, conn: Connection) -> None:
        """Lanes that were held here, and that somebody has let go on."""
        held = [key for key, outlet in self._outlets.items() if outlet.lanes.has_held]
        now = time.monotonic()
        for row in await deliveries.list_parked(conn, held, list(self._epochs)) if held else ():
            if row["due"] < math.inf:
                lanes = self._outlets[row["subscription_id"]].lanes
                lanes.release_held(row["lane"], row["first_event_id"], row["attempts"], now)

    async def _pause(self, subscription_id: UUID, reason: Literal["gone", "failing"]) -> None:
        """The endpoint wants nothing more, or has done nothing but fail for days: tell the operator (A5, G3)."""
        async with self._database.transaction() as conn:
            events = await pause(conn, subscription_id, reason, datetime.now(UTC))
        self.publish(events)
        self.refresh()

    # Books ----------------------------------------------------------------------------------------------------------

    async def _keep_books(self) -> None:
        """Hold the shards, write down what happened, show how it goes."""
        while True:
            await _whole(self._turn_page())
            await asyncio.sleep(FLUSH)

    async def _turn_page(self) -> None:
        now = time.monotonic()
        try:
            async with translated():
                await self._write_page(now)
        except TryAgain:
            log.info("dispatcher.lost_a_race", dispatcher=self._number)  # all of it is kept for the next turn

    async def _write_page(self, now: float) -> None:
        if now >= self._hold_at:
            await self._hold()
            self._hold_at = now + HOLD
        is_checkpoint = now >= self._books.checkpoint_at
        await self._flush(is_checkpoint=is_checkpoint)
        if is_checkpoint:
            self._books.checkpoint_at = now + CHECKPOINT
        if now >= self._show_at:
            await self._show()
            self._show_at = now + SHOW

    async def _flush(self, *, is_checkpoint: bool) -> None:
        """Write down what happened: all of it, but nothing of the shards that are lost."""
        assert self._writer is not None
        async with self._writing:
            checkpoint = sorted(self._epochs) if is_checkpoint else None
            progress = self._books.gather(self._outlets.values(), checkpoint)
            if checkpoint is None and not progress.shards:
                return
            try:
                conn = self._writer.conn
                while lost := await deliveries.record_progress(conn, self._number, self._epochs, progress):
                    self._drop(lost)
                    progress = progress.without(lost)
            except BaseException:
                self._books.put_back(progress)
                raise

    async def _show(self) -> None:
        """How subscriptions do: in the database for everybody, and in this process's metrics."""
        assert self._writer is not None
        now = time.monotonic()
        states = [(key, state) for key, outlet in self._outlets.items() if (state := outlet.news(now))]
        tallies = {key: outlet.take_tally() for key, outlet in self._outlets.items() if outlet.tally.counts}
        async with self._writing:
            if states:
                await deliveries.save_states(self._writer.conn, self._number, states)
            if tallies:
                await deliveries.save_health(self._writer.conn, tallies)
            failing = await deliveries.list_failing(self._writer.conn, FAILING)
        for outlet in list(self._outlets.values()):
            outlet.show(now)
            if outlet.is_gone:
                await self._pause(outlet.receiver.id, "gone")
        for key in failing:
            await self._pause(key, "failing")


async def _whole(work: Coroutine[None, None, None]) -> None:
    """Let it come to its end, also when cancelled, within the time a last write has: a statement that was broken off
    may have been carried out, or break off the next one.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=LAST_FLUSH)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise

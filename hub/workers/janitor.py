"""Housekeeping: partitions made ahead and dropped when their time has come; old keys, answers and history forgotten."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from hub.actions.expire import expire
from hub.actions.pick_up import expire_pickups
from hub.domain.ids import event_id
from hub.store import (
    click_totals,
    console_sessions,
    inbound,
    leases,
    lives,
    media_endings,
    presence,
    retention,
    sent_forms,
    stale_visits,
    traffic_rollup,
)
from hub.store.blobs import FOLDERS
from hub.store.files import Files
from hub.store.keeping import remove_unnamed, sweep
from hub.store.pool import Connection, Database, Dedicated, Record
from hub.workers import backlog

log = structlog.get_logger()

INTERVAL: Final = 60.0
"""Seconds between rounds, and how long one chore may go on pruning."""
LOOKS: Final = 6
"""How often in between it is counted what flowed."""
COUNTING: Final = 5.0
"""Seconds that one look at what flowed may take: what is left is for the next one."""
SILENCE: Final = 5 * INTERVAL
"""Seconds without a word after which the database ends our connection: another process keeps house then."""
ABANDONED: Final = 24 * 3600.0
"""Seconds after which bytes that no file has are nobody's."""
PICKUPS: Final = 100
"""Pick-ups that end in one transaction."""

_NEWEST: Final = "livemostrecent"
"""One process keeps house at a time: of several, the last to have counted is right."""
QUARANTINE = Gauge(
    "partyline_quarantine_open",
    "Quarantine entries that wait for somebody (1000: or more)",
    multiprocess_mode=_NEWEST,
)
PARTITIONS = Gauge(
    "partyline_partitions", "Partitions of log, attempts, clicks and visits", ["table"], multiprocess_mode=_NEWEST
)
PARTITION_BYTES = Gauge(
    "partyline_partition_bytes", "Their size on disk, indexes included", ["table"], multiprocess_mode=_NEWEST
)
HELD_BACK = Gauge(
    "partyline_partitions_held_back",
    "Partitions of the event log kept beyond their age, for a subscriber",
    multiprocess_mode=_NEWEST,
)
DROPPED = Counter("partyline_partitions_dropped", "Partitions dropped", ["table"])
ENDED_FILES = Counter("partyline_media_expired", "Files that were kept as long as the operator wants")
EXPIRED = Counter("partyline_subscriptions_expired", "Paused subscriptions that lost events to retention")

Prune = Callable[[Connection], Awaitable[int]]


class Janitor:
    """One at a time, whichever process gets there first."""

    def __init__(
        self,
        database: Database,
        *,
        inbound_key_days: int,
        event_retention_days: float,
        attempt_retention_days: float,
        click_retention_days: float = 180,
        address_retention_days: float = 30,
        visit_retention_days: float = 400,
        files: Files | None = None,
        media_retention_days: float = 0,
        media_upload_retention_days: float = 0,
        settle: float = 0,
    ) -> None:
        """`settle`: seconds after the start in which only what cannot wait is done, the partitions. Where the days of
        files are 0, they stay.
        """
        self._database = database
        self._files = files
        self._file_age = timedelta(days=media_retention_days)
        self._upload_age = timedelta(days=media_upload_retention_days)
        self._folder = 0
        self._key_days = inbound_key_days
        self._event_age = timedelta(days=event_retention_days)
        self._attempt_age = timedelta(days=attempt_retention_days)
        self._click_age = timedelta(days=click_retention_days)
        self._address_age = timedelta(days=address_retention_days)
        self._visit_age = timedelta(days=visit_retention_days)
        self._settle = settle
        self._held = 0

    async def run(self) -> None:
        """Wait for the ownership, then keep house until cancelled."""
        owner = await self._database.dedicated()
        try:
            await leases.own(owner.conn, leases.JANITOR)
            await leases.limit_silence(owner.conn, SILENCE)
            await self._do(owner, self._make_partitions)
            await asyncio.sleep(self._settle)
            while True:
                await self._round(owner)
                for _ in range(LOOKS):
                    await asyncio.sleep(INTERVAL / LOOKS)
                    await self._do(owner, self._count_traffic)
        finally:
            for gauge in (QUARANTINE, HELD_BACK, *backlog.GAUGES):
                gauge.set(0)  # another process counts from now on
            await owner.close()

    async def _round(self, owner: Dedicated) -> None:
        """Every chore, whatever becomes of the others. Raises `Unavailable` where the connection is gone."""
        chores = (
            self._make_partitions,
            self._count_traffic,
            self._drop_events,
            self._drop_attempts,
            self._drop_clicks,
            self._drop_origins,
            self._drop_visits,
            self._expire_pickups,
            self._prune_presence,
            self._prune_keys,
            self._prune_answers,
            self._prune_orphans,
            self._prune_delivered,
            self._prune_replays,
            self._prune_ranges,
            self._prune_receipts,
            self._prune_tokens,
            self._prune_sessions,
            self._prune_visitors,
            self._prune_sent_forms,
            self._prune_rulings,
            self._prune_calls,
            self._prune_traffic,
            self._end_files,
            self._end_uploads,
            self._sweep_files,
            self._count,
        )
        for chore in chores:
            await self._do(owner, chore)

    async def _do(self, owner: Dedicated, chore: Callable[[Dedicated], Awaitable[None]]) -> None:
        try:
            await chore(owner)
        except Exception as error:
            name = getattr(chore, "__name__", "").strip("_")
            log.exception("janitor.chore_failed", chore=name, error=type(error).__name__)
            await leases.confirm(owner.conn)

    async def _make_partitions(self, owner: Dedicated) -> None:
        async with owner.transaction() as conn:
            await retention.make_partitions(conn)

    async def _drop_events(self, owner: Dedicated) -> None:
        """Drop what is old enough and not needed by who is delivered to; all others are moved behind it first."""
        await retention.finish_drops(owner.conn, "event")
        async with owner.transaction() as conn:
            old = await retention.list_old(conn, self._event_age)
            needed = await retention.find_needed(conn, old[-1].upto, by_active=True) if old else None
        due = _below(needed, old)
        self._note_held(len(old) - len(due), needed)
        if not due:
            return
        upto = due[-1].upto
        await self._expire(owner, upto)
        async with retention.log_locked(owner.conn):
            async with owner.transaction() as conn:  # somebody may have been paused, or come, in between
                needed = await retention.find_needed(conn, upto, by_active=False)
            gone = _below(needed, due)
            await _drop(owner, "event", [part.name for part in gone])
        if gone:
            await _prune(owner, partial(retention.prune_dead, upto=gone[-1].upto), retention.PRUNE_BATCH)

    def _note_held(self, partitions: int, needed: int | None) -> None:
        HELD_BACK.set(partitions)
        if partitions > self._held:
            log.warning("retention.held_back", partitions=partitions, needed=event_id(needed or 0))
        self._held = partitions

    async def _expire(self, owner: Dedicated, upto: int) -> None:
        """Each in a transaction of its own, short as any other that concerns a subscription."""
        async with owner.transaction() as conn:
            laggards = await retention.list_laggards(conn, upto)
        for subscription_id in laggards:
            async with owner.transaction() as conn:
                told = await expire(conn, subscription_id, upto, datetime.now(UTC))
            if told:
                EXPIRED.inc()
                log.warning("subscription.expired", subscription=subscription_id.hex, upto=event_id(upto))

    async def _drop_attempts(self, owner: Dedicated) -> None:
        await _drop_days(owner, "attempt", self._attempt_age)

    async def _drop_clicks(self, owner: Dedicated) -> None:
        """One day after the other, since visitors are counted who are not in what is left. A day is counted in the
        transaction that drops it: once, however often that was cut short.
        """
        await retention.finish_detaching(owner.conn, "click")
        for name in await retention.list_detached(owner.conn, "click"):
            await _count_clicks(owner, name)
        async with owner.transaction() as conn:
            days = await retention.list_old_days(conn, "click", self._click_age)
        for name in days:
            await retention.detach_partition(owner.conn, "click", name)
            await _count_clicks(owner, name)

    async def _drop_origins(self, owner: Dedicated) -> None:
        await _drop_days(owner, "click_origin", self._address_age)

    async def _drop_visits(self, owner: Dedicated) -> None:
        await _drop_days(owner, "web_event", self._visit_age)

    async def _expire_pickups(self, owner: Dedicated) -> None:
        """The events are found in the log by whoever delivers them."""
        await _prune(owner, lambda conn: expire_pickups(conn, PICKUPS, datetime.now(UTC)), PICKUPS)

    async def _prune_presence(self, owner: Dedicated) -> None:
        await _prune(owner, presence.prune_presence, presence.PRUNE_BATCH)

    async def _prune_keys(self, owner: Dedicated) -> None:
        await _prune(owner, lambda conn: inbound.prune_keys(conn, self._key_days), inbound.PRUNE_BATCH)

    async def _prune_answers(self, owner: Dedicated) -> None:
        await _prune(owner, inbound.prune_answers, inbound.PRUNE_BATCH)

    async def _prune_orphans(self, owner: Dedicated) -> None:
        await _prune(owner, inbound.prune_orphans, inbound.PRUNE_BATCH)

    async def _prune_delivered(self, owner: Dedicated) -> None:
        await _prune(owner, partial(retention.prune_delivered, age=self._attempt_age), retention.PRUNE_BATCH)

    async def _prune_replays(self, owner: Dedicated) -> None:
        await _prune(owner, partial(retention.prune_replays, age=self._event_age), retention.REPLAY_BATCH)

    async def _prune_ranges(self, owner: Dedicated) -> None:
        await _prune(owner, partial(retention.prune_ranges, age=self._event_age), retention.PRUNE_BATCH)

    async def _prune_receipts(self, owner: Dedicated) -> None:
        await _prune(owner, stale_visits.prune_receipts, stale_visits.PRUNE_BATCH)

    async def _prune_tokens(self, owner: Dedicated) -> None:
        await _prune(owner, stale_visits.prune_tokens, stale_visits.PRUNE_BATCH)

    async def _prune_sessions(self, owner: Dedicated) -> None:
        await _prune(owner, console_sessions.prune_sessions, console_sessions.PRUNE_BATCH)

    async def _prune_visitors(self, owner: Dedicated) -> None:
        await _prune(owner, stale_visits.prune_visitors, stale_visits.PRUNE_BATCH)

    async def _prune_sent_forms(self, owner: Dedicated) -> None:
        await _prune(owner, sent_forms.prune_sent_forms, sent_forms.PRUNE_BATCH)

    async def _prune_rulings(self, owner: Dedicated) -> None:
        await _prune(owner, partial(lives.prune_rulings, age=self._attempt_age), lives.PRUNE_BATCH)

    async def _prune_calls(self, owner: Dedicated) -> None:
        await _prune(owner, partial(lives.prune_calls, age=self._attempt_age), lives.PRUNE_BATCH)

    async def _count_traffic(self, owner: Dedicated) -> None:
        """Each part in transactions of its own, as long as there is more and time."""
        until = time.monotonic() + COUNTING
        for count in (traffic_rollup.count_events, traffic_rollup.count_deliveries, traffic_rollup.count_attempts):
            while time.monotonic() < until:
                async with owner.transaction() as conn:
                    counted = await count(conn)
                if not counted:
                    break

    async def _prune_traffic(self, owner: Dedicated) -> None:
        await _prune(owner, traffic_rollup.prune_traffic, traffic_rollup.PRUNE_BATCH)

    async def _end_files(self, owner: Dedicated) -> None:
        """End what customers sent long ago."""
        if self._file_age:
            await self._end(owner, partial(media_endings.expire_received, age=self._file_age))

    async def _end_uploads(self, owner: Dedicated) -> None:
        """End what services uploaded, and have not sent for long."""
        if self._upload_age:
            await self._end(owner, partial(media_endings.expire_uploads, age=self._upload_age))

    async def _end(self, owner: Dedicated, expire: Callable[[Connection], Awaitable[list[Record]]]) -> None:
        """Batch by batch: the rows, and once that is committed the bytes that nothing else has."""
        until = time.monotonic() + INTERVAL
        while self._files and time.monotonic() < until:
            async with owner.transaction() as conn:
                gone = await expire(conn)
            hashes = {row["sha256"] for row in gone if row["sha256"]}
            removed = await remove_unnamed(self._database, self._files, hashes)
            ENDED_FILES.inc(len(gone))
            if gone:
                log.info("media.expired", files=len(gone), removed=removed)
            if len(gone) < media_endings.BATCH:
                return

    async def _sweep_files(self, owner: Dedicated) -> None:
        """Remove what processes that were killed left behind: one folder a round, all of them within hours."""
        if self._files:
            await leases.confirm(owner.conn)
            await asyncio.to_thread(self._files.open)
            removed = await sweep(self._database, self._files, self._folder, ABANDONED)
            self._folder = (self._folder + 1) % FOLDERS
            if removed:
                log.info("media.swept", removed=removed)

    async def _count(self, owner: Dedicated) -> None:
        async with owner.transaction() as conn:
            QUARANTINE.set(await inbound.count_open(conn))
            await backlog.count(conn)
            for table, (partitions, size) in (await retention.find_sizes(conn)).items():
                PARTITIONS.labels(table).set(partitions)
                PARTITION_BYTES.labels(table).set(size)


def _below(needed: int | None, partitions: list[retention.Partition]) -> list[retention.Partition]:
    """Those whose every id is below the one that is needed."""
    return [part for part in partitions if needed is None or part.upto < needed]


async def _drop_days(owner: Dedicated, table: retention.Table, age: timedelta) -> None:
    """Drop the partitions of a table by day in which all is older than this."""
    await retention.finish_drops(owner.conn, table)
    async with owner.transaction() as conn:
        days = await retention.list_old_days(conn, table, age)
    await _drop(owner, table, days)


async def _count_clicks(owner: Dedicated, name: str) -> None:
    async with owner.transaction() as conn:
        await click_totals.count_and_drop(conn, name)
    _note_drop("click", name)


async def _drop(owner: Dedicated, table: retention.Table, names: list[str]) -> None:
    for name in names:
        await retention.drop_partition(owner.conn, table, name)
        _note_drop(table, name)


def _note_drop(table: retention.Table, name: str) -> None:
    DROPPED.labels(table).inc()
    log.info("partition.dropped", name=name)


async def _prune(owner: Dedicated, prune: Prune, batch: int) -> None:
    """Batch by batch, each in a transaction of its own, until nothing is left or it is time for the other chores."""
    until = time.monotonic() + INTERVAL
    while time.monotonic() < until:
        async with owner.transaction() as conn:
            pruned = await prune(conn)
        if pruned < batch:
            return

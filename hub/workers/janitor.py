"""Housekeeping: partitions made ahead, old keys and answers forgotten."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from prometheus_client import Gauge

from hub.store import event_log, inbound, leases
from hub.store.pool import Connection, Database, Dedicated

log = structlog.get_logger()

INTERVAL: Final = 60.0
"""Seconds between rounds, and how long one chore may go on pruning."""

QUARANTINE = Gauge("partyline_quarantine_open", "Quarantine entries that wait for somebody (1000: or more)")

Prune = Callable[[Connection], Awaitable[int]]


class Janitor:
    """One at a time, whichever process gets there first."""

    def __init__(self, database: Database, *, inbound_key_days: int) -> None:
        self._database = database
        self._key_days = inbound_key_days

    async def run(self) -> None:
        """Wait for the ownership, then keep house until cancelled."""
        owner = await self._database.dedicated()
        try:
            await leases.own(owner.conn, leases.JANITOR)
            while True:
                await self._round(owner)
                await asyncio.sleep(INTERVAL)
        finally:
            await owner.close()

    async def _round(self, owner: Dedicated) -> None:
        """Every chore, whatever becomes of the others. Raises `Unavailable` where the connection is gone."""
        chores = (self._make_partitions, self._prune_keys, self._prune_answers, self._prune_orphans, self._count)
        for chore in chores:
            try:
                await chore(owner)
            except Exception as error:
                log.exception("janitor.chore_failed", chore=chore.__name__.strip("_"), error=type(error).__name__)
                await leases.confirm(owner.conn)

    async def _make_partitions(self, owner: Dedicated) -> None:
        async with owner.transaction() as conn:
            await event_log.make_partitions(conn)

    async def _prune_keys(self, owner: Dedicated) -> None:
        await _prune(owner, lambda conn: inbound.prune_keys(conn, self._key_days))

    async def _prune_answers(self, owner: Dedicated) -> None:
        await _prune(owner, inbound.prune_answers)

    async def _prune_orphans(self, owner: Dedicated) -> None:
        await _prune(owner, inbound.prune_orphans)

    async def _count(self, owner: Dedicated) -> None:
        async with owner.transaction() as conn:
            QUARANTINE.set(await inbound.count_open(conn))


async def _prune(owner: Dedicated, prune: Prune) -> None:
    """Batch by batch, each in a transaction of its own, until nothing is left or it is time for the other chores."""
    until = time.monotonic() + INTERVAL
    while time.monotonic() < until:
        async with owner.transaction() as conn:
            pruned = await prune(conn)
        if pruned < inbound.PRUNE_BATCH:
            return

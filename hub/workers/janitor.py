"""Housekeeping: partitions made ahead, old keys and answers forgotten."""

import asyncio
from typing import Final

from prometheus_client import Gauge

from hub.store import event_log, inbound, leases, outbox
from hub.store.pool import Database

INTERVAL: Final = 60.0
"""Seconds between rounds."""

QUARANTINE = Gauge("partyline_quarantine_open", "Quarantine entries that wait for somebody (1000: or more)")


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
                async with owner.transaction() as conn:
                    await event_log.make_partitions(conn)
                    await inbound.prune_keys(conn, self._key_days)
                    await outbox.prune_answers(conn)
                    QUARANTINE.set(await inbound.count_open(conn))
                await asyncio.sleep(INTERVAL)
        finally:
            await owner.close()

"""Clicks are told exactly once, whichever of two gateways is killed meanwhile (rule G2)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hub.store.pool import Database
from tests.integration.test_teller import LINKS, PREPARE, Bench
from tests.support.serving import HubProcess, make_simulator
from tests.support.wire import connected, until

pytestmark = pytest.mark.soak

ROUNDS = 6
CLICKS = 1_000
"""In each round, in batches of 50."""


async def test_g2_a_gateway_that_is_killed_loses_no_click_and_tells_none_twice(
    database_url: str, tmp_path: Path
) -> None:
    environment = {"PARTYLINE_ROLES": "gateway", "PARTYLINE_TRACKING_CONSENT": "off"}
    gateways = [HubProcess(tmp_path / str(n) / "data", database_url, environment=environment) for n in range(2)]
    unused: Any = Database(lambda: {"dsn": database_url})
    async with make_simulator() as simulator, connected(database_url) as conn:
        await conn.execute(PREPARE)
        await conn.execute(LINKS)
        bench = Bench(conn, unused)
        for gateway in gateways:
            gateway.data_dir.parent.mkdir()
            await gateway.start(simulator)
        try:
            for number in range(ROUNDS):
                for _ in range(CLICKS // 50):
                    await bench.click(50)
                await asyncio.sleep(0.1 + 0.07 * number)  # somewhere in the middle of it
                victim = gateways[number % 2]
                await victim.end()
                await victim.start(simulator)
            await until(lambda: conn.fetchval("select not exists (select from click_untold)"), 60)
        finally:
            for gateway in gateways:
                await gateway.end()
        await bench.check()

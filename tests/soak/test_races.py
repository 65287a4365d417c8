"""Races, two hundred rounds each (rules A2, A5, A6, E2 to E8)."""

import time
from pathlib import Path

import pytest

from tests.support.races import RACES, Arena, killed_after_the_call
from tests.support.serving import HubProcess, serving
from tests.support.world import world

pytestmark = pytest.mark.soak

ROUNDS = 200
NO_LIMITS = {
    "agent_per_minute": 0, "service_per_minute": 0, "whatsapp_rate": 1000.0, "sms_rate": 1000.0,
    "whatsapp_pair_burst": 100_000,
}  # fmt: skip
"""The rounds follow each other faster than people write."""


@pytest.mark.parametrize("name", list(RACES))
async def test_a_race_ends_as_the_rules_say(name: str, database_url: str, tmp_path: Path) -> None:
    began = time.perf_counter()
    async with world(database_url, tmp_path, **NO_LIMITS) as made:
        await RACES[name](Arena(made, database_url), ROUNDS)
    print(f"{name}: {ROUNDS} rounds in {time.perf_counter() - began:.0f} s")  # noqa: T201


async def test_e8_a_sender_killed_after_the_call_leaves_an_unknown(database_url: str, tmp_path: Path) -> None:
    process = HubProcess(tmp_path, database_url)
    began = time.perf_counter()
    async with serving(process) as made:
        await killed_after_the_call(Arena(made, database_url), ROUNDS, process)
    print(f"kill -9 after the call: {ROUNDS} rounds in {time.perf_counter() - began:.0f} s")  # noqa: T201

"""Races, three rounds each, a kill once (rules A2, A5, A6, E2 to E8); `make soak` runs two hundred."""

from pathlib import Path

import pytest

from tests.support.races import RACES, Arena, killed_after_the_call
from tests.support.serving import HubProcess, serving
from tests.support.world import world

ROUNDS = 3


@pytest.mark.parametrize("name", list(RACES))
async def test_a_race_ends_as_the_rules_say(name: str, database_url: str, tmp_path: Path) -> None:
    async with world(database_url, tmp_path, whatsapp_pair_burst=1000) as made:  # no customer is told so much
        await RACES[name](Arena(made, database_url), ROUNDS)


async def test_e8_a_sender_killed_after_the_call_leaves_an_unknown(database_url: str, tmp_path: Path) -> None:
    process = HubProcess(tmp_path, database_url)
    async with serving(process) as made:
        await killed_after_the_call(Arena(made, database_url), 1, process)

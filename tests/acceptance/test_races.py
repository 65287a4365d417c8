"""Races, three rounds each (rules A2, A5, A6, E2 to E8); `make soak` runs two hundred."""

from pathlib import Path

import pytest

from tests.support.races import RACES, Arena
from tests.support.world import world

ROUNDS = 3


@pytest.mark.parametrize("name", list(RACES))
async def test_a_race_ends_as_the_rules_say(name: str, database_url: str, tmp_path: Path) -> None:
    async with world(database_url, tmp_path, whatsapp_pair_burst=1000) as made:  # no customer is told so much
        await RACES[name](Arena(made, database_url), ROUNDS)

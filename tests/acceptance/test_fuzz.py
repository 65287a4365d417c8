"""Mutated bodies of both providers with right signatures: never an error, never a lost neighbour (rules B2, B5).

The long one is tests/soak/test_fuzz.py.
"""

from tests.support.fuzzing import make_cases, post_all, quarantined, stored_once
from tests.support.wire import Wire
from tests.support.world import World

FAULTS = {"parser_failed", "not_storable"}


async def test_b5_mutated_bodies_harm_nobody(hub_world: World, database_url: str) -> None:
    cases = make_cases(150, seed=6, with_corpus=False)
    found = await post_all(Wire(hub_world), cases)
    assert found.wrong == []
    assert await stored_once(database_url, cases) == {}
    reasons = await quarantined(database_url)
    assert len(reasons) > 3
    assert not FAULTS & set(reasons)


def test_the_same_seed_makes_the_same_bodies() -> None:
    assert make_cases(40, seed=1) == make_cases(40, seed=1) != make_cases(40, seed=2)

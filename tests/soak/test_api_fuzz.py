"""Thousands of requests made of the OpenAPI document: no 5xx, and no answer that is not in it."""

import pytest

from tests.support import contract, fuzz
from tests.support.world import Open

pytestmark = pytest.mark.soak

contract.install()
LINKS = {"link_base_url": "https://l.shop.example", "site_domains": ("shop.example",)}


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_h1_no_request_finds_a_5xx_or_an_undocumented_answer(open_world: Open, seed: int) -> None:
    contract.told()
    town = await fuzz.settle(await open_world(**LINKS))
    requests = 0
    for who in ("service", "operator", "open"):
        found = await town.attack(who, max_examples=25, phases=("examples", "coverage", "fuzzing"), seed=seed)
        assert not found.problems, "\n\n".join(found.problems)
        requests += found.requests
    assert not (found_too := contract.told()), "\n".join(found_too)
    assert requests > 2000

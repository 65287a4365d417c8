"""5,000 mutated bodies of both providers with right signatures: no 5xx, no 4xx, no lost neighbour (rules B2, B5)."""

import os
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.fuzzing import make_cases, post_all, quarantined, stored_once
from tests.support.wire import Wire, ask
from tests.support.world import world

pytestmark = pytest.mark.soak

COUNT = int(os.environ.get("FUZZ_BODIES", "5000"))
SEED = int(os.environ.get("FUZZ_SEED", "20261122"))


async def test_b5_mutated_bodies_harm_nobody(database_url: str, tmp_path: Path) -> None:
    cases = make_cases(COUNT, SEED)
    async with world(database_url, tmp_path) as made:
        began = time.monotonic()
        found = await post_all(Wire(made), cases)
        seconds = time.monotonic() - began
    missing = await stored_once(database_url, cases)
    reasons = await quarantined(database_url)
    messages = await ask(database_url, "select count(*) from message")
    Console(width=110).print(
        f"\nseed {SEED}: {len(cases)} mutated bodies, each with an intact message, in {seconds:.0f} s",
        f"answers: {dict(found.answers)}; messages stored: {messages}; intact ones not stored once: {len(missing)}",
        "kept: " + ", ".join(f"{reason} {count}" for reason, count in reasons.items()),
        sep="\n",
    )
    assert found.wrong == []
    assert missing == {}
    assert not {"parser_failed", "not_storable"} & set(reasons)

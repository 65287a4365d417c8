"""`partyline simulate` against a hub that runs: a scenario, a mixed load over both providers, and what they lack."""

from pathlib import Path
from typing import Any

import pytest

from hub import simulate
from tests.support.wire import ask, until
from tests.support.world import World, settings_for

MIX: dict[str, Any] = {
    "messages": 60,
    "customers": 10,
    "batch": 5,
    "duplicates": 0.2,
    "reorder": 0.2,
    "twilio": 0.4,
    "outage": 0.0,
    "no_phone": 0.3,
    "seed": 3,
    "concurrency": 4,
}


async def test_scenarios_and_a_mixed_load_reach_a_hub(
    hub_world: World, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(hub_world.simulator, database_url, tmp_path)

    async def play(scenario: str, **more: Any) -> tuple[int, str]:
        code = await simulate.traffic(settings, scenario=scenario, hub_url=hub_world.hub.url, **(MIX | more))
        return code, "".join(capsys.readouterr())

    code, output = await play("handover")
    assert code == 0, output
    assert "answered 200" in output
    handovers = "select count(*)::int from event where type = 'conversation.handover'"
    await until(lambda: is_so(database_url, handovers, 2))

    talk = "select count(*)::int from message where origin = 'customer'"
    before = await ask(database_url, talk)
    for _ in range(2):  # the second time they are repeats
        code, output = await play("mixed")
        assert code == 0, output
        assert "Posted as Meta and Twilio" in output
    reactions = "select count(*)::int from event where type = 'reaction.changed'"
    assert await ask(database_url, talk) - before + await ask(database_url, reactions) == MIX["messages"]

    code, output = await play("mixed", outage=0.5)
    assert (code, "--outage needs --api-port" in output) == (1, True)
    code, output = await play("outage")
    assert (code, "outage needs --api-port" in output) == (1, True)
    code, output = await play("outage", api_port=0, stay=0.0)
    assert (code, "lost on purpose" in output) == (0, True)


async def is_so(database_url: str, sql: str, wanted: int) -> bool:
    """Whether the count is there."""
    return bool(await ask(database_url, sql) == wanted)

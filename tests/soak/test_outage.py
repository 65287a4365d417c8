"""The hub is killed while 200 messages come over Twilio, and comes back: all are there, once, in order (rule B3)."""

import asyncio
import shutil
import signal
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from providers.simulator import Customer, NotAccepted, Person
from tests.support.serving import HubProcess, serving
from tests.support.wire import until
from tests.support.world import World

pytestmark = pytest.mark.soak

MESSAGES, CUSTOMERS = 200, 12
KILLED_AT, BACK_AT = 50, 150


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that PostgreSQL's user can reach, as root too."""
    folder = Path(tempfile.mkdtemp(prefix="partyline-outage-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder, ignore_errors=True)


async def write_all(made: World, process: HubProcess) -> int:
    """Write, kill the hub in the middle of it, start it again later; gives how many were answered."""
    people = [Person(f"+4915100000{n:03}") for n in range(CUSTOMERS)]
    customers = [
        Customer(made.simulator, p, made.simulator.numbers[0], provider="twilio", medium="sms") for p in people
    ]
    answered, starting = 0, None
    for n in range(MESSAGES):
        if n == KILLED_AT:
            await process.end(signal.SIGKILL)
        if n == BACK_AT:
            starting = asyncio.create_task(process.start(made.simulator))
        with suppress(NotAccepted):
            await customers[n % CUSTOMERS].says(f"{n:03}")
            answered += 1
        await asyncio.sleep(0.05)
    if starting:
        await starting
    return answered


async def test_b3_a_killed_hub_misses_no_message(data_dir: Path) -> None:
    process = HubProcess(data_dir)
    async with serving(process) as made:
        made.simulator.hub_url = process.url
        (helpdesk,) = await made.connected("helpdesk")
        answered = await write_all(made, process)
        assert answered <= MESSAGES - (BACK_AT - KILLED_AT)

        def told() -> dict[str, str]:
            """Each event once: deliveries may repeat (G2)."""
            return {d.id: d.data["message"]["text"] for d in helpdesk.endpoint.of("message.received")}

        with suppress(TimeoutError):
            await until(lambda: len(told()) >= MESSAGES, 60)
        assert sorted(told().values()) == [f"{n:03}" for n in range(MESSAGES)]
        fetched = defaultdict(dict)
        for delivery in helpdesk.endpoint.of("message.received"):
            if delivery.data["message"].get("reconciled"):
                place = delivery.data["conversation"]["sequence"]
                fetched[delivery.data["conversation"]["id"]][place] = delivery.data["message"]["text"]
        assert sum(map(len, fetched.values())) >= MESSAGES - answered
        for talk in fetched.values():
            texts = [talk[place] for place in sorted(talk)]
            assert texts == sorted(texts)

"""The long form of the kill: embedded PostgreSQL, 2,000 webhooks, hub and postmaster killed in turn (B3, G2)."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest

from providers.simulator import Simulator
from tests.support.serving import Burst, HubProcess, assert_heard, make_simulator, register, remote_world
from tests.support.wire import Wire, until
from tests.support.world import World

pytestmark = pytest.mark.soak

MESSAGES = 2_000


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that PostgreSQL's user can reach, as root too."""
    folder = Path(tempfile.mkdtemp(prefix="partyline-kill-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with make_simulator() as made:
        yield made


@pytest.fixture
async def process(data_dir: Path, simulator: Simulator) -> AsyncIterator[HubProcess]:
    made = HubProcess(data_dir)
    await made.start(simulator)
    yield made
    await made.end(signal.SIGTERM)


@pytest.fixture
async def made(process: HubProcess, simulator: Simulator) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        world = remote_world(process, simulator, session)
        await register(world)
        yield world
        for subscriber in world.subscribers:
            await subscriber.stop()


def postmaster(data_dir: Path) -> int:
    """The pid of the server this very hub started, or 0."""
    try:
        return int((data_dir / "postgres" / "cluster" / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return 0


async def test_b3_the_hub_is_killed_three_times_in_a_burst_of_2000(
    made: World, process: HubProcess, simulator: Simulator
) -> None:
    services = await made.connected("helpdesk", "crm", "marketing")
    burst = Burst(Wire(made), MESSAGES, customers=40)
    posting = asyncio.create_task(burst.run())
    for share in (0.2, 0.45, 0.7):
        await burst.reaches(int(MESSAGES * share * 0.8))
        await process.end(signal.SIGKILL)
        await process.start(simulator)
    await posting
    for service in services:
        await assert_heard(service, burst, 120)


async def test_b3_the_postmaster_is_killed_in_a_burst_of_2000(made: World, process: HubProcess, data_dir: Path) -> None:
    services = await made.connected("helpdesk", "crm", "marketing")
    burst = Burst(Wire(made), MESSAGES, customers=40)
    posting = asyncio.create_task(burst.run())
    for share in (0.25, 0.6):
        await burst.reaches(int(MESSAGES * share * 0.8))
        victim = postmaster(data_dir)
        assert victim
        os.kill(victim, signal.SIGKILL)
        await until(lambda victim=victim: postmaster(data_dir) not in {0, victim}, 30)
    await posting
    for service in services:
        await assert_heard(service, burst, 120)


async def test_b3_hub_and_postmaster_are_killed_together(
    made: World, process: HubProcess, simulator: Simulator, data_dir: Path
) -> None:
    services = await made.connected("helpdesk", "crm", "marketing")
    burst = Burst(Wire(made), MESSAGES // 2, customers=40)
    posting = asyncio.create_task(burst.run())
    await burst.reaches(MESSAGES // 6)
    victim = postmaster(data_dir)
    await process.end(signal.SIGKILL)
    if postmaster(data_dir) == victim:
        with suppress(ProcessLookupError):  # it ended with its owner
            os.kill(victim, signal.SIGKILL)
    await process.start(simulator)
    await posting
    for service in services:
        await assert_heard(service, burst, 120)

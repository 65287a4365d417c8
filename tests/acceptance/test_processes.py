"""Several processes behind one port: none is missed when it is killed, replaced, or loses its parent."""

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.processes import Fleet, listening
from tests.support.commands import environment, partyline, run
from tests.support.cut import line_to
from tests.support.serving import Burst, HubProcess, SteadyLoad, assert_heard, serving
from tests.support.wire import Wire, ask, sms, until
from tests.support.world import World

TOLD = {"PARTYLINE_LOG_LEVEL": "info", "PARTYLINE_DELIVERY_TIMEOUT": "1"}
"""What a killed process held is taken over once the longest delivery it may have begun is over."""
TWO = {**TOLD, "PARTYLINE_PROCESSES": "2"}


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def is_free(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def measured(made: World, name: str) -> float:
    """The sum of a metric over its labels, as the process says that the scrape meets."""
    text = (await made.call("GET", "/metrics")).json.decode()
    return sum(float(found) for found in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


@pytest.mark.soak
async def test_b3_no_request_is_lost_when_a_process_is_killed_or_all_are_replaced(
    database_url: str, tmp_path: Path
) -> None:
    """What was acknowledged is delivered in order; a rolling restart answers every request, over any connection."""
    file = tmp_path / "hub.env"
    file.write_text("PARTYLINE_ROLES=gateway,fanout,sender,janitor")
    environment = {**TOLD, "PARTYLINE_PROCESSES": "1", "PARTYLINE_ENV_FILE": str(file)}
    process = HubProcess(tmp_path, database_url, arguments=("--processes", "2"), environment=environment)
    async with serving(process) as made:
        services = await made.connected("helpdesk", "crm")
        await until(lambda: len(process.says("hub.started")) == 2)
        burst = await _kill_one_in_a_burst(process, made)
        file.write_text("PARTYLINE_ROLES=gateway,fanout")
        load = await _roll_under_load(process, made)
        assert [line["roles"] for line in process.says("hub.started")[-2:]] == ["gateway,fanout"] * 2
        for service in services:
            await assert_heard(service, burst)
            await assert_heard(service, load)
        assert await ask(database_url, "select count(*) from contact") <= 30
        workers = process.workers()
        assert await process.end(signal.SIGTERM) == 0
        assert not any(map(is_alive, workers))
        assert is_free(process.port)


async def _kill_one_in_a_burst(process: HubProcess, made: World) -> Burst:
    """It is started again, and the counters go on where it left them."""
    burst = Burst(Wire(made), 300)
    posting = asyncio.create_task(burst.run())
    await burst.reaches(80)
    assert await measured(made, "partyline_webhooks_total") >= 80
    killed, other = process.workers()
    os.kill(killed, signal.SIGKILL)
    await posting
    assert len(burst.acknowledged) >= 225  # all of Meta's
    await until(lambda: len(process.says("hub.started")) == 3)
    assert other in process.workers()
    assert await measured(made, "partyline_webhooks_total") >= len(burst.acknowledged)
    return burst


async def _roll_under_load(process: HubProcess, made: World) -> SteadyLoad:
    """Each request is answered 200, by processes that were not there before.

    If the old ones are stopped instead of drained, some are cut off (tried: it fails then).
    """
    before = process.workers()
    load = SteadyLoad(process.port, Wire(made))
    posting = asyncio.create_task(load.run())
    await load.reaches(100)
    await process.roll()
    await load.reaches(load.outcomes.total() + 50)
    load.stop()
    await posting
    assert set(load.outcomes) == {"200"}
    assert load.goodbyes >= 1  # to those that a worker held when it went
    assert len(process.workers()) == 2
    assert not set(before) & set(process.workers())
    return load


async def test_b3_without_its_parent_a_worker_ends_and_its_spool_is_read(database_url: str, tmp_path: Path) -> None:
    """The database is away and the parent is killed: nobody stays on the port. One process later brings it all in."""
    async with line_to(database_url) as (url, line):
        process = HubProcess(tmp_path, url, environment=TWO)
        async with serving(process) as made:
            await until(lambda: len(process.says("hub.started")) == 2)
            await line.down()
            for n in range(20):
                async with aiohttp.ClientSession() as fresh:
                    made.session = fresh
                    assert (await Wire(made).twilio(sms(f"{n}"))).status == 200
            workers = process.workers()
            await process.end(signal.SIGKILL)
            await until(lambda: not any(map(is_alive, workers)))
            assert is_free(process.port)
            await line.up()
            process.environment = {**TOLD, "PARTYLINE_ROLES": "fanout"}
            process.arguments = ("--roles", "gateway,janitor")
            await process.start(made.simulator)
            assert process.says("hub.started")[-1]["roles"] == "gateway,janitor"

            async def are_there() -> bool:
                stored = "select array_agg(content::json ->> 'text' order by content::json ->> 'text') from message"
                return bool(await ask(database_url, stored) == sorted(map(str, range(20))))

            await until(are_there)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that PostgreSQL's user can reach, as root too."""
    folder = Path(tempfile.mkdtemp(prefix="processes-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.soak
async def test_two_processes_share_the_embedded_database(place: Path) -> None:
    """Also the next parent takes over the server of one that was killed."""
    process = HubProcess(place / "data", environment=TWO)
    async with serving(process) as made:
        (service,) = await made.connected("helpdesk")
        burst = Burst(Wire(made), 60)
        await burst.run()
        await assert_heard(service, burst)
        workers = process.workers()
        await process.end(signal.SIGKILL)
        await until(lambda: not any(map(is_alive, workers)))
        assert is_free(process.port)
        process.environment = TOLD
        await process.start(made.simulator)
        assert (await service.call("GET", "/v1/conversations")).json["items"]
        assert await process.end(signal.SIGTERM) == 0


async def test_what_keeps_several_processes_from_running_is_said_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = "postgresql://x@127.0.0.1:1/none"
        env = environment(port=taken.getsockname()[1], data_dir=tmp_path, database_url=nowhere)
        code, output = await run(*partyline("serve", "--processes", "2"), env=env)
    assert (code, output.count("partyline: ")) == (1, 1)
    assert "partyline: not_possible: Address already in use" in output
    code, output = await run(*partyline("serve", "--roles", "gateway,clown"), env=environment(data_dir=tmp_path))
    assert code == 1
    assert "PARTYLINE_ROLES: " in output
    for words in (["serve", "--processes", "0"], ["worker"]):
        code, output = await run(*partyline(*words))
        assert code == 2
        assert "Usage: " in output


# The parent, with workers that only play their part ------------------------------------------------------------------

PART = """
import json, pathlib, signal, socket, time
line = socket.socket(fileno=0)
orders = json.loads(line.makefile("rb", buffering=0).readline())
lives = pathlib.Path(orders["overrides"]["lives"])
with lives.open("a") as file:
    file.write("x")
life = lives.stat().st_size
def say(word): line.send(word + b"\\n")
def stay(): raise SystemExit(0 if line.recv(99) == b"drain\\n" else 9)
"""


class Play:
    """A fleet whose workers run a script each."""

    def __init__(self, script: str, lives: Path) -> None:
        command = [sys.executable, "-S", "-c", PART + script]
        self.fleet = Fleet(command, [], overrides={"lives": str(lives)})
        self.stop, self.roll, self.has_started = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._lives = lives

    @property
    def lives(self) -> int:
        return self._lives.stat().st_size if self._lives.exists() else 0

    async def run(self, count: int = 1) -> int:
        async with asyncio.timeout(30):
            return await self.fleet.run(count, stop=self.stop, roll=self.roll, on_started=self.has_started.set)


async def test_workers_that_cannot_live_end_the_hub(tmp_path: Path) -> None:
    play = Play("say(b'listening'); raise SystemExit(70)", tmp_path / "lives")
    assert await play.run() == 70
    assert play.lives == 3


async def test_a_hub_that_cannot_start_says_so_with_its_worker_s_code(tmp_path: Path) -> None:
    play = Play("raise SystemExit(1)", tmp_path / "lives")
    assert await play.run() == 1
    assert not play.has_started.is_set()


async def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    """Killed while the hub starts, then with a code that would have kept it from starting."""
    script = """
if life == 1: signal.raise_signal(signal.SIGKILL)
say(b"listening")
if life == 2: raise SystemExit(1)
say(b"ready"); stay()
"""
    play = Play(script, tmp_path / "lives")
    playing = asyncio.create_task(play.run())
    await play.has_started.wait()
    await until(lambda: play.lives == 3)
    play.stop.set()
    assert await playing == 0


async def test_a_replacement_that_does_not_become_ready_leaves_the_others_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second replacement fails, so the second worker stays; the next time, both are replaced."""
    script = """
say(b"listening")
if life == 4: raise SystemExit(1)
say(b"ready"); stay()
"""
    play = Play(script, tmp_path / "lives")
    playing = asyncio.create_task(play.run(2))
    await play.has_started.wait()
    said: list[Any] = []

    async def outcome(event: str) -> None:
        play.roll.set()

        def is_said() -> bool:
            said.append(capsys.readouterr().out)
            return event in "".join(said)

        await until(is_said)

    await outcome("processes.roll_failed")
    assert play.lives == 4
    await outcome("processes.rolled")
    assert play.lives == 6
    play.stop.set()
    assert await playing == 0


def test_an_address_that_is_taken_is_refused() -> None:
    """One parent must not share the port of another by accident."""
    with (
        listening("127.0.0.1", 0, 8) as (first,),
        pytest.raises(OSError, match="in use"),
        listening("127.0.0.1", first.getsockname()[1], 8),
    ):
        pass
    with listening("localhost", 0, 8) as found:
        assert len({one.getsockname()[1] for one in found}) == 1

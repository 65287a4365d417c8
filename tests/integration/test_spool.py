"""The spool on a real disk: a full one, a killed process, a long queue; and what empties it, in order (B3)."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from hub.actions.arrivals import Arrival
from hub.domain.errors import Unavailable
from hub.store.pool import Database
from hub.store.spool import Spool, Spooled
from hub.workers import respool
from hub.workers.intake import Intake
from hub.workers.respool import Respool
from providers.base import MessageReceived
from providers.twilio import connect
from tests.support.cut import line_to
from tests.support.wire import TWILIO, Wire, ask, reopened, sms, until
from tests.support.world import world

ROOT = Path(__file__).parents[2]


def entry(n: int | str, size: int = 0) -> Spooled:
    return Spooled("twilio", TWILIO, TWILIO, {"content-type": "x"}, f"{n}".encode() + b"." * size)


def webhook(n: int) -> Spooled:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return Spooled("twilio", TWILIO, TWILIO, headers, urlencode(sms(f"{n}")).encode())


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    made = Spool(tmp_path)
    made.open()
    yield made
    made.close()


# The disk -----------------------------------------------------------------------------------------------------------

FULL = """
import asyncio, json, resource, sys
from pathlib import Path
from hub.store.spool import Spool, Spooled

def entry(n, size=0):
    return Spooled("twilio", "/t", "/t", {}, f"{n}".encode() + b"." * size)

async def main():
    spool = Spool(Path(sys.argv[1]))
    spool.open()
    said = {}
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
    said["refused"] = await refused(spool, entry(0, 9_000))
    said["empty"] = spool.is_empty
    said["read"] = len(await spool.read())
    await spool.append([entry(1)])
    said["refused again"] = await refused(spool, entry(2, 9_000))
    said["kept"] = [e.body.decode() for e in await spool.read()]
    await spool.append([entry(3)])
    said["both"] = [e.body.decode() for e in await spool.read()]
    said["one left"] = await spool.drop(1)
    said["left"] = [e.body.decode() for e in await spool.read()]
    said["dropped"] = await spool.drop(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await spool.append([entry(4, 9_000)])
    said["room again"] = [len(e.body) for e in await spool.read()]
    await spool.drop(1)
    spool.close()
    print(json.dumps(said))

async def refused(spool, one):
    try:
        await spool.append([one])
    except OSError:
        return True
    return False

asyncio.run(main())
"""


def test_b3_a_full_disk_refuses_and_leaves_nothing_broken(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, cwd=ROOT, timeout=30)
    assert ran.returncode == 0, ran.stderr.decode()
    assert json.loads(ran.stdout) == {
        "refused": True,
        "empty": True,
        "read": 0,
        "refused again": True,
        "kept": ["1"],
        "both": ["1", "3"],
        "one left": False,
        "left": ["3"],
        "dropped": True,
        "room again": [9_001],
    }
    assert list(tmp_path.iterdir()) == []


async def test_b3_half_a_line_that_stayed_does_not_hide_the_next(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses the end of a line, and to take back its beginning."""
    await spool.append([entry(0)])

    def refuses(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", refuses)
        broken.setattr(os, "ftruncate", refuses)
        with pytest.raises(OSError, match="No space"):
            await spool.append([entry(1, 100)])
    assert await spool.read() == [entry(0)]
    await spool.append([entry(2)])
    assert await spool.read() == [entry(0), entry(2)]
    (path,) = tmp_path.glob("*.spool")
    assert len(path.read_bytes().splitlines()) == 2


async def test_b3_an_unreadable_line_is_told_and_holds_nobody_up(tmp_path: Path) -> None:
    first = Spool(tmp_path / "first")
    first.open()
    await first.append([entry(n) for n in range(3)])
    (path,) = (tmp_path / "first").glob("*.spool")
    lines = path.read_bytes().splitlines(keepends=True)
    rotten, torn = b"\x00\x01\n", lines[0][:20]
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / "left.spool").write_bytes(b"".join([rotten, *lines[:2], rotten, lines[2], rotten, torn]))
    (folder / "torn.spool").write_bytes(torn)
    spool = Spool(folder)
    spool.open()
    assert not spool.is_empty
    assert await spool.read(2) == [entry(0), entry(1)]
    assert not await spool.drop(2)
    assert await spool.read(2) == [entry(2)]
    await spool.drop(1)
    assert await spool.read() == []
    assert spool.is_empty
    spool.close()
    assert list(folder.iterdir()) == []
    await first.drop(len(await first.read()))
    first.close()


# Who reads it -------------------------------------------------------------------------------------------------------


async def test_b3_what_was_read_and_not_dropped_is_there_for_the_next(tmp_path: Path) -> None:
    """Killed between the commit and the drop: it comes again, and B4 drops it."""
    script = """
import asyncio, os, sys
from pathlib import Path
from hub.store.spool import Spool, Spooled

async def main():
    spool = Spool(Path(sys.argv[1]))
    spool.open()
    await spool.append([Spooled("twilio", "/t", "/t", {}, f"{n}".encode()) for n in range(10)])
    await spool.drop(len(await spool.read(4)))
    await spool.read(4)
    os._exit(9)

asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, cwd=ROOT, timeout=30)
    assert ran.returncode == 9, ran.stderr.decode()
    spool = Spool(tmp_path)
    spool.open()
    left = [int(one.body) for one in await spool.read()]
    assert left == sorted(left)
    assert set(left) >= set(range(4, 10))
    await spool.drop(len(left))
    spool.close()
    assert list(tmp_path.iterdir()) == []


async def test_b3_what_others_left_comes_first_the_oldest_before(tmp_path: Path) -> None:
    for name, age in (("a", 10), ("c", 30), ("b", 20)):
        made = Spool(tmp_path / name)
        made.open()
        await made.append([entry(name)])
        made.close()
        (path,) = (tmp_path / name).glob("*.spool")
        left = tmp_path / f"{name}.spool"
        path.rename(left)
        os.utime(left, (time.time() - age, time.time() - age))
    spool = Spool(tmp_path)
    spool.open()
    await spool.append([entry("mine")])
    assert [one.body for one in await spool.read()] == [b"c", b"b", b"a", b"mine"]
    assert not await spool.drop(2)
    assert {path.name for path in tmp_path.glob("?.spool")} == {"a.spool"}
    assert [one.body for one in await spool.read()] == [b"a", b"mine"]
    assert await spool.drop(2)
    spool.close()


async def test_b3_two_processes_do_not_share_a_file(tmp_path: Path) -> None:
    one, other = Spool(tmp_path), Spool(tmp_path)
    one.open()
    await one.append([entry(1)])
    other.open()
    assert other.is_empty
    await other.append([entry(2)])
    assert await one.read() == [entry(1)]
    assert await other.read() == [entry(2)]
    assert await one.drop(1)
    assert not other.is_empty
    assert await other.drop(1)
    one.close()
    other.close()


async def test_b3_a_caller_that_is_cancelled_in_mid_append_breaks_nothing(spool: Spool) -> None:
    kept = [asyncio.create_task(spool.append([entry(n, 100_000)])) for n in range(20)]
    await asyncio.sleep(0)
    for task in kept[::2]:
        task.cancel()
    await asyncio.gather(*kept, return_exceptions=True)
    found = await spool.read()
    assert set(range(1, 20, 2)) <= {int(one.body.rstrip(b".")) for one in found}
    assert not spool.is_empty
    assert await spool.drop(len(found))


async def test_a_long_queue_is_read_in_pieces_and_lets_the_loop_run(spool: Spool) -> None:
    count = 30_000
    await spool.append([entry(n, 1_000) for n in range(count)])
    turns, pieces, found = 0, 0, []

    async def watch() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    while piece := await spool.read(500):
        assert len(piece) <= 500
        pieces += 1
        found += [int(one.body.rstrip(b".")) for one in piece]
        await spool.drop(len(piece))
    watching.cancel()
    assert found == list(range(count))
    assert spool.is_empty
    assert pieces == count // 500
    assert turns > 2 * pieces  # others had their turn while each piece was read, and while it was dropped


# Who empties it -----------------------------------------------------------------------------------------------------


class Failing(Intake):
    """An intake that takes nothing at some submits, and everything at the others, each after a moment."""

    def __init__(self, fails: Sequence[int]) -> None:
        super().__init__(Database(dict), lambda _: None, queue_limit=10)
        self.taken: list[str] = []
        self._fails = fails
        self._calls = 0

    async def submit(self, arrivals: Sequence[Arrival]) -> None:
        self._calls += 1
        call = self._calls
        await asyncio.sleep(0)
        if call in self._fails:
            raise Unavailable("not now")
        for arrival in arrivals:
            assert isinstance(arrival.item, MessageReceived)
            self.taken.append(arrival.item.content["text"])


@pytest.fixture
async def emptied(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """Runs the loop over a spool until it is empty; gives what the intake took, in order."""
    monkeypatch.setattr(respool, "INTERVAL", 0.01)
    twilio = await connect(
        account_sid="AC1", auth_tokens=["t"], public_url="https://hub.example.com",
        api_url="http://127.0.0.1:1", timeout=1, concurrency=1,
    )  # fmt: skip
    routes = {route.path: route for route in twilio.routes}

    async def run(intake: Failing) -> list[str]:
        loop = asyncio.create_task(Respool(spool, intake, routes).run())
        try:
            await until(lambda: loop.done() or spool.is_empty)
            assert not loop.done(), loop.exception()
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
        return intake.taken

    yield run
    await twilio.close()


async def test_b3_nothing_overtakes_what_could_not_be_stored(spool: Spool, emptied: Any) -> None:
    count = 3 * respool.TOGETHER + 10
    await spool.append([webhook(n) for n in range(count)])
    taken = await emptied(Failing([1, 3, 4]))
    assert taken == [str(n) for n in range(count)]


async def test_b3_a_disk_that_cannot_be_read_does_not_end_the_loop(
    spool: Spool, emptied: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spool.append([webhook(n) for n in range(3)])
    read, failures = Spool.read, iter(range(3))

    async def fails_thrice(self: Spool, limit: int = 500) -> list[Spooled]:
        if next(failures, None) is not None:
            raise OSError(5, "Input/output error")
        return await read(self, limit)

    monkeypatch.setattr(Spool, "read", fails_thrice)
    assert await emptied(Failing([])) == ["0", "1", "2"]


async def test_b3_a_full_disk_loses_nothing_that_the_database_takes(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused while neither can take it; once the database can, it is asked, whatever waits in the spool."""

    def refuses(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(respool, "INTERVAL", 3_600)
    async with line_to(database_url) as (url, line), world(url, tmp_path) as made:
        wire = Wire(made)
        with monkeypatch.context() as full:
            full.setattr("hub.store.spool._write", refuses)
            await line.down()
            assert (await wire.twilio(sms("lost"))).status == 503
            await line.up()
            assert (await wire.twilio(sms("0"))).status == 200
        await line.down()
        assert (await wire.twilio(sms("waits"))).status == 200
        await line.up()
        with monkeypatch.context() as full:
            full.setattr("hub.store.spool._write", refuses)
            assert (await wire.twilio(sms("1"))).status == 200
        stored = "select array_agg(content::json ->> 'text' order by sequence) from message"
        assert await ask(database_url, stored) == ["0", "1"]
    async with reopened(database_url, tmp_path):
        assert [path.stat().st_size > 0 for path in (tmp_path / "spool").glob("*.spool")].count(True) == 1


async def test_b3_what_a_process_leaves_later_is_taken_on(spool: Spool, tmp_path: Path) -> None:
    """Also between a read and its drop, and never while its process lives."""
    other = Spool(tmp_path)
    other.open()
    await other.append([entry("theirs")])
    assert (spool.is_empty, spool.is_empty_everywhere()) == (True, False)
    await spool.append([entry("ours")])
    await spool.adopt()
    assert [e.body for e in await spool.read()] == [b"ours"]
    other.close()
    await spool.adopt()
    await spool.drop(1)
    assert [e.body for e in await spool.read()] == [b"theirs", b"ours"]
    assert await spool.drop(2)
    assert spool.is_empty_everywhere()
    assert len(list(tmp_path.glob("*.spool"))) == 1

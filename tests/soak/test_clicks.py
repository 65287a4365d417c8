"""Clicks under load while the hub is killed and the database is stopped: each that was answered is stored once."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from rich.console import Console

from hub.domain.ids import new_id
from hub.domain.link_tokens import RECEIPT_COOKIE, digest, new_token
from tests.support.cut import line_to
from tests.support.serving import HubProcess, make_simulator
from tests.support.web import GO, PHONE_AGENT, WWW
from tests.support.wire import ask, connected, until

pytestmark = pytest.mark.soak

CONNECTIONS = 64
LINKS = 200
TRACKING = {
    "PARTYLINE_LINK_BASE_URL": f"https://{GO}",
    "PARTYLINE_SITE_DOMAINS": "shop.example",
    "PARTYLINE_TRACKING_CONSENT": "implied",
}
TELLS = """
create table told (click_id uuid);
create function note() returns trigger language plpgsql as $$
begin insert into told values (new.click_id); return null; end $$;
create trigger noted after insert on click_untold for each row execute function note()"""


@dataclass
class Crowd:
    """People who tap links as fast as they are answered; whoever is cut off taps again."""

    port: int
    tokens: list[str]
    receipts: list[bytes] = field(default_factory=list)
    """Of every redirect that arrived: the hash of its receipt."""
    statuses: Counter[str] = field(default_factory=Counter)
    _is_over: bool = False

    async def run(self) -> None:
        """Until `stop`."""
        await asyncio.gather(*(self._tap(n * LINKS // CONNECTIONS) for n in range(CONNECTIONS)))

    def stop(self) -> None:
        """What is under way is still answered."""
        self._is_over = True

    async def reaches(self, count: int) -> None:
        """Wait until so many more are answered."""
        wanted = len(self.receipts) + count
        await until(lambda: len(self.receipts) >= wanted, 120)

    async def _tap(self, n: int) -> None:
        while not self._is_over:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError as error:
                self.statuses[type(error).__name__] += 1
                await asyncio.sleep(0.02)
                continue
            with suppress(OSError, asyncio.IncompleteReadError):
                while not self._is_over:
                    n += 1
                    await self._ask(reader, writer, self.tokens[n % len(self.tokens)])
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        writer.write(f"GET /{token} HTTP/1.1\r\nHost: {GO}\r\nUser-Agent: {PHONE_AGENT}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = head.split(" ", 2)[1]
        self.statuses[status] += 1
        if status == "302":
            secret = head.partition(RECEIPT_COOKIE)[2].partition("=")[2].partition(";")[0]
            self.receipts.append(digest(secret))
            return
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        await reader.readexactly(length)
        await asyncio.sleep(0.02)


async def plant(database_url: str) -> list[str]:
    """Links to tap, and a note of whatever services are to be told."""
    tokens = [new_token(is_personal=False) for _ in range(LINKS)]
    at = datetime.now(UTC)
    async with connected(database_url) as conn:
        await conn.execute(TELLS)
        await conn.executemany(
            "insert into tracked_link (id, token_hash, target, created_at) values ($1, $2, $3, $4)",
            [(new_id(), digest(token), f"{WWW}/", at) for token in tokens],
        )
    return tokens


async def account(database_url: str, folder: Path, crowd: Crowd) -> None:
    """Every redirect is a click, with one origin, one visitor and one telling; nothing is left in the spool."""

    def is_empty() -> bool:
        return sum(path.stat().st_size for path in (folder / "clicks").glob("*.spool")) == 0

    await until(is_empty, 60)
    async with connected(database_url) as conn:
        stored = [row[0] for row in await conn.fetch("select receipt_hash from click")]
        told = await conn.fetchrow("select count(*), count(distinct click_id) from told")
        origins = await conn.fetchrow("select count(*), count(distinct click_id) from click_origin")
        visitors = await conn.fetchval("select count(*) from visitor")
    assert len(set(crowd.receipts)) == len(crowd.receipts)
    lost = set(crowd.receipts) - set(stored)
    Console().print(
        f"{len(crowd.receipts):,} answered, {len(stored):,} stored, {len(lost)} lost; {dict(crowd.statuses)}"
    )
    assert not lost
    assert len(set(stored)) == len(stored)
    assert tuple(told) == tuple(origins) == (len(stored), len(stored))
    assert visitors == len(stored)
    assert len(stored) - len(crowd.receipts) <= 20 * CONNECTIONS  # taken down, and the answer was cut off


@asynccontextmanager
async def tapping(process: HubProcess, tokens: list[str]) -> AsyncIterator[Crowd]:
    """A crowd, until the block ends."""
    crowd = Crowd(process.port, tokens)
    running = asyncio.create_task(crowd.run())
    yield crowd
    crowd.stop()
    await running


async def test_the_hub_is_killed_and_the_database_goes_away_under_load(database_url: str, tmp_path: Path) -> None:
    """In turn and together: the line is cut, goes silent, and the hub is killed with clicks in its spool."""
    tokens = await plant(database_url)
    folder = tmp_path / "data"
    folder.mkdir()
    async with line_to(database_url) as (url, line), make_simulator() as simulator:
        process = HubProcess(folder, url, environment=TRACKING)
        await process.start(simulator)
        try:
            async with tapping(process, tokens) as crowd:
                for _ in range(3):
                    await crowd.reaches(5_000)
                    await process.end(signal.SIGKILL)
                    await process.start(simulator)
                for _ in range(2):
                    await crowd.reaches(5_000)
                    await line.down()
                    await crowd.reaches(5_000)
                    await line.up()
                    await crowd.reaches(5_000)
                    line.silent()
                    await crowd.reaches(5_000)
                    await line.up()
                await crowd.reaches(2_000)
                await line.down()
                await crowd.reaches(5_000)
                await process.end(signal.SIGKILL)
                await line.up()
                await process.start(simulator)
                await crowd.reaches(5_000)
            assert set(crowd.statuses) <= {"302", "503", "ConnectionRefusedError", "ConnectionResetError"}
            await account(database_url, folder, crowd)
        finally:
            await line.up()
            await process.end(signal.SIGTERM)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that PostgreSQL's user can reach, as root too."""
    folder = Path(tempfile.mkdtemp(prefix="partyline-clicks-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder, ignore_errors=True)


def postmaster(data_dir: Path) -> tuple[int, str]:
    """The pid of the server this very hub started, or 0; and a URL for its database."""
    try:
        lines = (data_dir / "postgres" / "cluster" / "postmaster.pid").read_text().split("\n")
        return int(lines[0]), f"postgresql://partyline@/partyline?host={lines[4]}&port={lines[3]}"
    except (FileNotFoundError, ValueError, IndexError):
        return 0, ""


async def test_the_postmaster_is_killed_under_load(data_dir: Path) -> None:
    async with make_simulator() as simulator:
        process = HubProcess(data_dir, environment=TRACKING)
        await process.start(simulator)
        try:
            tokens = await plant(postmaster(data_dir)[1])
            async with tapping(process, tokens) as crowd:
                for _ in range(3):
                    await crowd.reaches(8_000)
                    victim, _ = postmaster(data_dir)
                    os.kill(victim, signal.SIGKILL)
                    await until(lambda victim=victim: postmaster(data_dir)[0] not in {0, victim}, 30)
                await crowd.reaches(5_000)
            await until(lambda: _is_there(postmaster(data_dir)[1]), 30)
            await account(postmaster(data_dir)[1], data_dir, crowd)
        finally:
            await process.end(signal.SIGTERM)


async def _is_there(url: str) -> bool:
    try:
        return bool(await ask(url, "select 1"))
    except (OSError, asyncpg.PostgresError):
        return False

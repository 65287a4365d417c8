"""An upgrade as docs/operations.md describes it: old and new run side by side on one database, then the old one goes.

The old version is a real one, as far as the history here goes back: the last commit without the newest migration. In
a copy without history it is this version, and the new one is a next release made of it with a migration of its own.
"""

import asyncio
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from hub.store.migrate import shipped
from hub.store.sealing import new_secret_key
from tests.support.commands import run
from tests.support.database import Server
from tests.support.serving import HubProcess, remote_world, serving
from tests.support.subscriber import Subscriber
from tests.support.wire import Wire, ask, envelope, text, until, value
from tests.support.world import Service, World

ROOT = Path(__file__).parents[2]
PACKAGES = ("hub", "providers", "config")
MIGRATIONS = Path("hub") / "store" / "migrations"
GAPS_SQL = """
select count(*) from conversation c, lateral (
    select count(distinct e.sequence) as numbers, max(e.sequence) as last from event e where e.conversation_id = c.id) s
where s.numbers <> s.last or s.last <> c.last_sequence"""
CUSTOMERS = [f"49154000000{n:02}" for n in range(6)]
FREE = {
    "SERVICE_PER_MINUTE": "0", "AGENT_PER_MINUTE": "0", "REQUESTS_PER_SECOND": "0", "WHATSAPP_PAIR_BURST": "10000",
    "RECONCILE_INTERVAL": "0", "HEALTH_INTERVAL": "0",
}  # fmt: skip
"""A slow machine must not make this a test of limits."""
NEXT = """\
create table of_the_next_release (id bigint primary key, note text not null);
alter table conversation add column of_the_next_release text;
"""
"""What a release may do to the schema: add."""


def version_before(folder: Path) -> bool:
    """Put the last version without the newest migration there that is whole: what was written together may have been
    committed in parts. False where the history does not have it.
    """
    newest = str(MIGRATIONS / f"{shipped()[-1].name}.sql")
    added = _git("log", "--diff-filter=A", "-1", "--format=%H", "--", newest)
    if added is None:
        return False
    start = f"{added.decode().strip()}^" if added.strip() else "HEAD"
    return any(_put(commit, folder) for commit in (_git("rev-list", "--max-count=8", start) or b"").decode().split())


def _put(commit: str, folder: Path) -> bool:
    """Put a commit's packages there; whether they can be imported."""
    archive = _git("archive", commit, *PACKAGES)
    if archive is None:
        return False
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        packed.extractall(folder, filter="data")
    environment = {**os.environ, **running_from(folder)}
    tried = subprocess.run([sys.executable, "-c", "import hub.app"], env=environment, capture_output=True)
    if tried.returncode:
        for name in PACKAGES:
            shutil.rmtree(folder / name)
    return tried.returncode == 0


def _git(*words: str) -> bytes | None:
    if not (ROOT / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True)
    return done.stdout if done.returncode == 0 else None


def this_version(folder: Path) -> None:
    """Put a copy of this tree there."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def releases(folder: Path) -> tuple[Path, Path]:
    """The trees of the old version and of the new one."""
    old = folder / "old"
    old.mkdir()
    if version_before(old):
        return old, ROOT
    this_version(old)
    new = folder / "new"
    this_version(new)
    number = shipped()[-1].version + 1
    (new / MIGRATIONS / f"{number:04}_next.sql").write_text(NEXT)
    return old, new


def running_from(tree: Path) -> dict[str, str]:
    """Environment in which `python -m hub` is the one of this tree, wherever it is started."""
    return {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"}


async def migrate(tree: Path, database_url: str) -> set[str]:
    """`partyline migrate`; gives the migrations that it ran."""
    environment = {name: part for name, part in os.environ.items() if not name.startswith("PARTYLINE_")}
    environment |= running_from(tree) | {"PARTYLINE_DATABASE_URL": database_url}
    code, output = await run(sys.executable, "-m", "hub", "migrate", env=environment, cwd=str(tree))
    assert code == 0, output
    return {line.removeprefix("ran ") for line in output.splitlines() if line.startswith("ran ")}


@dataclass
class Talk:
    """Customers who write, and an agent who answers each of them, through whichever hubs run just now."""

    worlds: list[World]
    service: Service
    written: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    answered: dict[str, str] = field(default_factory=dict)
    """The agent's words, by the message's id."""
    is_over: bool = False

    async def run(self) -> None:
        """Until `is_over`."""
        await asyncio.gather(*(self._write(phone) for phone in CUSTOMERS), self._answer())

    def count(self) -> int:
        """Messages of customers that were acknowledged."""
        return sum(map(len, self.written.values()))

    async def more(self, count: int) -> None:
        """Wait for so many more."""
        wanted = self.count() + count
        await until(lambda: self.count() >= wanted, 30)

    async def _write(self, phone: str) -> None:
        """One message after the other, each to the next hub: what one took, the other follows."""
        turn = 0
        while not self.is_over:
            words, turn = f"{phone} {turn}", turn + 1
            world = self.worlds[turn % len(self.worlds)]
            answer = await Wire(world).meta(envelope(value([text(words, phone)])))
            assert answer.status == 200, answer
            self.written[phone].append(words)
            await asyncio.sleep(0.03)

    async def _answer(self) -> None:
        turn = 0
        while not self.is_over:
            conversations = {d.data["conversation"]["id"] for d in self.service.endpoint.of("message.received")}
            for conversation in sorted(conversations):
                words, turn = f"answer {turn}", turn + 1
                self.service.world = self.worlds[turn % len(self.worlds)]
                answer = await self.service.reply(conversation, words, agent=f"A{turn % 20}")
                assert answer.status == 202, answer
                self.answered[answer.json["message"]["id"]] = words
            await asyncio.sleep(0.2)


@pytest.mark.soak
async def test_old_and_new_run_side_by_side_and_nothing_is_lost_or_doubled(server: Server, tmp_path: Path) -> None:
    """Migrated under the old one; both take webhooks, answers and statuses; the old one ends, the new one goes on."""
    old_tree, new_tree = releases(tmp_path)
    name = f"upgrade_{uuid4().hex}"
    await server.execute(f"create database {name}")
    url = server.url(name)
    settings = {
        "PARTYLINE_SECRET_KEYS": new_secret_key(),
        **{f"PARTYLINE_{name}": value for name, value in FREE.items()},
    }
    try:
        assert await migrate(old_tree, url)
        old = HubProcess(tmp_path / "old-data", url, environment=settings | running_from(old_tree))
        new = HubProcess(tmp_path / "new-data", url, environment=settings | running_from(new_tree))
        async with AsyncExitStack() as stack:
            made = await stack.enter_async_context(serving(old))
            stack.push_async_callback(new.end)
            await _upgrade(made, old, new, lambda: migrate(new_tree, url), url)
    finally:
        await server.execute(f"drop database {name} with (force)")


async def _upgrade(
    made: World, old: HubProcess, new: HubProcess, bring_up_to_date: Callable[[], Awaitable[set[str]]], url: str
) -> None:
    made.simulator.hub_url = old.url
    helpdesk, crm = await made.connected("helpdesk", "crm")
    talk = Talk([made], helpdesk)
    talking = asyncio.create_task(talk.run())
    await talk.more(20)
    assert await bring_up_to_date()  # there is something to upgrade to
    await talk.more(20)
    await new.start(made.simulator)
    async with aiohttp.ClientSession() as session:
        newer = remote_world(new, made.simulator, session)
        talk.worlds.append(newer)
        await talk.more(40)
        talk.worlds.remove(made)
        helpdesk.world = crm.world = newer
        made.simulator.hub_url = new.url
        assert await old.end(signal.SIGTERM) == 0
        await talk.more(20)
        talk.is_over = True
        await talking
        await _is_all_there(talk, made, helpdesk, crm, url)
        assert await new.end(signal.SIGTERM) == 0


async def _is_all_there(talk: Talk, made: World, helpdesk: Service, crm: Service, url: str) -> None:
    """Heard by both, in order; sent once each; every answer's fate is known."""
    wanted = {words for written in talk.written.values() for words in written}
    for service in (helpdesk, crm):
        await service.endpoint.wait(lambda me: wanted <= set(_heard(me)), 30)
        assert set(_heard(service.endpoint)) == wanted
        for written in talk.written.values():
            mine = [words for words in dict.fromkeys(_heard(service.endpoint)) if words in written]
            assert mine == written
        assert not service.endpoint.refused
    await until(lambda: len(made.simulator.sent) >= len(talk.answered), 30)
    await made.simulator.settle()
    assert Counter(send.text for send in made.simulator.sent) == Counter(talk.answered.values())
    states = "select count(*) from message where direction = 'outbound' and status not in ('delivered', 'read')"
    await until(lambda: _is_none(url, states), 20)
    assert await ask(url, GAPS_SQL) == 0


async def _is_none(url: str, sql: str) -> bool:
    return bool(await ask(url, sql) == 0)


def _heard(endpoint: Subscriber) -> list[str]:
    return [d.data["message"]["text"] for d in endpoint.of("message.received")]

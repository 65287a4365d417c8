"""One PostgreSQL for the test session, and a fresh, migrated database for each test that asks."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg

from hub.store.embedded import EmbeddedPostgres
from hub.store.migrate import migrate

TEMPLATE = "partyline_template"
FLEETING = ("alter system set fsync = off", "alter system set full_page_writes = off", "select pg_reload_conf()")
"""Nothing of it has to outlive the machine."""
ROOM = 3 * 1024**3


def system_binaries() -> Path | None:
    """Where `PG=system` finds a PostgreSQL of the machine; None: the wheel's."""
    if os.environ.get("PG") != "system":
        return None
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found and (postgres := shutil.which("postgres")):
        found = [Path(postgres).resolve().parent]
    assert found, "PG=system, but this machine has no PostgreSQL"
    return found[-1]


class Server:
    """A server that lives as long as the test session, driven from plain code."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._postgres = postgres

    @property
    def arguments(self) -> dict[str, object]:
        """asyncpg's connect arguments for its maintenance database."""
        return dict(self._postgres.connect_args)

    def url(self, database: str) -> str:
        """A URL for one of its databases."""
        args = self._postgres.connect_args
        return f"postgresql://{args['user']}@/{database}?host={args['host']}"

    async def execute(self, *statements: str) -> None:
        """Run statements outside a transaction."""
        conn = await asyncpg.connect(**self.arguments)
        try:
            for statement in statements:
                await conn.execute(statement)
        finally:
            await conn.close()

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[str]:
        """A migrated, empty database, gone afterwards; gives its URL."""
        name = f"test_{uuid4().hex}"
        await self.execute(f"create database {name} template {TEMPLATE} strategy file_copy")
        try:
            yield self.url(name)
        finally:
            await self.execute(f"drop database {name} with (force)")


def _place() -> str:
    """In memory where there is room: a database for each test is a thousand files, made and removed. Those who test
    what outlives a crash have servers of their own, on disk.
    """
    memory = Path("/dev/shm")
    is_roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM
    return str(memory) if is_roomy else "/tmp"


@contextmanager
def server() -> Iterator[Server]:
    """Start it, with a migrated template database."""
    folder = Path(tempfile.mkdtemp(prefix="partyline-tests-", dir=_place()))
    folder.chmod(0o755)
    with asyncio.Runner() as runner:
        postgres = EmbeddedPostgres(folder, binaries=system_binaries())
        runner.run(postgres.start())
        made = Server(postgres)
        runner.run(made.execute(f"create database {TEMPLATE}", *FLEETING))
        runner.run(_migrate(made))
        try:
            yield made
        finally:
            runner.run(postgres.stop())
            shutil.rmtree(folder, ignore_errors=True)


async def _migrate(made: Server) -> None:
    conn = await asyncpg.connect(**(made.arguments | {"database": TEMPLATE}))
    try:
        await migrate(conn)
    finally:
        await conn.close()

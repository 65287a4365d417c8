"""The embedded PostgreSQL that all of a run shares, as the hub starts it (fsync on), and a database for each part."""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from benchmarks import cpu
from config import logs
from hub.store.embedded import EmbeddedPostgres

_TEMPLATE = "bench_template"


def main() -> None:
    """Run a server over the directory given until SIGTERM; says where it is."""
    logs.configure("error", "console")
    asyncio.run(_serve(Path(sys.argv[1])))


async def _serve(folder: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    postgres = EmbeddedPostgres(folder)
    await postgres.start()
    try:
        arguments = postgres.connect_args
        print(json.dumps({name: arguments[name] for name in ("host", "port", "user")}), flush=True)
        await stop.wait()
    finally:
        await postgres.stop()


@dataclass(frozen=True)
class Database:
    """One database of the server."""

    host: str
    port: int
    user: str
    name: str

    @property
    def url(self) -> str:
        """As the hub takes it."""
        return f"postgresql://{self.user}@/{self.name}?host={quote(self.host)}&port={self.port}&sslmode=disable"

    def execute(self, *statements: str) -> None:
        """Run statements, each outside a transaction."""
        asyncio.run(self._execute(statements))

    async def _execute(self, statements: tuple[str, ...]) -> None:
        conn = await asyncpg.connect(self.url)
        try:
            for statement in statements:
                await conn.execute(statement)
        finally:
            await conn.close()

    def value(self, query: str) -> Any:
        """The one value a query gives."""
        return asyncio.run(self._value(query))

    async def _value(self, query: str) -> Any:
        conn = await asyncpg.connect(self.url)
        try:
            return await conn.fetchval(query)
        finally:
            await conn.close()

    def wal(self) -> int:
        """Bytes of write-ahead log that the server has ever written."""
        written: int = self.value("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
        return written


class Server:
    """The server; `main` is its maintenance database."""

    def __init__(self, main: Database) -> None:
        self.main = main
        self._pid = asyncio.run(self._find())

    async def _find(self) -> int:
        """The server's own process: the parent of any connection's, while that lives."""
        conn = await asyncpg.connect(self.main.url)
        try:
            return cpu.parent(await conn.fetchval("select pg_backend_pid()"))
        finally:
            await conn.close()

    def cpu(self) -> float:
        """CPU seconds of the server, all its processes."""
        return cpu.seconds(self._pid)

    def named(self, name: str) -> Database:
        """A database of it."""
        return Database(self.main.host, self.main.port, self.main.user, name)

    def make_template(self) -> Database:
        """An empty database, to be migrated once."""
        self.main.execute(f"create database {_TEMPLATE}")
        return self.named(_TEMPLATE)

    @contextlib.contextmanager
    def database(self, name: str, *, migrated: bool = True) -> Iterator[Database]:
        """A fresh database, migrated or empty, gone afterwards."""
        template = f" template {_TEMPLATE}" if migrated else ""
        self.main.execute(f"create database {name}{template}")
        try:
            yield self.named(name)
        finally:
            self.main.execute(f"drop database {name} with (force)")


if __name__ == "__main__":
    main()

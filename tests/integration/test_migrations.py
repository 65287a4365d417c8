"""Migrations: each runs once, whoever comes, and is recognised afterwards (issue 2, item 3)."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from config.settings import Settings
from hub.app import running
from hub.store import migrate as module
from hub.store.migrate import Migration, MigrationError, list_missing, migrate, shipped
from tests.support.database import Server

NAMES = [migration.name for migration in shipped()]


@pytest.fixture
async def empty_url(server: Server) -> AsyncIterator[str]:
    """A database in which nothing ran yet."""
    name = f"empty_{uuid4().hex}"
    await server.execute(f"create database {name}")
    yield server.url(name)
    await server.execute(f"drop database {name} with (force)")


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    conn = await asyncpg.connect(empty_url)
    yield conn
    await conn.close()


async def tables(conn: "asyncpg.Connection[asyncpg.Record]") -> set[str]:
    rows = await conn.fetch("select relname from pg_class where relnamespace = 'public'::regnamespace")
    return {row["relname"] for row in rows}


def test_the_files_are_numbered_without_a_gap() -> None:
    made = shipped()
    assert [migration.version for migration in made] == list(range(1, len(made) + 1))
    assert len(set(NAMES)) == len(NAMES)
    assert all(migration.sql.strip() for migration in made)


async def test_each_runs_once(empty: "asyncpg.Connection[asyncpg.Record]") -> None:
    assert await list_missing(empty) == shipped()
    assert await migrate(empty) == NAMES
    assert await list_missing(empty) == []
    before = await empty.fetch("select * from schema_migration order by version")
    assert await migrate(empty) == []
    assert await empty.fetch("select * from schema_migration order by version") == before
    assert [(row["version"], row["name"], row["checksum"]) for row in before] == [
        (migration.version, migration.name, migration.checksum) for migration in shipped()
    ]


async def test_looking_changes_nothing(empty: "asyncpg.Connection[asyncpg.Record]") -> None:
    await list_missing(empty)
    assert await tables(empty) == set()


async def test_many_connections_at_once_run_each_once(empty_url: str) -> None:
    connections = await asyncio.gather(*(asyncpg.connect(empty_url) for _ in range(8)))
    try:
        ran = await asyncio.gather(*(migrate(conn) for conn in connections))
        assert sorted(ran, key=len) == [[]] * 7 + [NAMES]
        assert await connections[0].fetchval("select count(*) from schema_migration") == len(NAMES)
    finally:
        await asyncio.gather(*(conn.close() for conn in connections))


async def test_two_processes_at_once_run_each_once(empty_url: str, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PARTYLINE_")},
        "PARTYLINE_DATABASE_URL": empty_url,
        "PARTYLINE_DATA_DIR": str(tmp_path),
    }
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hub", "migrate", env=environment, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    answers = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0], answers
    said = b"".join(out for out, _ in answers).decode()
    assert [said.count(f"ran {name}\n") for name in NAMES] == [1] * len(NAMES)
    assert said.count("up to date") == 2


async def test_a_migration_whose_text_changed_after_it_ran_is_refused(
    empty: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await migrate(empty)
    await empty.execute("update schema_migration set checksum = 'another' where version = 1")
    for call in (migrate, list_missing):
        with pytest.raises(MigrationError, match=NAMES[0]) as caught:
            await call(empty)
        assert caught.value.code == "migration_changed"


async def test_a_new_one_runs_after_those_that_ran(
    empty: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(empty)
    newer = Migration(len(NAMES) + 1, "next_year", "create table next_year (id integer)")
    monkeypatch.setattr(module, "shipped", lambda: [*shipped(), newer])
    assert await list_missing(empty) == [newer]
    assert await migrate(empty) == ["next_year"]
    assert "next_year" in await tables(empty)


async def test_a_newer_hub_s_migrations_do_not_stop_an_older_one(empty: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Expand and contract: old and new processes overlap (architecture.md, Database)."""
    await migrate(empty)
    await empty.execute("insert into schema_migration (version, name, checksum) values (9999, 'future', 'x')")
    assert await list_missing(empty) == []
    assert await migrate(empty) == []


async def test_one_that_fails_leaves_nothing_behind(
    empty: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration(len(NAMES) + 1, "broken", "create table half (id integer); select 1 / 0")
    monkeypatch.setattr(module, "shipped", lambda: [*shipped(), broken])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty)
    assert await tables(empty) == set()
    monkeypatch.undo()
    assert await migrate(empty) == NAMES


async def test_messages_are_written_while_an_index_is_built_over_all_of_them(
    empty_url: str, empty: "asyncpg.Connection[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old process goes on while its successor's schema is made, and one cut short can be run again."""
    old = [migration for migration in shipped() if migration.version < 11]
    monkeypatch.setattr(module, "shipped", lambda: old)
    await migrate(empty)
    monkeypatch.undo()
    writer, late, second = [await asyncpg.connect(empty_url) for _ in range(3)]
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    try:
        held = writer.transaction()
        await held.start()
        await writer.execute("lock table message in row exclusive mode")
        migrating = asyncio.create_task(migrate(second))
        async with asyncio.timeout(10):
            while not await empty.fetchval(waiting):
                await asyncio.sleep(0.02)
        async with asyncio.timeout(1), late.transaction():
            await late.execute("lock table message in row exclusive mode")
        second.terminate()  # half an index is left
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await migrating
        await held.rollback()
        monkeypatch.setattr(module, "_LOCK_TIMEOUT", "100ms")
        async with writer.transaction():
            await writer.execute("lock table attempt in access share mode")
            with pytest.raises(MigrationError, match="run it again") as caught:
                await migrate(late)
            assert caught.value.code == "migration_waited"
        assert await migrate(late) == [migration.name for migration in shipped() if migration.version >= 11]
        sound = "select indisvalid from pg_index where indexrelid = 'message_campaign'::regclass"
        assert await empty.fetchval(sound)
    finally:
        await asyncio.gather(*(conn.close() for conn in (writer, late)))


async def test_serve_refuses_a_server_that_was_not_migrated(empty_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=SecretStr(empty_url), data_dir=tmp_path, port=0)
    with pytest.raises(MigrationError, match="partyline migrate") as caught:
        async with running(settings):
            pass
    assert caught.value.code == "migrations_missing"

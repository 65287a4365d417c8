"""Connections and transactions. Everything else of the hub sees a `Connection` and a `Database`, never asyncpg."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

import asyncpg
import structlog

from hub.domain.errors import Unavailable

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Record: TypeAlias = asyncpg.Record

log = structlog.get_logger()

ACQUIRE_TIMEOUT: Final = 5.0
"""Seconds to wait for a free connection before a caller is told that the database is not there."""
COMMAND_TIMEOUT: Final = 30.0
"""Seconds one statement may take."""
STALLED: Final = 60.0
"""Seconds a transaction may stand still: a process that was stopped must not keep its locks."""
LOOP_TIMEOUT: Final = 5.0
"""The same for loops with a connection of their own: a database that hangs must be noticed while providers wait."""

_GONE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
    ConnectionError,
    TimeoutError,
    OSError,
)
_BAD: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
_REFUSED: Final = (
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.exceptions.ClientConfigurationError,
)
_AGAIN: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


_NO_PARTITION: Final = "no partition of relation"


class DatabaseRefused(Unavailable):
    """The server is there and does not let us in: the URL, the role or the password is wrong."""

    code = "database_refused"


class BadData(Exception):
    """The database refused a value: the fault lies in the data, not in the database."""


class TryAgain(Exception):
    """The transaction lost against another; nothing was stored and it may be run again."""


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turn asyncpg's errors into the hub's: `Unavailable`, `TryAgain`, `BadData`."""
    try:
        yield
    except _AGAIN as error:
        raise TryAgain(str(error)) from error
    except _REFUSED as error:
        raise DatabaseRefused(f"the database does not let the hub in: {error}") from error
    except _GONE as error:
        raise Unavailable("the database does not answer") from error
    except _BAD as error:
        if _NO_PARTITION in str(error):
            raise Unavailable("a partition is missing; the janitor makes it") from error
        raise BadData(type(error).__name__) from error
    except asyncpg.PostgresError as error:
        # A cancelled statement, a lock that is not to be had, a fault of ours: none of them is the data's.
        log.error("database.error", error=type(error).__name__, sqlstate=error.sqlstate)
        raise Unavailable(f"the database could not do it: {type(error).__name__}") from error


class Database:
    """A pool of connections to one PostgreSQL, and dedicated ones for the loops that need their own."""

    def __init__(self, connect: Callable[[], dict[str, Any]], *, size: int = 12) -> None:
        """`connect` gives asyncpg's connect arguments; asked each time, since an embedded server may move."""
        self._connect = connect
        self._size = size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Open the pool. Raises `Unavailable`."""
        async with translated():
            self._pool = await asyncpg.create_pool(
                min_size=0,
                max_size=self._size,
                command_timeout=COMMAND_TIMEOUT,
                timeout=ACQUIRE_TIMEOUT,
                server_settings={"idle_in_transaction_session_timeout": f"{STALLED * 1000:.0f}"},
                **self._connect(),
            )

    async def close(self) -> None:
        """Close the pool, without waiting for a server that is gone."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await asyncio.wait_for(pool.close(), 5)
        except (TimeoutError, *_GONE):
            pool.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction: committed at the end of the block, rolled back by any exception."""
        assert self._pool is not None
        async with translated(), self._pool.acquire(timeout=ACQUIRE_TIMEOUT) as conn, conn.transaction():
            yield conn

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """A connection for single statements that need no transaction."""
        assert self._pool is not None
        async with translated(), self._pool.acquire(timeout=ACQUIRE_TIMEOUT) as conn:
            yield conn

    async def dedicated(self) -> "Dedicated":
        """A connection outside the pool, for one loop. Raises `Unavailable`.

        It joins by nested loops only, in the order of its outer side: batches there are small and their keys sorted,
        so rows are looked up by index and locked in one order.
        """
        settings = {"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off"}
        async with translated():
            return Dedicated(
                await asyncpg.connect(
                    command_timeout=LOOP_TIMEOUT,
                    timeout=ACQUIRE_TIMEOUT,
                    server_settings=settings,
                    **self._connect(),
                )
            )


class Dedicated:
    """One connection that belongs to one loop; a round trip cheaper per transaction than the pool."""

    def __init__(self, conn: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._conn = conn

    @property
    def conn(self) -> Connection:
        """The bare connection, for statements outside a transaction."""
        return self._conn

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction, as `Database.transaction`."""
        async with translated(), self._conn.transaction():
            yield self._conn

    async def close(self) -> None:
        """Close it; quietly if the server is gone."""
        with suppress(TimeoutError, *_GONE):
            await self._conn.close(timeout=2)


@asynccontextmanager
async def savepoint(conn: Connection) -> AsyncIterator[None]:
    """A part of a transaction that can fail alone. Raises as `translated`."""
    async with translated(), conn.transaction():
        yield

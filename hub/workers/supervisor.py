"""Background loops: one that dies is started again, and the process ends if it cannot live."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from prometheus_client import Counter

from hub.domain.errors import Unavailable

log = structlog.get_logger()

RESTARTS = Counter("partyline_loop_restarts", "Background loops that died and were started again", ["loop"])
_FIRST_WAIT: Final = 0.2
_ASK_AGAIN: Final = 7.0
_LONGEST_WAIT: Final = 5.0
_SETTLED: Final = 30.0
"""A loop that lived so long starts over with a short wait."""
_GIVE_UP: Final = 20
"""Deaths in a row, not counting those for want of a database, after which the process had better end."""


class Supervisor:
    """Runs named loops until they are stopped; `on_fatal` ends the process."""

    def __init__(self, on_fatal: Callable[[], None]) -> None:
        self._on_fatal = on_fatal
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._alive: dict[str, bool] = {}

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run this loop from now on."""
        self._alive[name] = True
        self._tasks[name] = asyncio.create_task(self._keep(name, run), name=name)

    @property
    def dead(self) -> list[str]:
        """Loops that are between two lives."""
        return [name for name, is_alive in self._alive.items() if not is_alive]

    async def stop(self, name: str) -> None:
        """End one loop and wait for it."""
        task = self._tasks.pop(name, None)
        self._alive.pop(name, None)
        while task and not task.done():
            task.cancel()  # again, should a loop have lost the first one
            await asyncio.wait([task], timeout=_ASK_AGAIN)

    async def stop_all(self) -> None:
        """End all loops, the last started first."""
        for name in reversed(list(self._tasks)):
            await self.stop(name)

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        wait, deaths = _FIRST_WAIT, 0
        while True:
            started = time.monotonic()
            self._alive[name] = True
            try:
                await run()
                error: BaseException = RuntimeError("the loop ended by itself")
            except Exception as caught:
                error = caught
            self._alive[name] = False
            if time.monotonic() - started > _SETTLED:
                wait, deaths = _FIRST_WAIT, 0
            is_database = _is_database(error)
            deaths += not is_database
            RESTARTS.labels(name).inc()
            log.error("loop.died", loop=name, wait=round(wait, 1), exc_info=None if is_database else error)
            if deaths >= _GIVE_UP:
                log.critical("loop.given_up", loop=name)
                self._on_fatal()
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)


def _is_database(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_database(inner) for inner in error.exceptions)
    return isinstance(error, Unavailable)

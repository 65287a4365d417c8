"""One process of several: a hub that listens on its parent's socket, and goes when its parent says so or is gone."""

import asyncio
import json
import os
import shutil
import signal
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import values

from config.settings import Settings
from hub.processes import DRAIN, LISTENING, METRICS, READY, Orders

if TYPE_CHECKING:
    from hub.app import Hub

log = structlog.get_logger()


class Parent:
    """The parent as its worker sees it; made before any metric is, since it decides where these are kept."""

    def __init__(self) -> None:
        """Take the orders from standard input. Raises OSError, ValueError where no parent is there."""
        self._line = socket.socket(fileno=os.dup(0))
        with self._line.makefile("rb", buffering=0) as reader:
            self.orders = Orders(**json.loads(reader.readline()))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # By its number, not by its pid: a worker that follows another goes on with its counters and its files.
        values.ValueClass = values.MultiProcessValue(lambda: self.orders.number)  # type: ignore[no-untyped-call]
        self._is_gone = False

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets to listen on."""
        return [socket.socket(fileno=descriptor) for descriptor in self.orders.listeners]

    async def obey(self, *, stop: asyncio.Event, drain: asyncio.Event) -> None:
        """Set `drain` when the parent says so, and `stop` when it is gone."""
        reader, _ = await asyncio.open_unix_connection(sock=self._line.dup())
        with suppress(ConnectionError):
            while word := await reader.readline():
                if word == DRAIN:
                    drain.set()
        log.error("parent.gone")
        self._is_gone = True
        stop.set()

    def says(self, word: bytes) -> None:
        """Tell the parent; one that is gone is noticed elsewhere."""
        with suppress(OSError):
            self._line.send(word)

    def close(self) -> None:
        """The last thing a worker does: clean up after a parent that could not."""
        if self._is_gone:
            shutil.rmtree(os.environ[METRICS], ignore_errors=True)


async def work(settings: Settings, parent: Parent, stop: asyncio.Event) -> int:
    """Be a hub until `stop` is set, the parent is gone, or it has put another in our place; gives the exit code."""
    from hub import app

    drain = asyncio.Event()
    line = asyncio.create_task(parent.obey(stop=stop, drain=drain))
    async with app.running(settings, app.Inherited(parent.sockets, parent.orders.database)) as hub:
        parent.says(LISTENING)
        if await _comes_first(_is_ready(hub), stop.wait()):
            parent.says(READY)
            await _comes_first(drain.wait(), stop.wait())
        if not stop.is_set():
            await _comes_first(hub.drain(), stop.wait())
    line.cancel()
    return 0


async def _is_ready(hub: "Hub") -> None:
    while await hub.find_problems():  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.1)


async def _comes_first(one: Coroutine[Any, Any, object], other: Coroutine[Any, Any, object]) -> bool:
    """Run both until one of them ends; whether it was the first. The other is cancelled."""
    tasks = [asyncio.create_task(one), asyncio.create_task(other)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()  # raises what it raised
    return tasks[0] in done

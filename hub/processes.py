"""Several processes behind one listening socket: the parent keeps workers, the workers are the hub.

The parent holds the bound socket and the embedded database; workers are fresh interpreters that inherit the socket, so
none of them owns what another needs, and one that stops takes no waiting connection with it. A socket pair ties each
worker to its parent: orders go down, "listening" and "ready" come up, and its end tells either that the other is gone.
"""

import asyncio
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, time
from typing import Any, Final

import structlog
from prometheus_client import multiprocess

log = structlog.get_logger()

METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable by which prometheus_client finds the files that the processes' metrics are summed from."""

LISTENING, READY, DRAIN = b"listening\n", b"ready\n", b"drain\n"
"""What is said between them."""
_TICK: Final = 0.02
_READY_SECONDS: Final = 60.0
"""What a worker that replaces another has to become ready; then the replacement is given up."""
_RETIRE_SECONDS: Final = 20.0
"""What a worker has to drain and stop."""
_STOP_SECONDS: Final = 12.0
"""What a worker has to stop: ten seconds, and some to go."""
_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 10.0
_SETTLED: Final = 30.0
"""Seconds after which a worker that died is replaced at once again."""
_WRONG: Final = (1, 2)
"""Exit codes that say that this hub cannot run as it is configured."""
_UNFIT: Final = 70
_UNFIT_TIMES, _UNFIT_SECONDS = 3, 600.0
"""So many workers that could not live, within so long, and neither can the hub."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is told first: its number among those that live, the descriptors of the sockets to listen on, how
    to reach the embedded database, and the settings given on the command line.
    """

    number: int
    listeners: Sequence[int]
    database: Mapping[str, Any] | None
    overrides: Mapping[str, Any]


@contextmanager
def listening(host: str, port: int, backlog: int) -> Iterator[list[socket.socket]]:
    """Listen on every address of this host; port 0 takes a free one. Raises OSError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as stack:
        made: list[socket.socket] = []
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            port = port or (made[0].getsockname()[1] if made else 0)
            try:
                server = socket.create_server((address[0], port, *address[2:]), family=family, backlog=backlog)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6, say
                    raise
            else:
                made.append(stack.enter_context(server))
        yield made


def own_command(*words: str) -> list[str]:
    """The command line that runs this very program with other words."""
    before = len(sys.orig_argv) - len(sys.argv[1:])
    return [sys.executable, *sys.orig_argv[1:before], *words]


class Worker:
    """A child process, from its start on; `life` ends with it and gives its exit code."""

    def __init__(self, command: Sequence[str], orders: Orders, environment: Mapping[str, str]) -> None:
        self.number = orders.number
        self.is_listening, self.is_ready = asyncio.Event(), asyncio.Event()
        self._began = monotonic()
        self._line, theirs = socket.socketpair()
        with theirs:
            # A session of its own: Ctrl-C is for the parent, who ends its workers in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                command, stdin=theirs.fileno(), pass_fds=orders.listeners, env=environment, start_new_session=True
            )
        self._line.sendall(json.dumps(asdict(orders)).encode() + b"\n")
        self.life = asyncio.create_task(self._live())
        log.info("worker.started", worker=self.number, pid=self._process.pid)

    async def _live(self) -> int:
        reader, writer = await asyncio.open_unix_connection(sock=self._line.dup())
        with suppress(ConnectionError):
            while word := await reader.readline():
                if word in {LISTENING, READY}:
                    (self.is_ready if word == READY else self.is_listening).set()
        writer.close()
        self._line.close()
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - it has let go of us: it ends just now
            await asyncio.sleep(_TICK)
        log.info("worker.ended", worker=self.number, pid=self._process.pid, exit_code=code, lived=round(self.age, 1))
        return code

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return monotonic() - self._began

    async def becomes(self, state: asyncio.Event, seconds: float | None = None) -> bool:
        """Wait for `is_listening` or `is_ready`; False where it ends before that, or the time does."""
        waiting = asyncio.create_task(state.wait())
        await asyncio.wait({waiting, self.life}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return state.is_set()

    async def retire(self) -> None:
        """Let it answer who is connected to it, for the last time, and end."""
        with suppress(OSError):
            self._line.send(DRAIN)
        await asyncio.wait({self.life}, timeout=_RETIRE_SECONDS)
        await self.end()

    async def end(self) -> None:
        """Stop it; what it has in flight is finished, unless that takes too long."""
        for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, None)):
            if not self.life.done():
                self._process.send_signal(number)
                await asyncio.wait({self.life}, timeout=seconds)


class Fleet:
    """So many workers: one that dies is started again, all are replaced one by one when asked."""

    def __init__(
        self,
        command: Sequence[str],
        listeners: Sequence[socket.socket],
        *,
        database: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        """`command` runs a worker; it inherits these listening sockets and is told the rest as `Orders`."""
        self._command = command
        self._listeners = [listener.fileno() for listener in listeners]
        self._database, self._overrides = database, overrides or {}
        self._metrics = _MetricsFolder()
        self._alive: set[Worker] = set()
        self._slots: list[Worker] = []
        self._unfit: deque[float] = deque(maxlen=_UNFIT_TIMES)
        self._verdict: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._has_started = False

    async def run(self, count: int, *, stop: asyncio.Event, roll: asyncio.Event, on_started: Callable[[], None]) -> int:
        """Keep `count` workers until `stop`, and replace them when `roll` is set; gives the exit code.

        That is 0, or a worker's own where the hub cannot run, or cannot go on.
        """
        self._slots = [self._launch() for _ in range(count)]
        keepers = [asyncio.create_task(self._keep(slot)) for slot in range(count)]
        keepers.append(asyncio.create_task(self._roll(roll, on_started)))
        stopped = asyncio.create_task(stop.wait())
        try:
            ends: list[asyncio.Future[Any]] = [stopped, self._verdict, *keepers]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for keeper in keepers:
                if keeper.done():
                    keeper.result()  # a fault of ours: say it
            return self._verdict.result() if self._verdict.done() else 0
        finally:
            for task in (stopped, *keepers):
                task.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await asyncio.gather(*(worker.end() for worker in self._alive))
            self._metrics.remove()

    def _launch(self) -> Worker:
        taken = {worker.number for worker in self._alive}
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        orders = Orders(number, self._listeners, self._database, self._overrides)
        worker = Worker(self._command, orders, os.environ | {METRICS: str(self._metrics.path)})
        self._alive.add(worker)
        worker.life.add_done_callback(lambda _: self._buried(worker))
        return worker

    def _buried(self, worker: Worker) -> None:
        multiprocess.mark_process_dead(worker.number, str(self._metrics.path))  # type: ignore[no-untyped-call]
        self._alive.discard(worker)

    async def _keep(self, slot: int) -> None:
        wait = _FIRST_WAIT
        while True:
            worker = self._slots[slot]
            code = await asyncio.shield(worker.life)
            if worker is not self._slots[slot]:
                continue  # another has taken its place: it was asked to go
            self._judge(code)
            wait = _FIRST_WAIT if worker.age > _SETTLED else wait
            while worker is self._slots[slot]:
                log.error("worker.died", worker=worker.number, exit_code=code, wait=round(wait, 1))
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
                with suppress(OSError):  # no process to be had now: later
                    if worker is self._slots[slot]:
                        self._slots[slot] = self._launch()

    def _judge(self, code: int) -> None:
        """Whether the hub goes on without this one."""
        if code == _UNFIT:
            self._unfit.append(monotonic())
        often = len(self._unfit) == _UNFIT_TIMES and monotonic() - self._unfit[0] < _UNFIT_SECONDS
        if (often or (code in _WRONG and not self._has_started)) and not self._verdict.done():
            self._verdict.set_result(code)

    async def _roll(self, roll: asyncio.Event, on_started: Callable[[], None]) -> None:
        for slot in range(len(self._slots)):
            while not await self._slots[slot].becomes(self._slots[slot].is_listening):  # noqa: ASYNC110 - it died
                await asyncio.sleep(_TICK)
        self._has_started = True
        on_started()
        while True:
            await roll.wait()
            roll.clear()
            began = monotonic()
            if await self._replace_all():
                log.info("processes.rolled", seconds=round(monotonic() - began, 1))
            else:
                log.error("processes.roll_failed", seconds=round(monotonic() - began, 1))

    async def _replace_all(self) -> bool:
        """Replace one worker after the other; the first that does not become ready ends it, and the rest stay."""
        for slot in range(len(self._slots)):
            try:
                fresh = self._launch()
            except OSError:
                return False
            if not await fresh.becomes(fresh.is_ready, _READY_SECONDS):
                await fresh.end()
                return False
            old, self._slots[slot] = self._slots[slot], fresh
            await old.retire()
        return True


class _MetricsFolder:
    """Where the workers' metrics meet: a fresh folder, locked, so that those of parents that are gone can be told.

    In memory where there is such a place: no disk that is full or slow may hinder a counter.
    """

    _MEMORY: Final = "/dev/shm"  # noqa: S108 - nobody knows the folder's name before, and it is closed to others
    _PREFIX: Final = "partyline-metrics-"
    _NEW: Final = 60.0
    """Seconds in which a folder may not be locked yet."""

    def __init__(self) -> None:
        place = Path(self._MEMORY if os.access(self._MEMORY, os.W_OK) else tempfile.gettempdir())
        for path in place.glob(f"{self._PREFIX}*"):
            with suppress(OSError):
                self._remove_abandoned(path)
        self.path = Path(tempfile.mkdtemp(prefix=self._PREFIX, dir=place))
        self._lock = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _remove_abandoned(self, path: Path) -> None:
        if time() - path.stat().st_mtime < self._NEW:
            return
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Remove it."""
        os.close(self._lock)
        shutil.rmtree(self.path, ignore_errors=True)

"""A local, fsynced spool for what cannot wait for the database: webhooks of providers that do not try again (rule B3),
and clicks on tracked links.

One file per process: a line of JSON per entry, appended and synced before the answer. A file whose process is gone is
adopted by whoever gets its lock. What was taken out is only remembered; a file shrinks when all of it was, which needs
no room on a full disk. Whoever is killed before that repeats the file, and the database drops what it knows (B4).
"""

import asyncio
import base64
import fcntl
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from uuid import uuid4

import orjson
import structlog

log = structlog.get_logger()

_PIECE_BYTES: Final = 16 * 1024 * 1024
"""Bytes after which a piece that is read ends, however few entries it has."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class _File:
    """A spool file; what lies from `start` to `end` is still to be taken in."""

    path: Path
    handle: FileIO
    start: int = 0
    end: int = 0

    @property
    def is_done(self) -> bool:
        return self.start >= self.end


@dataclass(frozen=True, slots=True)
class _Mark:
    """The place behind an entry."""

    file: _File
    offset: int


class EntrySpool(ABC, Generic[T]):
    """This process's file, and those it adopted; read in the order they were written. A kind of entry has a folder of
    its own.

    One thread does all the work, so that files are touched by one at a time, also where its caller was cancelled.
    """

    @abstractmethod
    def pack(self, entry: T) -> dict[str, Any]:
        """The entry as JSON holds it."""

    @abstractmethod
    def unpack(self, kept: dict[str, Any]) -> T:
        """The entry again. Raises ValueError, KeyError, TypeError for what is none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: _File | None = None
        self._adopted: list[_File] = []
        self._marks: list[_Mark] = []
        self._appending = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self.is_empty = True
        """Whether nothing waits here, nor is about to."""

    def _look(self) -> None:
        self.is_empty = not self._appending and all(file.is_done for file in self._files())

    def is_empty_everywhere(self) -> bool:
        """Whether nothing waits in the files of other processes of this machine either."""
        known = {file.path for file in self._files()}
        try:
            others = [path.stat().st_size for path in self._folder.glob("*.spool") if path not in known]
        except OSError:  # one that is being removed
            return False
        return self.is_empty and not any(others)

    def _files(self) -> list[_File]:
        return [*self._adopted, self._own] if self._own else []

    def open(self) -> None:
        """Make this process's file and adopt what others left behind, the oldest first."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._adopt()
        self._own = _create(self._folder)
        self._settle()
        self._look()

    async def adopt(self) -> None:
        """Take on, too, what processes that ended since then have left behind. Raises OSError."""
        await self._apart(self._adopt)

    def _adopt(self) -> None:
        found = [file for path in self._folder.glob("*.spool") if (file := _adopt(path))]
        self._adopted += sorted(found, key=lambda file: os.fstat(file.handle.fileno()).st_mtime_ns)
        if found:
            self._marks = []  # they stand before what was read of our own: that is read again, not passed over

    async def append(self, entries: Sequence[T]) -> None:
        """Keep these; returns once they are on disk. Raises OSError where the disk refuses: none is kept then."""
        self._appending += 1
        self.is_empty = False
        await self._apart(lambda: self._append(entries), appends=1)

    def _append(self, entries: Sequence[T]) -> None:
        own = self._own
        assert own is not None
        lines, place = b"".join(map(self._encode, entries)), own.handle.fileno()
        try:
            if os.fstat(place).st_size != own.end:
                os.ftruncate(place, own.end)  # half a line must not hide the next one
            _write(place, lines, own.end)
            os.fsync(place)
        except OSError:
            with suppress(OSError):
                os.ftruncate(place, own.end)
            raise
        own.end += len(lines)

    async def read(self, limit: int = 500) -> list[T]:
        """The oldest entries, at most so many. Raises OSError."""
        return await self._apart(lambda: self._read(limit))

    def _read(self, limit: int) -> list[T]:
        entries: list[T] = []
        self._marks, size = [], 0
        for mark, line in self._lines():
            entry = self._decode(line)
            if entry is not None:
                entries.append(entry)
                self._marks.append(mark)
            else:
                log.error("spool.unreadable", file=mark.file.path.name, behind=mark.offset)
                self._pass_over(mark)
            size += len(line)
            if len(entries) == limit or size >= _PIECE_BYTES:
                break
        if not entries:
            self._settle()
        return entries

    def _lines(self) -> Iterator[tuple[_Mark, bytes]]:
        for file in self._files():
            if file.is_done:
                continue
            with file.path.open("rb") as reader:
                reader.seek(file.start)
                offset = file.start
                while offset < file.end:
                    line = reader.readline()
                    if not line.endswith(b"\n"):
                        file.end = offset  # a torn last line was never acknowledged
                        break
                    offset += len(line)
                    yield _Mark(file, offset), line

    def _pass_over(self, mark: _Mark) -> None:
        """It goes together with the entry before it."""
        if self._marks:
            self._marks[-1] = mark
        else:
            self._forget(mark)

    async def drop(self, count: int) -> bool:
        """Forget the first `count` of what was read last, which are in the database; True where nothing is left."""
        await self._apart(lambda: self._drop(count))
        return self.is_empty

    def _drop(self, count: int) -> None:
        dropped, self._marks = self._marks[:count], self._marks[count:]
        if dropped:
            self._forget(dropped[-1])
            self._settle()

    def _forget(self, mark: _Mark) -> None:
        for file in self._files():
            if file is mark.file:
                break
            file.start = file.end
        mark.file.start = mark.offset

    def _settle(self) -> None:
        """Give back the room of what was taken in. Where the disk is against it, that is only repeated some day."""
        done = [file for file in self._adopted if file.is_done]
        self._adopted = [file for file in self._adopted if not file.is_done]
        try:
            for file in done:
                file.path.unlink(missing_ok=True)
            if self._own and self._own.is_done and self._own.end:
                os.ftruncate(self._own.handle.fileno(), 0)
                self._own.start = self._own.end = 0
        except OSError as error:
            log.warning("spool.not_emptied", error=str(error))
        for file in done:
            file.handle.close()

    def _encode(self, entry: T) -> bytes:
        return orjson.dumps(self.pack(entry)) + b"\n"

    def _decode(self, line: bytes) -> T | None:
        try:
            return self.unpack(orjson.loads(line))
        except (ValueError, KeyError, TypeError):
            return None

    async def _apart(self, work: Callable[[], R], *, appends: int = 0) -> R:
        """Work in the thread. What it began it finishes, and is taken notice of, even if its caller is cancelled."""

        def finished(_: "asyncio.Future[R]") -> None:
            self._appending -= appends
            self._look()

        doing = asyncio.get_running_loop().run_in_executor(self._thread, work)
        doing.add_done_callback(finished)
        return await asyncio.shield(doing)

    def close(self) -> None:
        """Let go of the files; an empty one is removed."""
        self._thread.shutdown()
        for file in self._files():
            if file.is_done:
                with suppress(OSError):
                    file.path.unlink(missing_ok=True)
            file.handle.close()
        self._own, self._adopted = None, []


@dataclass(frozen=True, slots=True)
class Spooled:
    """A verified webhook as it came."""

    provider: str
    route: str
    path: str
    headers: dict[str, str]
    body: bytes


class Spool(EntrySpool[Spooled]):
    """Webhooks."""

    def pack(self, entry: Spooled) -> dict[str, Any]:
        """The entry as JSON holds it."""
        return {
            "provider": entry.provider,
            "route": entry.route,
            "path": entry.path,
            "headers": entry.headers,
            "body": base64.b64encode(entry.body).decode(),
        }

    def unpack(self, kept: dict[str, Any]) -> Spooled:
        """The entry again."""
        body = base64.b64decode(kept["body"])
        return Spooled(kept["provider"], kept["route"], kept["path"], kept["headers"], body)


def _create(folder: Path) -> _File:
    """A file of our own: under its name only once it is locked, lest somebody adopts it."""
    path = folder / f"{uuid4().hex}.spool"
    fresh = path.with_suffix(".new")
    handle = fresh.open("x+b", buffering=0)
    _lock(handle)
    fresh.rename(path)
    _sync_folder(folder)
    return _File(path, handle)


def _adopt(path: Path) -> _File | None:
    """The file of a process that is gone; None where one lives that has it, as this one may, or has taken it away."""
    try:
        handle = path.open("r+b", buffering=0)
    except FileNotFoundError:
        return None
    if not _lock(handle):
        handle.close()
        return None
    return _File(path, handle, end=os.fstat(handle.fileno()).st_size)


def _lock(handle: FileIO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


def _write(place: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(place, left, offset)
        left, offset = left[written:], offset + written

"""A local, fsynced spool for webhooks of providers that do not try again (rule B3).

One file per process: a line of JSON per body, appended and synced before the answer. A file whose process is gone is
adopted by whoever gets its lock.
"""

import asyncio
import base64
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from uuid import uuid4

import orjson


@dataclass(frozen=True, slots=True)
class Spooled:
    """A verified webhook as it came."""

    provider: str
    route: str
    path: str
    headers: dict[str, str]
    body: bytes


class Spool:
    """This process's file, and those it adopted at start; read in the order they were written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BufferedRandom | None = None
        self._adopted: list[BufferedRandom] = []
        self._lock = asyncio.Lock()
        self.is_empty = True

    def open(self) -> None:
        """Make this process's file and adopt what others left behind."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in sorted(self._folder.glob("*.spool")):
            file = path.open("r+b")
            if _lock(file):
                self._adopted.append(file)
            else:
                file.close()
        path = self._folder / f"{uuid4().hex}.spool"
        self._file = path.open("x+b")
        _lock(self._file)
        self.is_empty = not any(True for _ in self._read())

    async def append(self, entries: list[Spooled]) -> None:
        """Keep these; returns once they are on disk. Raises OSError where the disk refuses."""
        async with self._lock:
            self.is_empty = False
            await asyncio.to_thread(self._append, entries)

    def _append(self, entries: list[Spooled]) -> None:
        assert self._file is not None
        self._file.seek(0, os.SEEK_END)
        start = self._file.tell()
        try:
            self._file.write(b"".join(_encode(entry) for entry in entries))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(start)  # a half-written line must not hide the next one
            raise

    async def read(self) -> list[Spooled]:
        """Everything spooled so far, oldest first. Never while it is written: both move the place in the file."""
        async with self._lock:
            return list(self._read())

    async def drop(self, count: int) -> bool:
        """Forget the first `count`, which are in the database now; True where nothing is left."""
        async with self._lock:
            left = list(self._read())[count:]
            await asyncio.to_thread(self._rewrite, left)
            self.is_empty = not left
            return self.is_empty

    def _rewrite(self, left: list[Spooled]) -> None:
        for adopted in self._adopted:
            Path(adopted.name).unlink(missing_ok=True)
        assert self._file is not None
        if left:
            fresh = self._folder / f"{uuid4().hex}.tmp"
            with fresh.open("wb") as file:
                file.write(b"".join(_encode(entry) for entry in left))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._file.name)
            self._file.close()
            self._file = Path(self._file.name).open("r+b")  # noqa: SIM115  as above
            _lock(self._file)
        else:
            self._file.truncate(0)
        for adopted in self._adopted:
            adopted.close()
        self._adopted = []

    def _read(self) -> Iterator[Spooled]:
        for file in (*self._adopted, self._file):
            if file is None:
                continue
            file.seek(0)
            for line in file:
                if line.endswith(b"\n"):  # a torn last line was never acknowledged
                    yield _decode(line)

    def close(self) -> None:
        """Let go of the files; an empty one is removed."""
        if self._file is None:
            return
        if self.is_empty:
            Path(self._file.name).unlink(missing_ok=True)
        for file in (*self._adopted, self._file):
            file.close()
        self._file, self._adopted = None, []


def _lock(file: BufferedRandom) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _encode(entry: Spooled) -> bytes:
    kept = {
        "provider": entry.provider,
        "route": entry.route,
        "path": entry.path,
        "headers": entry.headers,
        "body": base64.b64encode(entry.body).decode(),
    }
    return orjson.dumps(kept) + b"\n"


def _decode(line: bytes) -> Spooled:
    kept = orjson.loads(line)
    return Spooled(kept["provider"], kept["route"], kept["path"], kept["headers"], base64.b64decode(kept["body"]))

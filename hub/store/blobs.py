"""Where the bytes of files lie, each under its SHA-256 and so once: on disk, or in a bucket (`hub.store.s3`)."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

PIECE: Final = 256 * 1024
FOLDERS: Final = 256
"""Files lie in so many folders, by the first byte of their hash."""


class BlobMissing(Exception):
    """The bytes are not there."""


class BlobTrouble(OSError):
    """The place where bytes lie does not answer, or refuses."""


class Blobs(Protocol):
    """Bytes by their SHA-256. Everything raises OSError where the place is away."""

    async def put(self, sha256: bytes, source: Path) -> None:
        """Have these bytes, from a complete local file, durably; does nothing where they are there. `source` may be
        gone afterwards.
        """
        ...

    async def exists(self, sha256: bytes) -> bool:
        """Whether the bytes are there."""
        ...

    def read(self, sha256: bytes, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """These bytes from `start` up to `stop`, piece by piece. Raises `BlobMissing`."""
        ...

    def as_path(self, sha256: bytes) -> AbstractAsyncContextManager[Path]:
        """The bytes as a local file, to be read within the block only. Raises `BlobMissing`."""
        ...

    async def delete(self, sha256: bytes) -> None:
        """Have these bytes no more; nothing where they are not there."""
        ...

    async def list_old(self, folder: int, age: float) -> Sequence[bytes]:
        """The hashes in one of the `FOLDERS` that came more than `age` seconds ago."""
        ...


def blob_name(sha256: bytes) -> str:
    """Where bytes lie under a folder or a prefix."""
    name = sha256.hex()
    return f"{name[:2]}/{name}"


def parse_name(name: str) -> bytes | None:
    """The hash that a name is of; None for what is no file of ours."""
    try:
        sha256 = bytes.fromhex(name.rpartition("/")[2])
    except ValueError:
        return None
    return sha256 if len(sha256) == 32 and blob_name(sha256).endswith(name.rpartition("/")[2]) else None


class DiskBlobs:
    """Files under one folder, readable by the hub's user only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, sha256: bytes, source: Path) -> None:
        """Move the file into place; returns once it is on disk."""
        await asyncio.to_thread(self._put, self._path(sha256), source)

    def _put(self, place: Path, source: Path) -> None:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        source.replace(place)  # of two with the same bytes either is good
        for folder in (place.parent, self._folder):
            _sync_folder(folder)

    async def exists(self, sha256: bytes) -> bool:
        """Whether there is such a file."""
        return await asyncio.to_thread(self._path(sha256).is_file)

    async def read(self, sha256: bytes, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Part of a file."""
        async with self.as_path(sha256) as path:
            with await asyncio.to_thread(path.open, "rb") as file:
                await asyncio.to_thread(file.seek, start)
                while start < stop and (piece := await asyncio.to_thread(file.read, min(PIECE, stop - start))):
                    start += len(piece)
                    yield piece

    @asynccontextmanager
    async def as_path(self, sha256: bytes) -> AsyncIterator[Path]:
        """The very file."""
        if not await self.exists(sha256):
            raise BlobMissing(sha256.hex())
        yield self._path(sha256)

    async def delete(self, sha256: bytes) -> None:
        """Remove the file."""
        await asyncio.to_thread(self._path(sha256).unlink, missing_ok=True)

    async def list_old(self, folder: int, age: float) -> Sequence[bytes]:
        """Look through one folder."""
        return await asyncio.to_thread(self._list_old, self._folder / f"{folder:02x}", time.time() - age)

    def _list_old(self, folder: Path, before: float) -> list[bytes]:
        found = []
        with suppress(FileNotFoundError):
            for entry in os.scandir(folder):
                with suppress(FileNotFoundError):  # somebody removed it just now
                    sha256 = parse_name(entry.name)
                    if sha256 and entry.stat().st_mtime <= before:
                        found.append(sha256)
        return found

    def _path(self, sha256: bytes) -> Path:
        return self._folder / blob_name(sha256)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

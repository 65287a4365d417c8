"""Files on their way in: written beside, hashed, limited and synced here, then put where the bytes lie for good, so
that none is ever there in part.
"""

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.domain.errors import TooLarge, Unavailable
from hub.store.blobs import Blobs, DiskBlobs

_PART: Final = ".part-"
"""How the names of files begin that are still being written."""
_ABANDONED: Final = 24 * 3600.0
"""Seconds after which nobody writes to such a file any more."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that is there."""

    sha256: bytes
    size: int


class Files:
    """Files of at most `max_bytes`; `folder` is local, and `blobs` where they lie for good: the same, unless given."""

    def __init__(self, folder: Path, *, max_bytes: int, blobs: Blobs | None = None) -> None:
        self._folder = folder
        self.blobs = blobs or DiskBlobs(folder)
        self.max_bytes = max_bytes

    def open(self) -> None:
        """Make the folder, and remove what processes that were killed had begun long ago."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in self._folder.glob(f"{_PART}*"):
            with suppress(FileNotFoundError):  # another process cleans up too
                if time.time() - part.stat().st_mtime > _ABANDONED:
                    part.unlink()

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator["Incoming"]:
        """A file to be written piece by piece; what was not kept is gone at the end of the block.

        Raises `Unavailable` where the disk, or the bucket, does not take it.
        """
        try:
            incoming = await asyncio.to_thread(self._begin)
            try:
                yield incoming
            finally:
                incoming.drop()
        except OSError as error:
            raise Unavailable(f"the hub cannot keep files just now: {error.strerror or error}") from error

    def _begin(self) -> "Incoming":
        handle, name = tempfile.mkstemp(prefix=_PART, dir=self._folder)  # mode 0600
        return Incoming(self, handle, Path(name))


class Incoming:
    """A file on its way in."""

    def __init__(self, files: Files, handle: int, path: Path) -> None:
        self._files = files
        self._file = os.fdopen(handle, "wb")
        self._path = path
        self._hash = hashlib.sha256()
        self.size = 0

    async def write(self, piece: bytes) -> None:
        """Add bytes. Raises `TooLarge`, OSError."""
        self.size += len(piece)
        if self.size > self._files.max_bytes:
            raise TooLarge(
                f"a file has at most {self._files.max_bytes} bytes; the operator sets PARTYLINE_MEDIA_MAX_BYTES"
            )
        await asyncio.to_thread(self._write, piece)

    def _write(self, piece: bytes) -> None:
        self._hash.update(piece)
        self._file.write(piece)

    @property
    def sha256(self) -> bytes:
        """The hash of what was written so far."""
        return self._hash.digest()

    async def keep(self) -> Kept:
        """Put the file in place; returns once it is there for good. Raises OSError."""
        sha256 = self.sha256
        await asyncio.to_thread(self._settle)
        await self._files.blobs.put(sha256, self._path)
        return Kept(sha256, self.size)

    def _settle(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def drop(self) -> None:
        """Remove what was not kept."""
        self._file.close()
        with suppress(FileNotFoundError):
            self._path.unlink()

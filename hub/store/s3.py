"""Files in a bucket of whatever speaks S3."""

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from hub.store.blobs import BlobMissing, BlobTrouble, blob_name, parse_name

_PIECE: Final = 4 * 1024 * 1024
"""Bytes of one request: each has its own time limit, so that who reads slowly keeps none of them open."""
_REQUEST: Final = "30s"
_RETRY_FOR: Final = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where it is and how to get in; what is empty is found by the machine's own configuration."""

    name: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = ""


class S3Blobs:
    """Objects named as files on disk are. `scratch` is a local folder for what must be a file for a while."""

    def __init__(self, bucket: Bucket, scratch: Path) -> None:
        given = {
            "endpoint": bucket.endpoint,
            "region": bucket.region,
            "access_key_id": bucket.access_key,
            "secret_access_key": bucket.secret_key,
        }
        known: dict[str, Any] = {name: value for name, value in given.items() if value}
        self._scratch = scratch
        self._store = S3Store(
            bucket.name,
            prefix=bucket.prefix or None,
            client_options={"allow_http": bucket.endpoint.startswith("http://"), "timeout": _REQUEST},
            retry_config={"max_retries": 3, "retry_timeout": _RETRY_FOR},
            **known,
        )

    async def put(self, sha256: bytes, source: Path) -> None:
        """Upload the file, in parts where it is large, unless it is there."""
        if not await self.exists(sha256):
            with _translated():
                await obstore.put_async(self._store, blob_name(sha256), source, max_concurrency=2)

    async def exists(self, sha256: bytes) -> bool:
        """Ask for the object's head."""
        try:
            with _translated():
                await obstore.head_async(self._store, blob_name(sha256))
        except BlobMissing:
            return False
        return True

    async def read(self, sha256: bytes, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Part of an object, by ranges."""
        while start < stop:
            end = min(start + _PIECE, stop)
            with _translated():
                piece = await obstore.get_range_async(self._store, blob_name(sha256), start=start, end=end)
            yield bytes(piece)
            start = end

    @asynccontextmanager
    async def as_path(self, sha256: bytes) -> AsyncIterator[Path]:
        """A copy, removed at the end of the block."""
        with _translated():
            head = await obstore.head_async(self._store, blob_name(sha256))
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix=".part-") as copy:
            async for piece in self.read(sha256, 0, head["size"]):
                await asyncio.to_thread(copy.write, piece)
            copy.flush()
            yield Path(copy.name)

    async def delete(self, sha256: bytes) -> None:
        """Remove the object."""
        with _translated():
            await obstore.delete_async(self._store, blob_name(sha256))

    async def list_old(self, folder: int, age: float) -> Sequence[bytes]:
        """List the objects whose hash begins so."""
        before = time.time() - age
        found: list[bytes] = []
        with _translated():
            async for entries in obstore.list(self._store, f"{folder:02x}"):
                for entry in entries:
                    sha256 = parse_name(entry["path"])
                    if sha256 and entry["last_modified"].timestamp() <= before:
                        found.append(sha256)
        return found


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the library raises into ours; its words may name the bucket, and never hold a key."""
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise BlobTrouble("the bucket does not exist") from error
        raise BlobMissing(str(error).partition("\n")[0]) from error
    except BaseError as error:
        raise BlobTrouble(f"the bucket does not take it: {type(error).__name__}") from error

"""The vault: files of customers are fetched as soon as the message that names them is stored, since providers forget
them within days (rule E10).

Every gateway fetches what is due; a row that one has claimed is left alone by the others until its lease ends.
"""

import asyncio
import random
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram

from hub.domain.backoff import delay
from hub.domain.errors import TooLarge, Unavailable
from hub.domain.events import Event
from hub.domain.ids import public_id
from hub.domain.inbound_media import FETCH_SCHEDULE
from hub.domain.kinds import extension_of
from hub.domain.media_links import PREFIX
from hub.domain.mime_types import UNKNOWN, bare_mime_type, is_refused, safe_name, well_formed
from hub.store import media_fetches
from hub.store.files import Files, Incoming
from hub.store.keeping import keeping, remove_unnamed
from hub.store.pool import Database, Record, TryAgain
from providers.base import MediaRef, MediaStream, Provider, Refused, SendError

log = structlog.get_logger()

POLL: Final = 0.5
"""Seconds between looks for what other processes took in, or what has become due again."""
PATIENCE: Final = 240.0
"""Seconds one fetch may take."""
LEASE: Final = PATIENCE + 60
"""Seconds after which a file that was claimed is taken for abandoned."""
LONGEST_RETRY_AFTER: Final = 3600.0
"""The longest wait, in seconds, that a provider may ask for: it forgets files within days."""
_GRACE: Final = 2.0
_FILE: Final = '"med_'

FETCHES: Final = Counter("partyline_media_fetches", "Files fetched from providers by outcome", ["provider", "outcome"])
FETCHED_BYTES: Final = Counter("partyline_media_bytes", "Bytes of files that were fetched and kept", ["provider"])
FETCH_SECONDS: Final = Histogram(
    "partyline_media_fetch_seconds", "One fetch of a file", ["provider"], buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)
)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a fetch: `name` for the log, `error` for whoever asks for the file; None: it is there."""

    name: str
    error: str | None = None
    retry_after: float | None = None


class _Failure(Exception):
    """A file is not taken, by the hub's own judgement; unless it `is_final` the next attempt may bring a better one."""

    def __init__(self, code: str, *, is_final: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.is_final = is_final


class MediaVault:
    """Fetches at most `concurrency` files at once; none whose type fits one of the patterns in `refused`."""

    def __init__(
        self,
        database: Database,
        providers: Mapping[str, Provider],
        files: Files,
        *,
        concurrency: int,
        refused: Collection[str],
        random_: random.Random | None = None,
    ) -> None:
        self._database = database
        self._providers = providers
        self._files = files
        self._concurrency = concurrency
        self._refused = refused
        self._random = random_ or random.Random()  # noqa: S311  spreads retries, no secret
        self._wake = asyncio.Event()
        self._flying: dict[UUID, asyncio.Task[None]] = {}

    def notice(self, events: Sequence[Event]) -> None:
        """Messages were stored: if one of them has a file, it is fetched at once."""
        if any(_FILE in event.data for event in events):
            self._wake.set()

    def wake(self) -> None:
        """Something is due."""
        self._wake.set()

    async def run(self) -> None:
        """Fetch until cancelled; what is under way then is left to others."""
        try:
            while True:
                await self._look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            await self._drop()

    async def _look(self) -> None:
        room = self._concurrency - len(self._flying)
        if room <= 0:
            return
        try:
            async with self._database.reading() as conn:
                due = await media_fetches.claim(conn, room, LEASE)
        except (Unavailable, TryAgain):  # what is due stays so
            return
        for row in due:
            media_id = row["media_id"]
            task = self._flying[media_id] = asyncio.create_task(self._take(row))
            task.add_done_callback(partial(self._landed, media_id))

    def _landed(self, media_id: UUID, _: "asyncio.Task[None]") -> None:
        self._flying.pop(media_id, None)
        self._wake.set()

    async def _drop(self) -> None:
        """Stop what is under way, and leave it to whoever looks next."""
        dropped = dict(self._flying)
        for task in dropped.values():
            task.cancel()
        await asyncio.gather(*dropped.values(), return_exceptions=True)
        if dropped:
            with suppress(Unavailable, TryAgain, TimeoutError):
                async with asyncio.timeout(_GRACE), self._database.transaction() as conn:
                    await media_fetches.release(conn, list(dropped))

    async def _take(self, row: Record) -> None:
        """Fetch one file, and write down what came of it."""
        began = time.monotonic()
        outcome = await self._try(row)
        seconds = time.monotonic() - began
        try:
            if outcome.error:
                await self._note(row, outcome)
        except (Unavailable, TryAgain) as error:  # it is due again when the lease ends
            log.warning("media.not_noted", media=public_id(PREFIX, row["media_id"]), error=type(error).__name__)
        FETCHES.labels(row["provider"], outcome.name).inc()
        FETCH_SECONDS.labels(row["provider"]).observe(seconds)
        log.info(
            "media.fetched",
            provider=row["provider"],
            media=public_id(PREFIX, row["media_id"]),
            outcome=outcome.name,
            error=outcome.error,
            attempt=row["attempts"],
            seconds=round(seconds, 3),
        )

    async def _try(self, row: Record) -> _Outcome:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._fetch(row)
        except _Failure as failure:
            return _Outcome("refused" if failure.is_final else "failed", failure.code)
        except Refused as error:
            return _Outcome("refused", error.code)
        except SendError as error:
            return _Outcome("failed", error.code, getattr(error, "retry_after", None))
        except TooLarge:
            return _Outcome("refused", "media_too_large")
        except TimeoutError:
            return _Outcome("failed", "provider_timeout")
        except (Unavailable, TryAgain):
            return _Outcome("failed", "not_kept")
        except Exception:
            log.exception("media.fetch_broke", provider=row["provider"], media=public_id(PREFIX, row["media_id"]))
            return _Outcome("failed", "internal")

    async def _fetch(self, row: Record) -> _Outcome:
        """Raises `_Failure`, `SendError`, `TooLarge`, `Unavailable`."""
        self._check_type(row["mime_type"])
        adapter = self._providers.get(row["provider"])
        if adapter is None:
            raise _Failure("no_provider")
        async with self._files.receiving() as incoming:
            async with adapter.open_media(MediaRef(row["provider_id"], row["url"])) as stream:
                self._check_type(stream.mime_type or "")
                if (stream.size or 0) > self._files.max_bytes:
                    raise _Failure("media_too_large", is_final=True)
                async for piece in stream.pieces:
                    await incoming.write(piece)
            _check_whole(row, stream, incoming)
            return await self._keep(row, stream, incoming)

    def _check_type(self, mime_type: str) -> None:
        if is_refused(mime_type, self._refused):
            raise _Failure("media_type_refused", is_final=True)

    async def _keep(self, row: Record, stream: MediaStream, incoming: Incoming) -> _Outcome:
        told = well_formed(bare_mime_type(stream.mime_type or ""))
        mime_type = row["mime_type"] if row["mime_type"] != UNKNOWN else told
        filename = row["filename"] or safe_name(stream.filename or "") or f"file{extension_of(mime_type)}"
        async with keeping(self._database, self._files, incoming) as (conn, kept):
            is_wanted = await media_fetches.keep(conn, row["media_id"], kept, mime_type or UNKNOWN, filename)
        if not is_wanted:
            await remove_unnamed(self._database, self._files, [kept.sha256])
            return _Outcome("not_wanted")
        FETCHED_BYTES.labels(row["provider"]).inc(kept.size)
        return _Outcome("kept")

    async def _note(self, row: Record, outcome: _Outcome) -> None:
        pause = None if outcome.name == "refused" else delay(FETCH_SCHEDULE, row["attempts"], self._random)
        async with self._database.transaction() as conn:
            if pause is None:
                await media_fetches.give_up(conn, row["media_id"], outcome.error or "media_unavailable")
            else:
                seconds = max(pause, min(outcome.retry_after or 0, LONGEST_RETRY_AFTER))
                await media_fetches.try_later(conn, row["media_id"], outcome.error or "media_unavailable", seconds)


def _check_whole(row: Record, stream: MediaStream, incoming: Incoming) -> None:
    """Raises `_Failure` for a file that came in part, or is not the one that was announced."""
    if incoming.size == 0 or (stream.size is not None and stream.size != incoming.size):
        raise _Failure("media_incomplete")
    if row["sha256"] is not None and row["sha256"] != incoming.sha256:
        raise _Failure("media_hash_mismatch")

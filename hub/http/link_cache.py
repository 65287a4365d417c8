"""What a process remembers of tracked links, so that a redirect need not ask the database who leads where.

PostgreSQL notifies of links that change. While nobody listens, what is remembered may be out of date: it is used until
the connection is there again, which is as long as the database is away, and read anew then.
"""

import asyncio
import re
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog

from hub.domain.errors import Unavailable
from hub.domain.stitching import IDENTIFIES, REDIRECTS
from hub.domain.tracking import Tracking
from hub.store.leases import confirm
from hub.store.link_lookup import find_link, listen
from hub.store.pool import Database, Dedicated

log = structlog.get_logger()

SIZE: Final = 50_000
"""Links that are remembered: some 40 MB."""
UNKNOWN_SECONDS: Final = 5.0
"""How long it is remembered that there is no such link."""
LOOKUP_SECONDS: Final = 1.0
"""How long a request waits for a link to be found, and how long a connection has for it."""
_LOOKUPS: Final = 4
"""Links that are looked for at a time: guessing leaves connections to others."""
_RECONNECT: Final = 0.25
_CONFIRM: Final = 1.0
"""Seconds between signs of life of the connection that listens."""

_TARGET: Final = re.compile(r"https?://[\x21-\x7e]+")
"""What may stand in a `Location` header, whatever the database holds."""


@dataclass(slots=True)
class Link:
    """A tracked link as redirects need it. `accepted_at`: when a provider took its message, None as long as none has;
    `site`: the tracked site that its target is on; `is_foreign`: cookies of ours are not seen there; `round`: the
    listening it was read in.
    """

    id: UUID
    target: str
    medium: str | None
    is_personal: bool
    created_at: datetime
    disabled_at: datetime | None
    accepted_at: datetime | None
    identifies_until: datetime
    redirects_until: datetime
    site: str | None
    is_foreign: bool
    round: int


class LinkCache:
    """The least recently used are forgotten first."""

    def __init__(self, database: Database, tracking: Tracking, *, size: int = SIZE) -> None:
        self._database = database
        self._tracking = tracking
        self._size = size
        self._links: OrderedDict[bytes, Link] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._lookups: dict[bytes, asyncio.Task[Link | None]] = {}
        self._outdated: set[bytes] = set()
        self._slots = asyncio.Semaphore(_LOOKUPS)
        self._loop = asyncio.get_running_loop()
        self._round = 0
        self._is_listening = False

    def get(self, token_hash: bytes) -> Link | None:
        """The link, if it is remembered and holds."""
        link = self._links.get(token_hash)
        if link is None or (self._is_listening and link.round != self._round):
            return None
        self._links.move_to_end(token_hash)
        return link

    def peek(self, token_hash: bytes) -> Link | None:
        """The link as it was when it was last read."""
        return self._links.get(token_hash)

    def is_unknown(self, token_hash: bytes) -> bool:
        """Whether it was looked for just now, and there was none."""
        until = self._unknown.get(token_hash)
        return until is not None and self._loop.time() < until

    async def find(self, token_hash: bytes) -> Link | None:
        """The link as the database has it; None: there is none. Whoever asks for the same one waits together.

        Raises `Unavailable`.
        """
        lookup = self._lookups.get(token_hash)
        if lookup is None:
            lookup = self._lookups[token_hash] = self._loop.create_task(self._look(token_hash))
            lookup.add_done_callback(_retrieved)
        await asyncio.wait({lookup}, timeout=LOOKUP_SECONDS)  # it goes on: others may wait for it
        if not lookup.done():
            raise Unavailable("the database takes too long to find the link")
        return lookup.result()

    async def _look(self, token_hash: bytes) -> Link | None:
        this_round = self._round
        try:
            async with self._slots:
                self._outdated.discard(token_hash)
                async with asyncio.timeout(LOOKUP_SECONDS), self._database.reading() as conn:
                    row = await find_link(conn, token_hash)
            link = self._link(row, this_round) if row else None
            if token_hash not in self._outdated:  # it changed while it was read: not to be remembered
                self._remember(token_hash, link)
            return link
        except Unavailable:
            raise
        except TimeoutError as error:
            raise Unavailable("the database takes too long to find the link") from error
        except Exception as error:  # a connection that broke in the middle has many faces
            log.exception("link.not_read")
            raise Unavailable("the link could not be read") from error
        finally:
            del self._lookups[token_hash]
            self._outdated.discard(token_hash)

    def _link(self, row: Any, this_round: int) -> Link | None:
        target = row["target"]
        if not _TARGET.fullmatch(target):
            log.error("link.target_refused", link=str(row["id"]))
            return None
        site = self._tracking.site(target)
        return Link(
            id=row["id"],
            target=target,
            medium=row["medium"],
            is_personal=row["is_personal"],
            created_at=row["created_at"],
            disabled_at=row["disabled_at"],
            accepted_at=row["accepted_at"],
            identifies_until=row["created_at"] + IDENTIFIES,
            redirects_until=row["created_at"] + REDIRECTS,
            site=site,
            is_foreign=site is not None and self._tracking.is_foreign(site),
            round=this_round,
        )

    def _remember(self, token_hash: bytes, link: Link | None) -> None:
        if link is None:
            self._links.pop(token_hash, None)
            self._unknown[token_hash] = self._loop.time() + UNKNOWN_SECONDS
            self._unknown.move_to_end(token_hash)
            if len(self._unknown) > self._size:
                self._unknown.popitem(last=False)
            return
        self._unknown.pop(token_hash, None)
        self._links[token_hash] = link
        self._links.move_to_end(token_hash)
        if len(self._links) > self._size:
            self._links.popitem(last=False)

    # What changes

    def forget(self, token_hash: bytes) -> None:
        """This link is not any more as it was."""
        self._links.pop(token_hash, None)
        if token_hash in self._lookups:
            self._outdated.add(token_hash)

    async def run(self) -> None:
        """Listen for links that change; runs until cancelled."""
        while True:
            with suppress(Unavailable):
                await self._listen()
            await asyncio.sleep(_RECONNECT)

    async def _listen(self) -> None:
        link: Dedicated = await self._database.dedicated()
        try:
            await listen(link.conn, self.forget)
            self._round += 1
            self._is_listening = True
            while True:
                await asyncio.sleep(_CONFIRM)
                await confirm(link.conn)
        finally:
            self._is_listening = False
            await link.close()


def _retrieved(lookup: "asyncio.Task[Link | None]") -> None:
    """Nobody may have waited for its end."""
    if not lookup.cancelled():
        lookup.exception()

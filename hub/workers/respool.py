"""Brings webhooks that were spooled while the database was away back in, in order (rule B3)."""

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import structlog

from hub.actions.arrivals import Arrival
from hub.domain.errors import Unavailable
from hub.store.spool import Spool, Spooled
from hub.workers.intake import Intake
from providers.base import Route, Unparsed, WebhookRequest

log = structlog.get_logger()

INTERVAL: Final = 0.5
"""Seconds between attempts to empty the spool."""

TOGETHER: Final = 200
"""Webhooks handed to the intake at once: all of them are stored or none is, so that none overtakes another."""


class Respool:
    """The loop that empties the spool."""

    def __init__(self, spool: Spool, intake: Intake, routes: Mapping[str, Route]) -> None:
        self._spool = spool
        self._intake = intake
        self._routes = routes

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            with suppress(OSError):  # the disk is against it: later
                await self._spool.adopt()
            if not self._spool.is_empty:
                await self._drain()

    async def _drain(self) -> None:
        try:
            while entries := await self._spool.read(TOGETHER):
                await self._intake.submit([arrival for entry in entries for arrival in self._arrivals(entry)])
                await self._spool.drop(len(entries))
                log.info("spool.replayed", webhooks=len(entries))
        except Unavailable:
            return
        except OSError:
            log.exception("spool.not_read")

    def _arrivals(self, entry: Spooled) -> list[Arrival]:
        request = WebhookRequest(entry.path, entry.headers, entry.body)
        route = self._routes.get(entry.route)
        if route is None:  # its provider was connected when it came: it is kept until it is again
            log.warning("spool.no_such_route", provider=entry.provider, route=entry.route)
            return [_kept(entry, request)]
        return [Arrival(item, entry.provider, request, route) for item in route.parse(request)]


def _kept(entry: Spooled, request: WebhookRequest) -> Arrival:
    """The whole webhook, for quarantine."""
    key = hashlib.sha256(b"\0".join((entry.path.encode(), entry.body))).hexdigest()
    route = Route(entry.route, lambda _: False, lambda _: [], lambda _: {}, repeats=False)
    why = f"nothing here reads what comes by {entry.route!r}: its provider is not connected any more"
    return Arrival(Unparsed(f"spool:{key}", "no_such_route", why, entry.body), entry.provider, request, route)

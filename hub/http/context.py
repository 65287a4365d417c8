"""What handlers may use, put together by the composition root."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

from aiohttp import web

from hub.actions.arrivals import Arrival
from hub.actions.compose import Capabilities
from hub.actions.look import View
from hub.actions.quarantine import Parsers
from hub.actions.reconcile import Round
from hub.domain.eligibility import Rule
from hub.domain.endpoints import EndpointPolicy
from hub.domain.events import Event
from hub.domain.handles import Handles
from hub.domain.limits import Limits
from hub.domain.media_links import MediaLinks
from hub.domain.tracking import Tracking
from hub.http.pace import Pace
from hub.store.files import Files
from hub.store.pool import Database
from hub.store.sealing import Sealer
from hub.store.spool import Spooled
from providers.base import Handshake, Provider, Route


class Intake(Protocol):
    """Takes parsed webhooks in; returns when they are durable, raises `Unavailable` when none is."""

    async def submit(self, arrivals: Sequence[Arrival]) -> None:
        """Store or quarantine them."""
        ...


class SpoolWriter(Protocol):
    """Keeps webhooks on disk while the database is away (B3)."""

    is_empty: bool

    async def append(self, entries: list[Spooled]) -> None:
        """Keep these; returns once they are on disk."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """Everything behind the HTTP edge."""

    database: Database
    sealer: Sealer
    intake: Intake
    spool: SpoolWriter
    routes: Mapping[str, tuple[str, Route]]
    parsers: Parsers
    handshakes: Sequence[Handshake]
    publish: Callable[[Sequence[Event]], None]
    refresh: Callable[[], None]
    wake_sender: Callable[[], None]
    wake_vault: Callable[[], None]
    reconcile: Callable[[], Coroutine[Any, Any, Sequence[Round]]]
    eligibility: Sequence[Rule]
    endpoints: EndpointPolicy
    capabilities: Capabilities
    limits: Limits
    request_pace: Pace | None
    """How often each API key may ask (H4); None: as often as it likes."""
    providers: Mapping[str, Provider]
    files: Files
    media_links: MediaLinks
    tracking: Tracking
    handles: Handles
    site_secrets: Sequence[str]
    auto_merge: bool
    phone_region: str | None
    admin_key: str
    public_url: str
    """By which people and providers reach this hub."""
    secret_overlap: int
    is_metrics_open: bool
    is_docs_open: bool
    problems: Callable[[], list[str]]
    is_stopping: asyncio.Event

    def view(self, service_id: UUID | None) -> View:
        """How a service, or the operator (None), looks at messages."""
        return View(service_id, self.media_links)


CONTEXT: Final = web.AppKey("context", Context)

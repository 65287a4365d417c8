"""Twilio through its SDK: sends over SMS and WhatsApp, typing, templates, and looking a send up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiohttp
from twilio.base.exceptions import TwilioException
from twilio.rest import Client

from providers.base import (
    FoundSend,
    Handshake,
    MediaRef,
    MediaStream,
    Medium,
    NotTaken,
    OutboundMessage,
    OutcomeUnknown,
    Provider,
    ReadMark,
    Refused,
    Route,
    SenderCheck,
    SenderProbe,
    SendError,
    Sent,
    Template,
    Upload,
    WebhookRequest,
)
from providers.twilio import lookups, outbound, webhook
from providers.twilio.checks import check
from providers.twilio.client import HttpClient
from providers.twilio.codes import STATUSES
from providers.twilio.errors import from_answer, from_failure, refusal
from providers.twilio.listing import PATH as LISTED_PATH
from providers.twilio.listing import fill_in, list_received
from providers.twilio.media import Downloads

Result = TypeVar("Result")

WEBHOOK_PATH = "/webhooks/twilio"
STATUS_PATH = "/webhooks/twilio/status"
LOOK_UPS: Final = 4
"""Calls at once that are neither sends nor files."""
DOWNLOADS: Final = 8
"""Files at once."""
_PATIENCE: Final = 10
"""Time-outs that a list may take, which is many requests."""


async def connect(
    *,
    account_sid: str | None,
    auth_tokens: Sequence[str],
    public_url: str,
    api_url: str | None,
    timeout: float,  # noqa: ASYNC109 - bounds each later call, not this one
    concurrency: int,
    shared_key: str | None = None,
) -> Provider:
    """Build the provider; nothing is sent yet.

    The first of `auth_tokens` sends, all verify; `shared_key` verifies webhooks that Twilio signs with it.
    `public_url` is where Twilio reaches the hub, without a slash at the end; it is what Twilio signs over. `api_url`
    stands in for all of Twilio's hosts; None is Twilio. A send, or any other call, takes at most `timeout` seconds once
    one of `concurrency` slots is free. Without an account or a token webhooks are still served and every call is
    refused as `not_configured`.
    """
    http = HttpClient(api_url=api_url, timeout=timeout, concurrency=concurrency + LOOK_UPS)
    client = Client(account_sid, auth_tokens[0], http_client=http) if account_sid and auth_tokens else None
    authorization = aiohttp.encode_basic_auth(account_sid or "", auth_tokens[0]) if client else ""
    downloads = Downloads(api_url=api_url, authorization=authorization, timeout=timeout, concurrency=DOWNLOADS)
    verify = partial(webhook.verify, tokens=tuple(auth_tokens), public_url=public_url, shared_key=shared_key)
    routes = [
        Route(
            path=path,
            verify=verify,
            parse=webhook.parse,
            envelopes=webhook.envelopes,
            repeats=False,
            answer=b"<Response/>",
            content_type="text/xml",
        )
        for path in (WEBHOOK_PATH, STATUS_PATH)
    ]
    return Twilio(routes, http, client, downloads, public_url.rstrip("/"), timeout, concurrency)


class Twilio:
    """The provider `twilio`."""

    name = "twilio"
    listing: Route | None = Route(
        path=LISTED_PATH,
        verify=webhook.refuse,
        parse=webhook.parse_listed,
        envelopes=webhook.envelopes,
        repeats=False,
    )
    supports: Mapping[Medium, frozenset[str]] = outbound.SUPPORTS

    def __init__(
        self,
        routes: Sequence[Route],
        http: HttpClient,
        client: Client | None,
        downloads: Downloads,
        public_url: str,
        timeout: float,
        concurrency: int,
    ) -> None:
        self.routes = routes
        self.handshakes: Sequence[Handshake] = []
        self._http = http
        self._client = client
        self._downloads = downloads
        self._callback_urls = (f"{public_url}{WEBHOOK_PATH}", f"{public_url}{STATUS_PATH}")
        self._status_url = f"{public_url}{STATUS_PATH}"
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._look_ups = asyncio.Semaphore(LOOK_UPS)

    async def send(self, message: OutboundMessage) -> Sent:
        """Send once. `Sent.status` is `sending` while Twilio has the message queued; its callbacks tell the rest."""
        callback = f"{self._status_url}?message={quote(message.hub_id, safe='')}"
        arguments = outbound.arguments(message) | {"status_callback": callback}

        async def call(client: Client) -> Sent:
            return _sent(await client.messages.create_async(**arguments))

        return await self._bounded(call)

    async def upload(self, file: Upload) -> str:
        """Refused: Twilio keeps no files, it fetches them by URL."""
        raise Refused("not_supported", "Twilio fetches files by URL")

    async def mark_read(self, mark: ReadMark) -> None:
        """Show on WhatsApp that somebody is typing, which marks the message as read too; refused without it."""
        if mark.medium != "whatsapp" or not mark.is_typing:
            raise Refused("not_supported", f"Twilio has no read marks over {mark.medium}, only typing over whatsapp")

        async def call(client: Client) -> None:
            typing = client.messaging.v2.typing_indicator
            answer = await typing.create_async(channel="whatsapp", message_id=mark.provider_id)
            if answer.success is not True:
                raise OutcomeUnknown("bad_answer", "the indicator was not sent")

        await self._bounded(call)

    async def list_templates(self, sender: str, account: str | None) -> Sequence[Template]:
        """The content templates of the account; all its senders may use them."""
        return await self._bounded(lookups.list_contents)

    async def find_sent(self, message: OutboundMessage, since: datetime, until: datetime) -> Sequence[FoundSend]:
        """What Twilio lists with this recipient, sender and body, and as many files, made between these times (rule
        E8). Nothing for templates, whose content it does not tell.
        """
        wanted = outbound.arguments(message)
        if not lookups.can_be_recognised(message):
            return []
        return await self._bounded(partial(lookups.find_messages, wanted=wanted, since=since, until=until))

    @asynccontextmanager
    async def open_media(self, media: MediaRef) -> AsyncIterator[MediaStream]:
        """Fetch a customer's file, over connections of its own; nothing read takes longer than `timeout`, and all of it
        no longer than ten times that. Raises `Refused` (`media_unavailable`, `media_host_refused`), `NotTaken`.
        """
        if self._client is None:
            raise NotTaken("not_configured", "no account or token")
        async with self._downloads.open(media) as stream:
            yield stream

    async def check_sender(self, sender: SenderProbe) -> SenderCheck:
        """Ask Twilio how a sender is, and where what customers write goes. Each request is bounded as a send is."""
        return await _guarded(check(self._look_up, sender, self._callback_urls))

    async def list_received(self, since: datetime, until: datetime) -> Sequence[WebhookRequest]:
        """What the account's customers wrote, and what became of its messages, of those sent between these times."""
        return await _guarded(list_received(partial(self._look_up, patience=_PATIENCE), since, until))

    async def fill_in(self, listed: WebhookRequest) -> WebhookRequest:
        """A listed message with its files, which Twilio tells for one message at a time."""
        return await _guarded(fill_in(self._look_up, listed))

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()
        await self._downloads.close()

    async def _bounded(self, call: Callable[[Client], Awaitable[Result]]) -> Result:
        """Make a call in one of the slots of sends."""
        return await self._call(self._slots, call, self._timeout)

    async def _look_up(self, call: Callable[[Client], Awaitable[Result]], *, patience: int = 1) -> Result:
        """Make a call that no send has to wait for, within so many times the time-out."""
        return await self._call(self._look_ups, call, patience * self._timeout)

    async def _call(
        self, slots: asyncio.Semaphore, call: Callable[[Client], Awaitable[Result]], seconds: float
    ) -> Result:
        """Make a call with a slot and within the time. Raises nothing but `SendError`."""
        if self._client is None:
            raise Refused("not_configured", "no account or token")
        async with slots:
            try:
                async with asyncio.timeout(seconds):
                    return await _guarded(call(self._client))
            except TimeoutError as error:
                raise from_failure(error) from error


async def _guarded(call: Awaitable[Result]) -> Result:
    """Await a call of the SDK and raise nothing but `SendError`."""
    try:
        return await call
    except SendError:
        raise
    except TwilioException as error:
        raise from_answer(error) from None
    except Exception as error:
        raise from_failure(error) from error


def _sent(answer: Any) -> Sent:
    if not isinstance(answer.sid, str) or not answer.sid:
        raise OutcomeUnknown("bad_answer", "no message sid")
    status = STATUSES.get(str(answer.status), "sending")
    if status in ("failed", "cancelled"):
        raise refusal(answer.error_code, str(answer.error_message or answer.status))
    return Sent(answer.sid, status=status)

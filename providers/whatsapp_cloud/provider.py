"""Sends through Meta's WhatsApp Cloud API with pywa."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

import httpx
from pywa.errors import WhatsAppError
from pywa_async.api import GraphAPIAsync
from pywa_async.client import WhatsApp

from providers.base import (
    FoundSend,
    Handshake,
    MediaRef,
    MediaStream,
    Medium,
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
from providers.fetching import Hosts
from providers.whatsapp_cloud import webhook
from providers.whatsapp_cloud.checks import CheckSettings, check
from providers.whatsapp_cloud.client import DOWNLOADS, LOOK_UPS, build_clients
from providers.whatsapp_cloud.errors import from_answer, from_failure
from providers.whatsapp_cloud.media import HOSTS, download, find
from providers.whatsapp_cloud.outbound import TYPES, body_of
from providers.whatsapp_cloud.templates import find_account, read_templates
from providers.whatsapp_cloud.values import as_dict, ident, phone_of

Result = TypeVar("Result")

WEBHOOK_PATH = "/webhooks/meta"
SUPPORTS: Final[Mapping[Medium, frozenset[str]]] = {
    "whatsapp": TYPES | {"reply_to", "read", "typing", "upload", "templates"}
}


async def connect(
    *,
    app_secrets: Sequence[str],
    verify_token: str | None,
    access_token: str | None,
    api_url: str | None,
    timeout: float,  # noqa: ASYNC109 - bounds each send, not this call
    concurrency: int,
    app_id: str | None = None,
    public_url: str | None = None,
) -> Provider:
    """Build the provider; nothing is sent yet.

    `api_url` is another Graph API, with or without its version (`http://127.0.0.1:9000`, `.../v26.0`); None is
    Meta's. A send takes at most `timeout` seconds once one of `concurrency` slots is free. Without `access_token`
    webhooks work and every send is refused as `not_configured`. With `app_id` and `public_url`, where Meta reaches
    the hub, checks of senders can tell what the app is subscribed to, and where its webhooks go.
    """
    session, files, client = await build_clients(access_token, api_url, timeout, concurrency)
    route = Route(
        path=WEBHOOK_PATH,
        verify=partial(webhook.verify, secrets=tuple(app_secrets)),
        parse=webhook.parse,
        envelopes=webhook.envelopes,
        repeats=True,
    )
    handshake = Handshake(WEBHOOK_PATH, partial(webhook.answer_handshake, verify_token=verify_token))
    return WhatsAppCloud(
        [route],
        [handshake],
        session,
        files,
        client,
        checks=CheckSettings(access_token or "", app_id, tuple(app_secrets), _callback_url(public_url)),
        hosts=Hosts(HOSTS, own=api_url or str(session.base_url)),
        timeout=timeout,
        concurrency=concurrency,
    )


class WhatsAppCloud:
    """The provider `meta`."""

    name = "meta"
    listing: Route | None = None
    supports: Mapping[Medium, frozenset[str]] = SUPPORTS

    def __init__(
        self,
        routes: Sequence[Route],
        handshakes: Sequence[Handshake],
        session: httpx.AsyncClient,
        files: httpx.AsyncClient,
        client: WhatsApp | None,
        *,
        checks: CheckSettings,
        hosts: Hosts,
        timeout: float,
        concurrency: int,
    ) -> None:
        self.routes = routes
        self.handshakes = handshakes
        self._session = session
        self._files = files
        self._client = client
        self._checks = checks
        self._access_token = checks.access_token
        self._hosts = hosts
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)
        self._look_ups = asyncio.Semaphore(LOOK_UPS)
        self._downloading = asyncio.Semaphore(DOWNLOADS)

    async def send(self, message: OutboundMessage) -> Sent:
        """Send once. `Sent.status` is `sending`: an accepted message is `sent` when Meta's status webhook says so."""
        if message.medium != "whatsapp":
            raise Refused("unsupported_type", f"{message.type} over {message.medium}")
        body, (to, recipient) = body_of(message), _address(message)
        # `WhatsApp.send_message` would guess the kind of recipient from its form, and takes business-scoped ids with
        # letters after the point for groups; it also fails on accepted messages whose answer names no contact.
        answer = await self._ask(
            lambda api: api.send_message(
                sender=message.sender,
                to=to,
                recipient=recipient,
                recipient_type="individual",
                typ=message.type,
                msg=body,
                reply_to_message_id=_reply_to(message),
                biz_opaque_callback_data=message.hub_id,
            )
        )
        return _sent(answer)

    async def upload(self, file: Upload) -> str:
        """Give Meta a file to keep, for 30 days. Raises `SendError`: `media_unavailable` where it cannot be read."""
        answer = await self._ask(lambda api: _upload(api, file))
        media_id = ident(as_dict(answer).get("id"))
        if media_id is None:
            raise OutcomeUnknown("bad_answer", "no media id")
        return media_id

    async def mark_read(self, mark: ReadMark) -> None:
        """Mark a message, and those before it, as read; Meta shows typing together with it, for 25 seconds at most."""
        if mark.medium != "whatsapp":
            raise Refused("not_supported", f"read marks over {mark.medium}")
        if mark.is_typing:
            answer = await self._ask(lambda api: api.set_indicator(mark.sender, mark.provider_id, "text"))
        else:
            answer = await self._ask(lambda api: api.mark_message_as_read(mark.sender, mark.provider_id))
        if as_dict(answer).get("success") is not True:
            raise OutcomeUnknown("bad_answer", "no success")

    async def list_templates(self, sender: str, account: str | None) -> list[Template]:
        """All templates of the sender's business account, which is looked up where it is not named.

        Each request is bounded as a send is. Raises `SendError`: `no_account` where the account cannot be found out.
        """
        if account is None:
            account = await find_account(self._ask, sender, self._access_token)
        return await read_templates(self._ask, account)

    async def find_sent(self, message: OutboundMessage, since: datetime, until: datetime) -> list[FoundSend]:
        """Always refused: Meta lists no messages (rule E8)."""
        raise Refused("not_supported", "Meta cannot be asked what it has sent; its status webhook tells.")

    @asynccontextmanager
    async def open_media(self, media: MediaRef) -> AsyncIterator[MediaStream]:
        """Fetch a customer's file, over connections of its own; nothing read takes longer than `timeout`, and all of it
        no longer than ten times that. Raises `Refused` (`media_unavailable`, `media_host_refused`), `NotTaken`.
        """
        async with self._downloading:
            place = await find(self._look_up, self._hosts, media)
            opened = download(self._files, self._hosts, place, self._access_token, self._timeout)
            async with opened as stream:
                yield stream

    async def check_sender(self, sender: SenderProbe) -> SenderCheck:
        """Ask Meta how a number is, and what its app gets to hear where. Each request is bounded as a send is."""
        return await _guarded(check(self._look_up, self._checks, sender))

    async def list_received(self, since: datetime, until: datetime) -> list[WebhookRequest]:
        """Always refused: Meta lists no messages; it repeats its webhooks for days."""
        raise Refused("not_supported", "Meta lists no messages; it repeats its webhooks for up to 7 days.")

    async def fill_in(self, listed: WebhookRequest) -> WebhookRequest:
        """As it is."""
        return listed

    async def close(self) -> None:
        """Let go of connections."""
        await self._session.aclose()
        await self._files.aclose()

    async def _ask(self, request: Callable[[GraphAPIAsync], Awaitable[Any]]) -> Any:
        """Make one request, in one of the slots of sends."""
        return await self._request(self._slots, request)

    async def _look_up(self, request: Callable[[GraphAPIAsync], Awaitable[Any]]) -> Any:
        """Make one request that no send has to wait for."""
        return await self._request(self._look_ups, request)

    async def _request(self, slots: asyncio.Semaphore, request: Callable[[GraphAPIAsync], Awaitable[Any]]) -> Any:
        """Make one request, in one of these slots and within the time-out. Raises nothing but `SendError`."""
        if self._client is None:
            raise Refused("not_configured", "no access token")
        async with slots:
            try:
                async with asyncio.timeout(self._timeout):
                    return await _guarded(request(self._client.api))
            except TimeoutError as error:
                raise from_failure(error) from error


def _callback_url(public_url: str | None) -> str | None:
    return f"{public_url.rstrip('/')}{WEBHOOK_PATH}" if public_url else None


async def _guarded(call: Awaitable[Result]) -> Result:
    """Await a call of the SDK and raise nothing but `SendError`."""
    try:
        return await call
    except SendError:
        raise
    except WhatsAppError as error:
        # Not chained: it holds the response, and with it the request and its token.
        raise from_answer(error) from None
    except Exception as error:
        raise from_failure(error) from error


async def _upload(api: GraphAPIAsync, file: Upload) -> Any:
    # Only now, so that no more files are in memory than there are slots.
    try:
        content = await asyncio.to_thread(file.path.read_bytes)
    except OSError as error:
        raise Refused("media_unavailable", f"The file cannot be read: {type(error).__name__}.") from error
    return await api.upload_media(file.sender, content, file.mime_type, file.filename)


def _sent(answer: Any) -> Sent:
    try:
        provider_id = answer["messages"][0]["id"]
    except (LookupError, TypeError) as error:
        raise OutcomeUnknown("bad_answer", type(error).__name__) from error
    if not isinstance(provider_id, str) or not provider_id:
        raise OutcomeUnknown("bad_answer", "no message id")
    return Sent(provider_id, status="sending", phone=_number_made(answer))


def _number_made(answer: Mapping[str, Any]) -> str | None:
    """The form of the recipient's number that Meta knows; other addresses have none."""
    contacts = answer.get("contacts")
    contact = as_dict(contacts[0]) if isinstance(contacts, list) and contacts else {}
    return phone_of(ident(contact.get("wa_id")) or "")


def _address(message: OutboundMessage) -> tuple[str | None, str | None]:
    if message.user_id:
        return None, message.user_id
    if message.phone:
        return message.phone.removeprefix("+"), None
    raise Refused("bad_recipient", "neither phone nor user id")


def _reply_to(message: OutboundMessage) -> str | None:
    """The quoted message; a reaction names its message itself, and Meta takes no other beside it."""
    reply_to = message.content.get("reply_to")
    target = reply_to.get("provider_id") if isinstance(reply_to, Mapping) else None
    return target if isinstance(target, str) and message.type != "reaction" else None

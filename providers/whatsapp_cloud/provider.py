"""Sends through Meta's WhatsApp Cloud API with pywa."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
from pywa.errors import WhatsAppError
from pywa_async.api import GraphAPIAsync
from pywa_async.client import WhatsApp

from providers.base import Handshake, OutboundMessage, OutcomeUnknown, Provider, Refused, Route, SendError, Sent
from providers.whatsapp_cloud import webhook
from providers.whatsapp_cloud.errors import from_answer, from_failure

WEBHOOK_PATH = "/webhooks/meta"


async def connect(
    *,
    app_secrets: Sequence[str],
    verify_token: str | None,
    access_token: str | None,
    api_url: str | None,
    timeout: float,  # noqa: ASYNC109 - bounds each send, not this call
    concurrency: int,
) -> Provider:
    """Build the provider; nothing is sent yet.

    `api_url` is another Graph API, with or without its version (`http://127.0.0.1:9000`, `.../v26.0`); None is
    Meta's. A send takes at most `timeout` seconds once one of `concurrency` slots is free. Without `access_token`
    webhooks work and every send is refused as `not_configured`.
    """
    # Below warnings pywa logs whole requests and answers, and at warning a hint at every time-out.
    logging.getLogger("pywa").setLevel(logging.ERROR)
    # Building the clients blocks for about 0.2 s (certificates).
    session, client = await asyncio.to_thread(_build_client, access_token, api_url, timeout, concurrency)
    route = Route(
        path=WEBHOOK_PATH,
        verify=partial(webhook.verify, secrets=tuple(app_secrets)),
        parse=webhook.parse,
        envelopes=webhook.envelopes,
        repeats=True,
    )
    handshake = Handshake(WEBHOOK_PATH, partial(webhook.answer_handshake, verify_token=verify_token))
    return WhatsAppCloud([route], [handshake], session, client, timeout, concurrency)


class WhatsAppCloud:
    """The provider `meta`."""

    name = "meta"

    def __init__(
        self,
        routes: Sequence[Route],
        handshakes: Sequence[Handshake],
        session: httpx.AsyncClient,
        client: WhatsApp | None,
        timeout: float,
        concurrency: int,
    ) -> None:
        self.routes = routes
        self.handshakes = handshakes
        self._session = session
        self._client = client
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)

    async def send(self, message: OutboundMessage) -> Sent:
        """Send once. `Sent.status` is `sending`: an accepted message is `sent` when Meta's status webhook says so."""
        send = _SENDS.get(message.type)
        if send is None or message.medium != "whatsapp":
            raise Refused("unsupported_type", f"{message.type} over {message.medium}")
        if self._client is None:
            raise Refused("not_configured", "no access token")
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout):
                    return _sent(await _guarded(send(self._client.api, message)))
            except TimeoutError as error:
                raise from_failure(error) from error

    async def close(self) -> None:
        """Let go of connections."""
        await self._session.aclose()


def _build_client(
    access_token: str | None, api_url: str | None, timeout: float, concurrency: int
) -> tuple[httpx.AsyncClient, WhatsApp | None]:
    # A shorter time to connect keeps "never connected" (may be sent again) apart from "never answered".
    session = httpx.AsyncClient(
        timeout=httpx.Timeout(timeout, connect=timeout / 2),
        limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
    )
    if access_token is None:
        return session, None
    client = WhatsApp(token=access_token, server=None, session=session)
    if api_url is not None:
        session.base_url = httpx.URL(_versioned(api_url, str(session.base_url)))
    return session, client


def _versioned(api_url: str, default_url: str) -> str:
    """Give `api_url` the API version of pywa's own URL unless it names one."""
    last = urlsplit(api_url).path.rstrip("/").rpartition("/")[2]
    if last.startswith("v") and last[1:2].isdigit():
        return api_url
    version = urlsplit(default_url).path.strip("/")
    return f"{api_url.rstrip('/')}/{version}"


async def _guarded(call: Awaitable[Any]) -> Any:
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


def _sent(answer: Any) -> Sent:
    try:
        provider_id = answer["messages"][0]["id"]
    except (LookupError, TypeError) as error:
        raise OutcomeUnknown("bad_answer", type(error).__name__) from error
    if not isinstance(provider_id, str) or not provider_id:
        raise OutcomeUnknown("bad_answer", "no message id")
    return Sent(provider_id, status="sending")


async def _send_text(api: GraphAPIAsync, message: OutboundMessage) -> Any:
    text = message.content.get("text")
    if not isinstance(text, str) or not text:
        raise Refused("invalid_content", "text is missing")
    return await _send(api, message, "text", {"body": text})


async def _send(api: GraphAPIAsync, message: OutboundMessage, kind: str, body: dict[str, Any]) -> Any:
    # `WhatsApp.send_message` would guess the kind of recipient from its form, and takes business-scoped ids with
    # letters after the point for groups; it also fails on accepted messages whose answer names no contact.
    to, recipient = _address(message)
    return await api.send_message(
        sender=message.sender,
        to=to,
        recipient=recipient,
        recipient_type="individual",
        typ=kind,
        msg=body,
        reply_to_message_id=_reply_to(message.content),
        biz_opaque_callback_data=message.hub_id,
    )


def _address(message: OutboundMessage) -> tuple[str | None, str | None]:
    if message.user_id:
        return None, message.user_id
    if message.phone:
        return message.phone.removeprefix("+"), None
    raise Refused("bad_recipient", "neither phone nor user id")


def _reply_to(content: Mapping[str, Any]) -> str | None:
    reply_to = content.get("reply_to")
    target = reply_to.get("provider_id") if isinstance(reply_to, Mapping) else None
    return target if isinstance(target, str) else None


_SENDS: Mapping[str, Callable[[GraphAPIAsync, OutboundMessage], Awaitable[Any]]] = {"text": _send_text}
"""What can be sent: the message's type -> how."""

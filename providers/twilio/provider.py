"""Sends through Twilio's Messages API with its SDK, over SMS and WhatsApp."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from twilio.base.exceptions import TwilioException
from twilio.rest import Client

from providers.base import (
    Handshake,
    OutboundMessage,
    OutcomeUnknown,
    Provider,
    Refused,
    Route,
    SendError,
    Sent,
    Status,
)
from providers.twilio import webhook
from providers.twilio.client import HttpClient
from providers.twilio.errors import from_answer, from_failure, refusal

WEBHOOK_PATH = "/webhooks/twilio"
STATUS_PATH = "/webhooks/twilio/status"

_STATUSES: Mapping[str, Status] = {"sent": "sent", "delivered": "delivered", "read": "read"}
"""What an accepted message is at once; anything else (queued, accepted, scheduled, sending) is `sending` (rule E7)."""

_FAILED = frozenset({"failed", "undelivered", "canceled"})


async def connect(
    *,
    account_sid: str | None,
    auth_tokens: Sequence[str],
    public_url: str,
    api_url: str | None,
    timeout: float,  # noqa: ASYNC109 - bounds each send, not this call
    concurrency: int,
) -> Provider:
    """Build the provider; nothing is sent yet.

    The first of `auth_tokens` sends, all verify. `public_url` is where Twilio reaches the hub, without a slash at
    the end; it is what Twilio signs over. `api_url` stands in for all of Twilio's hosts; None is Twilio. A send
    takes at most `timeout` seconds once one of `concurrency` slots is free. Without an account or a token webhooks
    are still served and every send is refused as `not_configured`.
    """
    http = HttpClient(api_url=api_url, timeout=timeout, concurrency=concurrency)
    client = Client(account_sid, auth_tokens[0], http_client=http) if account_sid and auth_tokens else None
    verify = partial(webhook.verify, tokens=tuple(auth_tokens), public_url=public_url)
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
    return Twilio(routes, http, client, f"{public_url.rstrip('/')}{STATUS_PATH}", timeout, concurrency)


class Twilio:
    """The provider `twilio`."""

    name = "twilio"

    def __init__(
        self,
        routes: Sequence[Route],
        http: HttpClient,
        client: Client | None,
        status_url: str,
        timeout: float,
        concurrency: int,
    ) -> None:
        self.routes = routes
        self.handshakes: Sequence[Handshake] = []
        self._http = http
        self._client = client
        self._status_url = status_url
        self._timeout = timeout
        self._slots = asyncio.Semaphore(concurrency)

    async def send(self, message: OutboundMessage) -> Sent:
        """Send once. `Sent.status` is `sending` while Twilio has the message queued; its callbacks tell the rest."""
        build = _CONTENTS.get(message.type)
        if build is None:
            raise Refused("unsupported_type", f"{message.type} over {message.medium}")
        if self._client is None:
            raise Refused("not_configured", "no account or token")
        callback = f"{self._status_url}?message={quote(message.hub_id, safe='')}"
        arguments = _addresses(message) | build(message.content) | {"status_callback": callback}
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout):
                    return _sent(await _guarded(self._client.messages.create_async(**arguments)))
            except TimeoutError as error:
                raise from_failure(error) from error

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()


async def _guarded(call: Awaitable[Any]) -> Any:
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
    if answer.status in _FAILED:
        raise refusal(answer.error_code, str(answer.error_message or answer.status))
    return Sent(answer.sid, status=_STATUSES.get(str(answer.status), "sending"))


def _addresses(message: OutboundMessage) -> dict[str, Any]:
    """`to`, and `from_` or the messaging service; on WhatsApp numbers and user ids carry the channel's prefix."""
    to = message.user_id or message.phone
    if not to or (message.medium == "sms" and not message.phone):
        raise Refused("bad_recipient", f"no address for {message.medium}")
    prefix = "whatsapp:" if message.medium == "whatsapp" else ""
    target = {"to": f"{prefix}{to}"}
    if message.sender.startswith("MG"):
        return target | {"messaging_service_sid": message.sender}
    return target | {"from_": prefix + message.sender.removeprefix(prefix)}


def _text(content: Mapping[str, Any]) -> dict[str, Any]:
    text = content.get("text")
    if not isinstance(text, str) or not text:
        raise Refused("invalid_content", "text is missing")
    if content.get("reply_to"):
        raise Refused("unsupported_reply_to", "Twilio cannot quote a message")
    return {"body": text}


_CONTENTS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"text": _text}
"""What can be sent: the message's type -> the SDK's arguments for it."""

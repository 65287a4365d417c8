"""Twilio through its SDK: sends over SMS and WhatsApp, typing, templates, and looking a send up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from twilio.base.exceptions import TwilioException
from twilio.rest import Client

from providers.base import (
    FoundSend,
    Handshake,
    Medium,
    OutboundMessage,
    OutcomeUnknown,
    Provider,
    ReadMark,
    Refused,
    Route,
    SendError,
    Sent,
    Template,
    Upload,
)
from providers.twilio import lookups, outbound, webhook
from providers.twilio.client import HttpClient
from providers.twilio.codes import STATUSES
from providers.twilio.errors import from_answer, from_failure, refusal

Result = TypeVar("Result")

WEBHOOK_PATH = "/webhooks/twilio"
STATUS_PATH = "/webhooks/twilio/status"


async def connect(
    *,
    account_sid: str | None,
    auth_tokens: Sequence[str],
    public_url: str,
    api_url: str | None,
    timeout: float,  # noqa: ASYNC109 - bounds each later call, not this one
    concurrency: int,
) -> Provider:
    """Build the provider; nothing is sent yet.

    The first of `auth_tokens` sends, all verify. `public_url` is where Twilio reaches the hub, without a slash at
    the end; it is what Twilio signs over. `api_url` stands in for all of Twilio's hosts; None is Twilio. A send,
    or any other call, takes at most `timeout` seconds once one of `concurrency` slots is free. Without an account or
    a token webhooks are still served and every call is refused as `not_configured`.
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
    supports: Mapping[Medium, frozenset[str]] = outbound.SUPPORTS

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

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def _bounded(self, call: Callable[[Client], Awaitable[Result]]) -> Result:
        """Make a call with a slot and within the time. Raises nothing but `SendError`."""
        if self._client is None:
            raise Refused("not_configured", "no account or token")
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeout):
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

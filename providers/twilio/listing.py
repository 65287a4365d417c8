"""What Twilio lists of the account's messages, as the webhooks that would have told of them.

https://www.twilio.com/docs/messaging/api/message-resource. A list has less than a webhook: no names and user ids of
customers beside the address, no buttons, lists, places, quotes or referrals.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from twilio.rest import Client

from providers.base import OutcomeUnknown, Refused, WebhookRequest
from providers.twilio.codes import STATUSES

PATH: Final = "/webhooks/twilio/listed"
TOO_MANY: Final = "too_many"
MAX_MESSAGES: Final = 10_000
"""More are not looked through at once."""

Ask = Callable[[Callable[[Client], Awaitable[Any]]], Awaitable[Any]]

_PAGE: Final = 1000
_MAX_MEDIA: Final = 50
_TOLERANCE: Final = timedelta(seconds=5)
"""Twilio's times are whole seconds by its own clock."""
_FORM: Final = "application/x-www-form-urlencoded"
_NEVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
_API: Final = "https://api.twilio.com"


def time_of(resource: Any) -> datetime:
    """When it came, or when its status changed; by Twilio's clock."""
    changed = None if is_inbound(resource) else resource.date_updated
    return _first_time(changed, resource.date_sent, resource.date_created) or _NEVER


def is_inbound(resource: Any) -> bool:
    """Whether a customer sent it."""
    return bool(resource.direction == "inbound")


async def list_received(ask: Ask, since: datetime, until: datetime) -> list[WebhookRequest]:
    """What the account's customers wrote and what became of its own messages, of those sent between these times; in
    the order of Twilio's clock.

    Raises `SendError`: `OutcomeUnknown` (`too_many`) where there are more than `MAX_MESSAGES`.
    """
    listed = {resource.sid: resource for resource in await ask(_lister(since, until))}  # pages may overlap
    # The list begins with the latest; of one second, the order of the list is all that is known.
    resources = [resource for resource in reversed(listed.values()) if _is_news(resource, since, until)]
    return [as_webhook(resource) for resource in sorted(resources, key=time_of)]


async def fill_in(ask: Ask, listed: WebhookRequest) -> WebhookRequest:
    """A listed message with the addresses and types of its files. Raises `SendError`."""
    told = dict(parse_qsl(listed.body.decode(), keep_blank_values=True))
    if told.get("NumMedia", "0") == "0":
        return listed
    media = await _media(ask, told["MessageSid"])
    told["NumMedia"] = str(len(media))
    for place, (url, content_type) in enumerate(media):
        told |= {f"MediaUrl{place}": url, f"MediaContentType{place}": content_type}
    return replace(listed, body=urlencode(told).encode())


def as_webhook(resource: Any) -> WebhookRequest:
    """The form that Twilio would have posted, as far as the list tells, and the time; its files are to be asked for."""
    is_status = not is_inbound(resource)
    told = {
        "MessageSid": resource.sid,
        "AccountSid": resource.account_sid,
        "MessagingServiceSid": resource.messaging_service_sid,
        "From": resource.from_,
        "To": resource.to,
        "DateSent": time_of(resource).astimezone(UTC).isoformat(),
        "Body": None if is_status else resource.body or "",
        "NumSegments": None if is_status else resource.num_segments,
        "NumMedia": None if is_status else str(resource.num_media or "0"),
        "SmsStatus": None if is_status else "received",
        "MessageStatus": resource.status if is_status else None,
        "ErrorCode": resource.error_code if is_status else None,
        "ErrorMessage": resource.error_message if is_status else None,
    }
    body = urlencode({name: value for name, value in told.items() if value is not None}).encode()
    return WebhookRequest(PATH, {"content-type": _FORM}, body)


def _lister(since: datetime, until: datetime) -> Callable[[Client], Awaitable[list[Any]]]:
    async def read(client: Client) -> list[Any]:
        listed = await client.messages.list_async(
            date_sent_after=since - _TOLERANCE,
            date_sent_before=until + _TOLERANCE,
            page_size=_PAGE,
            limit=MAX_MESSAGES + 1,
        )
        if len(listed) > MAX_MESSAGES:
            raise OutcomeUnknown(TOO_MANY, f"more than {MAX_MESSAGES} messages: ask for less time at once")
        return list(listed)

    return read


def _is_news(resource: Any, since: datetime, until: datetime) -> bool:
    """Whether it is of this span, which Twilio may have taken for whole days, and says more than "being sent". What is
    younger may still be on its way by webhook, which tells more.
    """
    sent = _first_time(resource.date_sent, resource.date_created)
    if sent is None or not since - _TOLERANCE <= sent <= until:
        return False
    return is_inbound(resource) or STATUSES.get(str(resource.status), "sending") != "sending"


def _first_time(*values: object) -> datetime | None:
    """The first that is a time; what the SDK cannot read it hands on as it is."""
    return next((value for value in values if isinstance(value, datetime)), None)


async def _media(ask: Ask, sid: str) -> list[tuple[str, str]]:
    """The addresses and types of a message's files."""

    async def read(client: Client) -> Any:
        return await client.messages(sid).media.list_async(limit=_MAX_MEDIA)

    try:
        files = await ask(read)
    except Refused as error:
        if error.code != "not_found":
            raise
        return []  # deleted meanwhile
    addresses = [f"{_API}{file.uri}".removesuffix(".json") for file in files]
    return [(url, file.content_type or "") for url, file in zip(addresses, files, strict=True)]

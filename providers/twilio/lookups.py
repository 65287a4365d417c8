"""What Twilio tells when asked: which of its messages is one of ours (rule E8), and the templates it has.

https://www.twilio.com/docs/messaging/api/message-resource, https://www.twilio.com/docs/content/content-api-resources.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from twilio.rest import Client

from providers.base import FoundSend, OutboundMessage, OutcomeUnknown, Template
from providers.twilio.codes import STATUSES, reported_errors
from providers.twilio.outbound import Arguments

_MAX_MESSAGES: Final = 1000
_MESSAGES_PAGE: Final = 100
_MAX_TEMPLATES: Final = 2000
_TEMPLATES_PAGE: Final = 500
_TOLERANCE: Final = timedelta(seconds=5)
"""Twilio's times are whole seconds by its own clock."""


async def find_messages(client: Client, wanted: Arguments, since: datetime, until: datetime) -> Sequence[FoundSend]:
    """The messages made from `wanted` (the SDK's arguments of the send) between these times.

    Twilio filters by the day a message was sent and says nothing of those not sent yet, so times are judged here.
    Its list begins with the latest. Raises `OutcomeUnknown` if it does not end within bounds.
    """
    who = {name: wanted[name] for name in ("to", "from_") if name in wanted}
    listed = await client.messages.stream_async(**who, page_size=_MESSAGES_PAGE, limit=_MAX_MESSAGES)
    found: list[FoundSend] = []
    count = 0
    async for resource in listed:
        if resource.date_sent is not None and resource.date_sent < since - _TOLERANCE:
            return found
        count += 1
        is_in_time = since - _TOLERANCE <= resource.date_created <= until + _TOLERANCE
        if is_in_time and _is_made_from(resource, wanted):
            found.append(_found(resource))
    if count >= _MAX_MESSAGES:
        raise OutcomeUnknown("unexpected", f"more than {_MAX_MESSAGES} messages to look through")
    return found


def can_be_recognised(message: OutboundMessage) -> bool:
    """Whether Twilio's list shows enough of it: of a template it has only the finished text."""
    return message.type != "template"


async def list_contents(client: Client) -> Sequence[Template]:
    """The account's content templates, up to 2,000, with WhatsApp's verdict where it was asked for one."""
    listed = client.content.v1.content_and_approvals
    contents = await listed.list_async(page_size=_TEMPLATES_PAGE, limit=_MAX_TEMPLATES)
    return [_template(resource) for resource in contents]


def _is_made_from(resource: Any, wanted: Arguments) -> bool:
    """Of files Twilio's list tells only how many there are."""
    sender = resource.from_ if "from_" in wanted else resource.messaging_service_sid
    return (
        resource.direction == "outbound-api"
        and resource.to == wanted["to"]
        and sender == wanted.get("from_", wanted.get("messaging_service_sid"))
        and (resource.body or "") == wanted.get("body", "")
        and str(resource.num_media or 0) == str(len(wanted.get("media_url", ())))
    )


def _found(resource: Any) -> FoundSend:
    code = None if resource.error_code is None else str(resource.error_code)
    return FoundSend(
        provider_id=resource.sid,
        status=STATUSES.get(str(resource.status), "sending"),
        reported=str(resource.status),
        errors=reported_errors(code, resource.error_message),
    )


def _template(resource: Any) -> Template:
    approval = resource.approval_requests if isinstance(resource.approval_requests, Mapping) else {}
    if isinstance(approval.get("whatsapp"), Mapping):  # as Twilio tells it of a single template
        approval = approval["whatsapp"]
    status = _lower(approval.get("status"))
    return Template(
        external_id=resource.sid,
        name=resource.friendly_name or resource.sid,
        language=resource.language or None,
        category=_lower(approval.get("category")),
        status="pending" if status == "received" else status,
        content={"types": resource.types or {}, "variables": resource.variables or {}},
    )


def _lower(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and value else None

"""What the API takes, validated: every fault of a body is reported at once (rule H1)."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

import orjson
from aiohttp import web
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from hub.domain.addresses import is_e164
from hub.domain.errors import Invalid, NotFound, TooLarge
from hub.domain.events import EVENT_TYPES
from hub.domain.ids import parse_id

_MAX_DIGITS: Final = 19
_EVENT_ID: Final = re.compile("evt_[0-9a-f]{1,16}")
_MOST: Final = 2**63 - 1
MAX_SHARES: Final = 200
"""Services that one shares with by name (C2)."""
MAX_BODY = 1024 * 1024
"""Bytes of an API request's body."""


def clean(value: object) -> object:
    """PostgreSQL holds no NUL and UTF-8 no lone surrogate: refused here, where the caller can be told."""
    if isinstance(value, str) and ("\x00" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        raise ValueError("holds a NUL or a lone surrogate")
    return value


def _e164(value: object) -> object:
    if isinstance(value, str) and not is_e164(value):
        raise ValueError("is not a number in international form, such as +4915112345678")
    return value


def _event_number(value: object) -> object:
    if not isinstance(value, str) or (number := event_number(value)) is None:
        raise ValueError("is not the event_id of an event")
    return number


def event_number(text: str) -> int | None:
    """An event's place in the log, from its `event_id`; None where the text is none."""
    return min(int(text[4:], 16), _MOST) if _EVENT_ID.fullmatch(text) else None


# The constraints come first: before another validator, the length would be judged with the blanks around it.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True), BeforeValidator(clean)]
E164 = Annotated[
    str,
    BeforeValidator(_e164),
    WithJsonSchema({"type": "string", "pattern": r"^\+[1-9][0-9]{6,14}$", "examples": ["+4915112345678"]}),
]
EventNumber = Annotated[
    int,
    BeforeValidator(_event_number),
    WithJsonSchema({"type": "string", "pattern": "^evt_[0-9a-f]{1,16}$", "examples": ["evt_0000000000000042"]}),
]


def id_schema(prefix: str) -> WithJsonSchema:
    """The schema of an id of ours."""
    return WithJsonSchema({"type": "string", "pattern": f"^{prefix}_[0-9a-f]{{32}}$"})


# Ids that whoever looks them up judges: another text names nothing.
ServiceText = Annotated[str, id_schema("svc")]
ConversationText = Annotated[str, id_schema("cnv")]


class Model(BaseModel):
    """What bodies have in common: no unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ConnectionIn(Model):
    """What a service asks for when it connects."""

    endpoint_url: Annotated[str, BeforeValidator(clean), StringConstraints(max_length=2048)] | None = None
    event_types: list[str] | None = Field(default=None, max_length=100)
    display: Literal["masked", "full"] = "masked"
    share: Literal["none", "all"] | list[str] | None = None
    on_exhausted: Literal["continue", "hold"] = "continue"
    start_at: AwareDatetime | None = None

    @field_validator("event_types")
    @classmethod
    def _known_types(cls, value: list[str] | None) -> list[str] | None:
        unknown = sorted(set(value or ()) - set(EVENT_TYPES))
        if unknown:
            raise ValueError(f"unknown event types: {', '.join(unknown)}")
        return value

    @field_validator("share")
    @classmethod
    def _names_services(cls, value: str | list[str] | None) -> str | list[str] | None:
        if not isinstance(value, list):
            return value
        if len(value) > MAX_SHARES:
            raise ValueError(f"names more than {MAX_SHARES} services: share with 'all', or with fewer")
        for name in value:
            try:
                parse_id("svc", name)
            except NotFound:
                raise ValueError(f"{name!r} is no service's id") from None
        return list(dict.fromkeys(value))


class ResumeIn(Model):
    """How deliveries go on after a pause."""

    mode: Literal["continue", "skip"] = "continue"


class ReplayIn(Model):
    """What is to be delivered once more: one way of saying which events, and a conversation to narrow it."""

    event_ids: list[EventNumber] | None = Field(default=None, min_length=1, max_length=1000)
    from_event_id: EventNumber | None = None
    to_event_id: EventNumber | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    failed: bool = False
    conversation_id: ConversationText | None = None
    number: E164 | None = None

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        spans = self.since is not None and not self.failed
        ways = [self.event_ids is not None, self.from_event_id is not None, spans, self.failed]
        if sum(ways) > 1 or not (any(ways) or self.conversation_id):
            raise ValueError("say which events in one way: event_ids, from_event_id, since, failed or conversation_id")
        if self.to_event_id is not None and (self.from_event_id is None or self.to_event_id < self.from_event_id):
            raise ValueError("to_event_id ends what from_event_id begins")
        if self.until is not None and not (self.failed or (self.since is not None and self.since < self.until)):
            raise ValueError("until ends what since begins")
        return self


class ReplayForIn(ReplayIn):
    """The same from the operator, who says for which service."""

    service_id: ServiceText


async def read_json(request: web.Request) -> tuple[bytes, Any]:
    """The body, raw and parsed. Raises `Invalid` where it is no JSON object."""
    raw = await request.read()
    if len(raw) > MAX_BODY:
        raise TooLarge(f"the body is over {MAX_BODY} bytes")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise Invalid("the body must be a JSON object", code="invalid_json")
    return raw, value


async def read_optional(request: web.Request) -> Any:
    """The body as `read_json` parses it; an object without fields where there is none. Raises `Invalid`."""
    return (await read_json(request))[1] if (await request.read()).strip() else {}


def read_number(name: str, text: str, low: int, high: int) -> int:
    """A whole number as text. Raises `Invalid` where it is none or out of bounds."""
    digits = text.removeprefix("-") if low < 0 else text
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
    if not is_number or not low <= int(text) <= high:
        raise Invalid(f"{name} must be a number from {low} to {high}")
    return int(text)


def read_time(name: str, text: str) -> datetime:
    """A time as text; without an offset it is in UTC. Raises `Invalid`."""
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Invalid(f"{name} must be a time such as 2026-01-31T12:00:00Z") from None


def read_phone(name: str, text: str) -> str:
    """A number in international form; a plus that was not written as %2B arrives as a space. Raises `Invalid`."""
    e164 = "+" + text[1:] if text.startswith(" ") else text
    if not is_e164(e164):
        raise Invalid(f"{name} must be a number in international form, such as +4915112345678")
    return e164


def number_of(request: web.Request, name: str, *, default: int, low: int = 0, high: int = 2**62) -> int:
    """A number in the query of a page; operations of the API have `hub.http.params`. Raises `Invalid`."""
    text = request.query.get(name)
    return default if text is None else read_number(name, text, low, high)


def phone_of(request: web.Request, name: str) -> str | None:
    """A phone number in the query of a page. Raises `Invalid`."""
    text = request.query.get(name)
    return None if text is None else read_phone(name, text)

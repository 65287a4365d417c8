"""Parameters of requests: objects that read them, and describe themselves in the API's document.

A handler names them in `@operation` and reads them here, so what is documented is what is read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeVar
from uuid import UUID

from aiohttp import web

from hub.domain.errors import Invalid
from hub.domain.ids import parse_id
from hub.http.schemas import event_number, read_number, read_phone, read_time

T = TypeVar("T")
Schema = dict[str, Any]
_E164: Final[Schema] = {"type": "string", "pattern": r"^\+[1-9][0-9]{6,14}$"}
_EVENT: Final[Schema] = {"type": "string", "pattern": "^evt_[0-9a-f]{1,16}$"}


@dataclass(frozen=True, slots=True)
class Parameter(Generic[T]):
    """One parameter: how it is read, and how it is described. `parse` raises a `Refusal` for a text that is none."""

    name: str
    text: str
    schema: Schema
    parse: Callable[[str], T]
    place: Literal["query", "path", "header"] = "query"
    default: T | None = None
    is_required: bool = False
    example: Any = field(default=None, compare=False)
    codes: Sequence[str] = ()
    """With which it is refused, where that is not `invalid_request` (of a path: `not_found`)."""

    def find(self, request: web.Request) -> T | None:
        """Its value; None where the request does not have it. Raises `Refusal`."""
        text = self.text_in(request)
        return None if text is None else self.parse(text)

    def read(self, request: web.Request) -> T:
        """Its value, or its default. Raises `Refusal`; `Invalid` where it has none and the request does not say it."""
        text = self.text_in(request)
        if text is not None:
            return self.parse(text)
        if self.default is None:
            raise Invalid(f"{self.name} is missing: {self.text}")
        return self.default

    def text_in(self, request: web.Request) -> str | None:
        """What the request says, unread."""
        match self.place:
            case "path":
                return request.match_info[self.name]
            case "header":
                return request.headers.get(self.name)
            case _:
                return request.query.get(self.name)

    def is_in(self, request: web.Request) -> bool:
        """Whether the request has it."""
        return self.text_in(request) is not None


# Kinds --------------------------------------------------------------------------------------------------------------


def integer(name: str, text: str, *, default: int | None = None, low: int = 0, high: int = 2**62) -> Parameter[int]:
    """A whole number within bounds."""

    def parse(given: str) -> int:
        return read_number(name, given, low, high)

    schema: Schema = {"type": "integer", "minimum": low, "maximum": high}
    return Parameter(name, text, schema, parse, default=default)


def flag(name: str, text: str) -> Parameter[bool]:
    """True or false; not said: false."""

    def parse(given: str) -> bool:
        if given not in {"true", "false"}:
            raise Invalid(f"{name} must be true or false: {text}")
        return given == "true"

    return Parameter(name, text, {"type": "boolean"}, parse, default=False)


def choice(name: str, text: str, values: Sequence[str], *, default: str | None = None) -> Parameter[str]:
    """One of these words."""

    def parse(given: str) -> str:
        if given not in values:
            raise Invalid(f"{name} is one of {', '.join(values)}: {text}")
        return given

    return Parameter(name, text, {"type": "string", "enum": list(values)}, parse, default=default)


def word(
    name: str, text: str, *, is_required: bool = False, default: str | None = None, **schema: Any
) -> Parameter[str]:
    """Any text; whoever reads it judges it. `schema` may say what is known of it: a pattern, a length."""
    return Parameter(name, text, {"type": "string", **schema}, str, default=default, is_required=is_required)


def time(name: str, text: str) -> Parameter[datetime]:
    """A time (RFC 3339); without an offset in UTC."""

    def parse(given: str) -> datetime:
        return read_time(name, given)

    return Parameter(name, text, {"type": "string", "format": "date-time"}, parse, example="2026-01-31T12:00:00Z")


def phone(name: str, text: str) -> Parameter[str]:
    """A number in international form; a plus that was not written as %2B arrives as a space."""

    def parse(given: str) -> str:
        return read_phone(name, given)

    return Parameter(name, text, _E164, parse, example="+4915112345678")


def event(name: str, text: str) -> Parameter[int]:
    """An event's id; read as its number in the log."""

    def parse(given: str) -> int:
        number = event_number(given)
        if number is None:
            raise Invalid(f"{name} is the event_id of an event")
        return number

    return Parameter(name, text, _EVENT, parse, example="evt_0000000000000042")


def identifier(prefix: str, name: str, text: str, *, default: UUID | None = None) -> Parameter[UUID]:
    """An id of ours, such as `cnv_...`; anything else names nothing: `not_found`."""
    return Parameter(
        name, text, _id_schema(prefix), lambda given: parse_id(prefix, given), default=default,
        example=f"{prefix}_01a201a0acfb727eb1d3509573352294", codes=("not_found",),
    )  # fmt: skip


def _id_schema(prefix: str) -> Schema:
    return {"type": "string", "pattern": f"^{prefix}_[0-9a-f]{{32}}$"}


def in_path(prefix: str, what: str, name: str = "id") -> Parameter[UUID]:
    """An id of ours in the path: `not_found` for anything else."""
    return Parameter(
        name, what, _id_schema(prefix), lambda given: parse_id(prefix, given), place="path", is_required=True,
        example=f"{prefix}_01a201a0acfb727eb1d3509573352294",
    )  # fmt: skip


def word_in_path(name: str, text: str, example: str, **schema: Any) -> Parameter[str]:
    """A text in the path; whoever reads it judges it."""
    return Parameter(name, text, {"type": "string", **schema}, str, place="path", is_required=True, example=example)


def header(name: str, text: str, parse: Callable[[str], T], **schema: Any) -> Parameter[T]:
    """A header of the request."""
    return Parameter(name, text, {"type": "string", **schema}, parse, place="header")


# Those that many have -----------------------------------------------------------------------------------------------

_MAX_KEY: Final = 255
FIRST: Final = UUID(int=0)


def limit(default: int = 50, most: int = 200) -> Parameter[int]:
    """How many a page holds."""
    return integer("limit", "how many a page holds at most", default=default, low=1, high=most)


def after_id(prefix: str) -> Parameter[UUID]:
    """The page after this id."""
    return identifier(prefix, "after", "the `next` of the page before", default=FIRST)


def before_id(prefix: str) -> Parameter[UUID]:
    """The page before this id, which is older."""
    return identifier(prefix, "before", "the `next` of the page before")


def _idempotency_key(given: str) -> str:
    if not (given.isascii() and given.isprintable() and 0 < len(given) <= _MAX_KEY):
        raise Invalid(f"an Idempotency-Key is 1 to {_MAX_KEY} printable ASCII characters (rule E6): send another")
    return given


LIMIT: Final = limit()
NUMBER: Final = phone("number", "of this number alone")
CONVERSATION: Final = in_path("cnv", "the conversation")
MESSAGE: Final = in_path("msg", "the message")
CONTACT: Final = in_path("con", "the contact")
SERVICE: Final = in_path("svc", "the service")
E164: Final = Parameter(
    "e164", "the number in international form (`+` as it is, or `%2B`)", _E164, str, place="path", is_required=True,
    example="+4930123456",
)  # fmt: skip
IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key", "the same key and body within 24 hours: the first answer again, and nothing is done twice (E6)",
    {"type": "string", "minLength": 1, "maxLength": _MAX_KEY, "pattern": "^[ -~]+$"}, _idempotency_key, place="header",
    codes=("idempotency_mismatch",),
)  # fmt: skip

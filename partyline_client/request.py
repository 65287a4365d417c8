"""Requests to the adapter API and what their answers say, without I/O: send them with any HTTP client.

Every request also needs `Authorization: Bearer <the service's API key>`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from partyline_client.errors import Malformed, Problem, Unreadable
from partyline_client.events import Event, Expired

T = TypeVar("T")
_DOCUMENT: Final = {"type", "title", "status", "code", "detail", "errors"}
_DIGITS: Final = re.compile("[0-9]{1,9}")
_IDEMPOTENT: Final = {"GET", "HEAD", "PUT", "DELETE"}
IDEMPOTENCY_KEY: Final = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """What to send: `path` with its query goes behind the hub's URL. `read` turns the answer's JSON into what it means.

    `is_safe`: sent twice it does what it does once, although its method does not promise that.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_safe: bool = False

    @property
    def may_be_repeated(self) -> bool:
        """Whether to send it again where nobody knows if the hub did it."""
        return self.is_safe or self.method in _IDEMPOTENT or IDEMPOTENCY_KEY in self.headers

    def following(self, **query: str) -> "Request[T]":
        """The same with these parameters of its query set, and no other cursor."""
        parts = urlsplit(self.path)
        kept = {name: value for name, value in parse_qsl(parts.query) if name not in {"after", "before"}}
        return replace(self, path=with_query(parts.path, **kept, **query))


@dataclass(frozen=True, slots=True)
class Items(Generic[T]):
    """One page of a list. `next` is the cursor of the following one, None at the end; `answer` is all of it."""

    items: tuple[T, ...]
    next: str | None
    answer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A list: the request for its first page, and the name by which `Items.next` asks for the others."""

    first: Request[Items[T]]
    cursor: str = "after"

    def following(self, page: Items[T]) -> Request[Items[T]] | None:
        """The request for the page behind this one, None at the end."""
        return None if page.next is None else self.first.following(**{self.cursor: page.next})


@dataclass(frozen=True, slots=True)
class Page:
    """Events of the feed, and where to go on: `next` is opaque, and there also where nothing is left just now.

    `expired`: some events between the last page and this one were dropped for their age before they were asked for.
    """

    events: tuple[Event, ...]
    next: str
    has_more: bool
    expired: Expired | None = None


# Reading ------------------------------------------------------------------------------------------------------------


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """What an answer says: its JSON, None where it has none. Raises `Problem` or `Unreadable`."""
    if status >= 400:
        raise _problem(status, headers, body)
    if not 200 <= status < 300:
        raise Unreadable(f"the answer is {status}, and the hub redirects nobody")
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        raise Unreadable(f"the answer {status} is not JSON") from None


def read_object(answer: Any) -> dict[str, Any]:
    """The object that `read_answer` gave. Raises `Unreadable` for anything else."""
    if not isinstance(answer, dict):
        raise Unreadable("the answer is no object")
    return answer


def read_page(answer: Any) -> Page:
    """The page of the feed that `read_answer` gave. Raises `Unreadable`."""
    page = read_object(answer)
    items, following, has_more = page.get("items"), page.get("next"), page.get("has_more")
    if not isinstance(items, list) or not isinstance(following, str) or not isinstance(has_more, bool):
        raise Unreadable("the answer is no page of events")
    try:
        expired = None if page.get("expired") is None else Expired.from_document(page["expired"])
        return Page(tuple(Event.from_document(item) for item in items), following, has_more, expired)
    except Malformed as error:
        raise Unreadable(f"the page holds something else than events: {error}") from None


def reader(_: type[T]) -> Callable[[Any], T]:
    """Reads an object of this kind."""
    return cast("Callable[[Any], T]", read_object)


def items_reader(_: type[T]) -> Callable[[Any], Items[T]]:
    """Reads a page of a list of this kind."""
    return cast("Callable[[Any], Items[T]]", _read_items)


def _read_items(answer: Any) -> Items[Any]:
    page = read_object(answer)
    items, following = page.get("items"), page.get("next")
    if not isinstance(items, list) or not isinstance(following, str | int | None):
        raise Unreadable("the answer is no list")
    return Items(tuple(read_object(item) for item in items), None if following is None else str(following), page)


def read_nothing(_: Any) -> None:
    """For answers that say nothing but that it is done."""


def _problem(status: int, headers: Mapping[str, str], body: bytes) -> Problem:
    retry_after = _seconds({name.lower(): value for name, value in headers.items()}.get("retry-after"))
    try:
        document = json.loads(body)
        code = document["code"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return Problem(status, "unknown", "the answer is not the hub's", retry_after=retry_after)
    facts = {name: value for name, value in document.items() if name not in _DOCUMENT}
    faults = document.get("errors")
    errors = [fault for fault in faults if isinstance(fault, dict)] if isinstance(faults, list) else ()
    detail = str(document.get("detail", ""))
    return Problem(status, str(code), detail, errors=errors, facts=facts, retry_after=retry_after)


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and _DIGITS.fullmatch(retry_after) else None


# Writing ------------------------------------------------------------------------------------------------------------


def with_json(
    method: str,
    path: str,
    body: Mapping[str, Any],
    read: Callable[[Any], T],
    *,
    headers: Mapping[str, str] | None = None,
    is_safe: bool = False,
) -> Request[T]:
    """A request with a body, of which what is None is left out."""
    raw = json.dumps(given(body), default=_text).encode()
    return Request(method, path, read, {"Content-Type": "application/json", **(headers or {})}, raw, is_safe)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is not None."""
    return {name: value for name, value in values.items() if value is not None}


def in_path(path: str, *parts: str) -> str:
    """A path with these parts in the place of its `{}`, quoted. Raises ValueError for what would lead elsewhere."""
    for part in parts:
        if part in {"", ".", ".."}:
            raise ValueError(f"{part!r} names nothing")
    return path.format(*(quote(part, safe="+") for part in parts))


def with_query(path: str, **values: object) -> str:
    """A path with its query; what is None is left out."""
    query = urlencode({name: _text(value) for name, value in given(values).items()})
    return f"{path}?{query}" if query else path


def _text(value: object) -> str:
    """A time, or a truth, as the hub reads it. Raises ValueError for a time without offset."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value} has no offset: give a time such as datetime.now(UTC)")
        return value.isoformat()
    if isinstance(value, str | int | float):
        return str(value)
    raise TypeError(f"{type(value).__name__} is nothing the hub reads")

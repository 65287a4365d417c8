"""The adapter API without I/O: requests to send with any HTTP client, and what the answers say (docs/api.md).

Every request also needs `Authorization: Bearer <the service's API key>`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

from partyline_client.errors import Malformed, Problem, Unreadable
from partyline_client.events import Event, Expired

_DOCUMENT: Final = {"type", "title", "status", "code", "detail", "errors"}
_DIGITS: Final = re.compile("[0-9]{1,9}")

Share = str | Sequence[str]
"""`none`, `all`, or the ids of services."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to send: `path` with its query goes behind the hub's URL."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Events of the feed, and where to go on: `next` is opaque, and there also where nothing is left just now.

    `expired`: some events between the last page and this one were dropped for their age before they were asked for.
    """

    events: tuple[Event, ...]
    next: str
    has_more: bool
    expired: Expired | None = None


def connect(
    number: str,
    *,
    endpoint_url: str | None = None,
    event_types: Sequence[str] | None = None,
    display: str | None = None,
    share: Share | None = None,
    **more: Any,
) -> Request:
    """Connect to a number (E.164), or change how. What is left out is set to its default, also on a second call.

    `more`: further fields of the API, such as `on_exhausted`.
    """
    wanted = {"endpoint_url": endpoint_url, "event_types": event_types, "display": display, "share": share, **more}
    return _json("PUT", _connection(number), _given(wanted))


def disconnect(number: str) -> Request:
    """Leave a number."""
    return Request("DELETE", _connection(number))


def pause(number: str) -> Request:
    """Hold events back until `resume`."""
    return _json("POST", _connection(number, "pause"), {})


def resume(number: str, mode: str = "continue") -> Request:
    """Go on after a pause: `continue` with what waited, or `skip` it."""
    return _json("POST", _connection(number, "resume"), {"mode": mode})


def rotate_secret(number: str) -> Request:
    """Ask for a new signing secret; the hub signs with both for a while."""
    return _json("POST", _connection(number, "rotate-secret"), {})


def replay(**selection: Any) -> Request:
    """Have events delivered once more, marked as replays: `conversation_id`, `event_ids`, `since`, `failed`..."""
    return _json("POST", "/v1/replays", _given(selection))


def reply(
    conversation_id: str,
    text: str,
    *,
    idempotency_key: str,
    agent: Mapping[str, str] | None = None,
    origin: str = "agent",
    **more: Any,
) -> Request:
    """Reply as a person (`agent`: `id` and `name`), or as automation with another `origin`.

    With the same `idempotency_key` (say, the id of the event it answers) it is sent once, however often it is asked
    for. `more`: fields of the API such as `reply_to` or `parent_epoch`.
    """
    body = {"origin": origin, "agent": agent, "type": "text", "text": text, **more}
    path = f"/v1/conversations/{_quoted(conversation_id)}/messages"
    return _json("POST", path, _given(body), {"Idempotency-Key": idempotency_key})


def events(
    after: str | None = None, *, since: str | None = None, number: str | None = None, limit: int | None = None
) -> Request:
    """The feed: from a position (`Page.next`), from a time, or from where the service's connections began."""
    return Request("GET", _query("/v1/events", after=after, since=since, number=number, limit=limit))


def stream(last_event_id: str | None = None, *, since: str | None = None, number: str | None = None) -> Request:
    """The live stream, for an `EventStream` to read: from a position, which may be the feed's, a time, or now."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    return Request("GET", _query("/v1/events/stream", since=since, number=number), headers)


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


def _json(method: str, path: str, body: object, headers: Mapping[str, str] | None = None) -> Request:
    return Request(method, path, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode())


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _query(path: str, **values: object) -> str:
    query = urlencode(_given(values))
    return f"{path}?{query}" if query else path


def _connection(number: str, verb: str = "") -> str:
    return f"/v1/numbers/{_quoted(number)}/connection{'/' if verb else ''}{verb}"


def _quoted(part: str) -> str:
    return quote(part, safe="+")

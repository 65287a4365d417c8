"""The audit trail over HTTP: who did what, to what, and when (rule A8)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from aiohttp import web

from hub.domain.errors import Invalid
from hub.domain.ids import public_id
from hub.http.answers.audit import AuditTrail
from hub.http.auth import operator
from hub.http.context import CONTEXT
from hub.http.operations import operation
from hub.http.params import LIMIT, flag, integer, time, word
from hub.http.problems import answer
from hub.store import audit, audit_search
from hub.store.audit_search import AuditFilter
from hub.store.pool import Connection, Record

_SLACK: Final = timedelta(minutes=1)
"""Rows are numbered as they are written, and timed when their transaction began: so far the two may differ."""
_LAST: Final = 2**62
_EVER: Final = datetime.max.replace(tzinfo=UTC)
_NEVER: Final = datetime.min.replace(tzinfo=UTC)

_AFTER: Final = integer("after", "the `next` of the page before")
_NEWEST: Final = flag("newest", "begin with the newest; pages follow by `before`")
_BEFORE: Final = integer("before", "older ones, newest first: the `next` of the page before")
_ACTOR: Final = word("actor", "who did it: `operator`, or the id of a service")
_ACTION: Final = word("action", "what was done: as `replay.requested`, or all that begin so: `replay`")
_SUBJECT: Final = word("subject", "what it was done to: an id, or a number")
_ABOUT: Final = word("about", "an id or a number that acted, is the subject or stands in the details")
_SINCE: Final = time("since", "of that time or later")
_UNTIL: Final = time("until", "before that time")


def add_routes(app: web.Application) -> None:
    """Put this path into the application."""
    app.router.add_get("/v1/admin/audit", operator(list_audit))


@operation(
    query=(_ACTOR, _ACTION, _SUBJECT, _ABOUT, _SINCE, _UNTIL, _NEWEST, _BEFORE, _AFTER, LIMIT),
    answers={200: AuditTrail},
)
async def list_audit(request: web.Request) -> web.Response:
    """Who did what, the oldest first, or the newest. With filters a page may be short, even empty, and yet
    have a next one: each looks through a part of the trail.
    """
    wanted = AuditFilter(*(parameter.find(request) for parameter in (_ACTOR, _ACTION, _SUBJECT, _ABOUT)))
    span = _SINCE.find(request) or _NEVER, _UNTIL.find(request) or _EVER
    after, before, limit = _AFTER.find(request), _BEFORE.find(request), LIMIT.read(request)
    is_newest_first = _NEWEST.read(request) or before is not None
    if after is not None and is_newest_first:
        raise Invalid("after goes on with what is newer; newest and before begin with that: not both")
    async with request.app[CONTEXT].database.reading() as conn:
        low, high = await _bounds(conn, span)
        if not is_newest_first:
            rows, following = await audit.list_audit(conn, max(after or 0, low), limit, wanted)
            is_over = following is not None and following + 1 >= high
        else:
            rows, following = await audit_search.search(
                conn, min(high, _LAST if before is None else before), wanted, limit
            )
            is_over = following is not None and following - 1 <= low
    return answer({"items": _views(rows, span), "next": None if following is None or is_over else str(following)})


async def _bounds(conn: Connection, span: tuple[datetime, datetime]) -> tuple[int, int]:
    """Between which ids (not included) rows of that time stand, and a few more."""
    since, until = span
    low = await audit.find_place(conn, since - _SLACK) - 1 if since > _NEVER + _SLACK else 0
    return low, await audit.find_place(conn, until + _SLACK) if until < _EVER - _SLACK else _LAST


def _views(rows: Sequence[Record], span: tuple[datetime, datetime]) -> list[dict[str, Any]]:
    return [
        {
            "id": str(row["id"]),
            "at": row["at"],
            "actor": row["actor"],
            "action": row["action"],
            "subject": row["subject"],
            "channel_id": public_id("chn", row["channel_id"]) if row["channel_id"] else None,
            "details": orjson.Fragment(row["details"]),
        }
        for row in rows
        if span[0] <= row["at"] < span[1]
    ]

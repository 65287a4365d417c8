"""The operator's view of what could not be taken in, and taking it in after all (rule B5)."""

import base64
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field, StringConstraints

from hub.actions.quarantine import replay_quarantined
from hub.actions.receive import Received
from hub.domain.errors import Conflict, NotFound
from hub.http.answers.quarantine import ManyReplayed, QuarantineEntries, QuarantineEntry, Replayed
from hub.http.auth import operator
from hub.http.context import CONTEXT, Context
from hub.http.operations import Body, operation
from hub.http.params import LIMIT, choice, integer, word, word_in_path
from hub.http.problems import answer
from hub.http.schemas import Model, read_optional
from hub.store import inbound
from hub.store.pool import Record, TryAgain

MOST: Final = 100
"""Entries that one call takes in at most."""
_ATTEMPTS: Final = 3
_AFTER: Final = integer("after", "the `next` of the page before", default=0)
_STATE: Final = choice(
    "state", "`open`: still to be taken in; `noted`: nothing was lost by it", ("open", "noted", "replayed")
)
_REASON: Final = word("reason", "why it could not be taken in, as `unknown_number`")
_ENTRY: Final = word_in_path("id", "the entry", "17", pattern="^[0-9]{1,18}$")

Code = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
EntryId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")]


class QuarantineReplayIn(Model):
    """Which entries to take in: all open ones that fit everything that is said here."""

    reason: Code | None = None
    provider: Code | None = None
    ids: list[EntryId] | None = Field(default=None, max_length=MOST)
    after: EntryId = "0"


def add_routes(app: web.Application) -> None:
    """Put these paths into the application."""
    for method, path, handler in (
        ("GET", "quarantine", list_quarantine),
        ("POST", "quarantine/replay", replay_quarantine),
        ("GET", "quarantine/{id:(?!replay$)[^/]+}", get_quarantined),
        ("POST", "quarantine/{id}/replay", replay_entry),
    ):
        app.router.add_route(method, f"/v1/admin/{path}", operator(handler))


@operation(query=(_STATE, _REASON, _AFTER, LIMIT), answers={200: QuarantineEntries})
async def list_quarantine(request: web.Request) -> web.Response:
    """What could not be taken in, and why. `state=open` leaves notes and replayed entries out."""
    state, reason = _STATE.find(request), _REASON.find(request)
    after, limit = _AFTER.read(request), LIMIT.read(request)
    async with request.app[CONTEXT].database.reading() as conn:
        rows = await inbound.list_quarantined(conn, after, limit, state, reason)
    items = [_view(row) for row in rows]
    return answer({"items": items, "next": str(rows[-1]["id"]) if len(rows) == limit else None})


@operation(path=(_ENTRY,), answers={200: QuarantineEntry})
async def get_quarantined(request: web.Request) -> web.Response:
    """One entry, with its bytes in base64."""
    async with request.app[CONTEXT].database.reading() as conn:
        row = await inbound.find_quarantined(conn, _entry_id(request))
    if row is None:
        raise NotFound("there is no such quarantine entry")
    return answer(_view(row))


def _view(row: Record) -> dict[str, Any]:
    view = {
        name: row[name]
        for name in ("provider", "path", "content_type", "reason", "detail", "state", "times", "received_at",
                     "last_received_at", "replayed_at")
    }  # fmt: skip
    raw = bytes(row["raw"])
    return {"id": str(row["id"]), **view, "raw": base64.b64encode(raw).decode()}


def _entry_id(request: web.Request) -> int:
    text = _ENTRY.read(request)
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise NotFound("there is no such quarantine entry")
    return int(text)


@operation(path=(_ENTRY,), answers={200: Replayed}, codes=("still_quarantined", "no_such_route"))
async def replay_entry(request: web.Request) -> web.Response:
    """Take an entry in after all, now that its number is registered or the parser knows better."""
    received = await take_in(request.app[CONTEXT], _entry_id(request))
    return answer({"taken": received.fresh, "duplicates": received.duplicates})


@operation(body=Body(QuarantineReplayIn, is_optional=True), answers={200: ManyReplayed})
async def replay_quarantine(request: web.Request) -> web.Response:
    """Take many in, the oldest first, each by itself. What still cannot be taken in stays, and harms no other."""
    context, asked = request.app[CONTEXT], QuarantineReplayIn.model_validate(await read_optional(request))
    ids = None if asked.ids is None else sorted({int(text) for text in asked.ids})
    async with context.database.reading() as conn:
        found = await inbound.list_open(conn, int(asked.after), MOST, asked.reason, asked.provider, ids)
    count: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for entry_id in found:
        try:
            received = await take_in(context, entry_id)
        except Conflict as refusal:
            count["still_quarantined"] += 1
            reasons.update(refusal.facts.get("reasons", [refusal.code]))
        else:
            count.update(replayed=1, taken=received.fresh, duplicates=received.duplicates)
    names = ("replayed", "taken", "duplicates", "still_quarantined")
    return answer({
        **{name: count[name] for name in names},
        "reasons": dict(sorted(reasons.items())),
        "skipped": [str(entry_id) for entry_id in ids or () if entry_id not in found],
        "next": str(found[-1]) if len(found) == MOST and ids is None else None,
    })  # fmt: skip


async def take_in(context: Context, entry_id: int) -> Received:
    """One entry, in a transaction of its own; again where it lost against what comes in meanwhile."""
    for attempt in range(_ATTEMPTS):
        try:
            async with context.database.transaction() as conn:
                received = await replay_quarantined(conn, context.parsers, entry_id, datetime.now(UTC))
            break
        except TryAgain:
            if attempt == _ATTEMPTS - 1:
                raise
    context.publish(received.events)
    return received
